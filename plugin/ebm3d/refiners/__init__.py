"""Refiners: they see a callable from boxes to f, nothing else."""

from ebm3d.refiners.ascent import Ascent, BoxScorer, Modes, RefinementResult
from ebm3d.refiners.curvature import Expansion, expand_by_differences, expand_exactly
from ebm3d.refiners.gradient_ascent import GradientAscent
from ebm3d.refiners.langevin import langevin
from ebm3d.refiners.laplace import (
    LaplaceApproximation,
    approximate_by_gaussian,
    laplace_approximation,
)
from ebm3d.refiners.multi_start import MultiStart, weigh_modes
from ebm3d.refiners.quasi_newton import QuasiNewtonAscent
from ebm3d.refiners.sampling import sample_boxes

__all__ = [
    "Ascent",
    "BoxScorer",
    "Expansion",
    "GradientAscent",
    "LaplaceApproximation",
    "Modes",
    "MultiStart",
    "QuasiNewtonAscent",
    "RefinementResult",
    "approximate_by_gaussian",
    "expand_by_differences",
    "expand_exactly",
    "langevin",
    "laplace_approximation",
    "sample_boxes",
    "weigh_modes",
]
