"""Refiners: they see a callable from boxes to f, nothing else.

Shapes that do not fit, constants out of range and, in main memory, invalid boxes raise
``ValueError``.
"""

from ebm3d.refiners.ascent import Ascent, RefinementResult
from ebm3d.refiners.curvature import Expansion, expand_by_differences, expand_exactly
from ebm3d.refiners.gradient_ascent import GradientAscent
from ebm3d.refiners.langevin import langevin, sample_boxes
from ebm3d.refiners.laplace import (
    LaplaceApproximation,
    approximate_by_gaussian,
    laplace_approximation,
)
from ebm3d.refiners.posterior import BoxPosterior, box_posterior
from ebm3d.refiners.quasi_newton import QuasiNewtonAscent
from ebm3d.refiners.starts import StartSearch

__all__ = [
    "Ascent",
    "BoxPosterior",
    "Expansion",
    "GradientAscent",
    "LaplaceApproximation",
    "QuasiNewtonAscent",
    "RefinementResult",
    "StartSearch",
    "approximate_by_gaussian",
    "box_posterior",
    "expand_by_differences",
    "expand_exactly",
    "langevin",
    "laplace_approximation",
    "sample_boxes",
]
