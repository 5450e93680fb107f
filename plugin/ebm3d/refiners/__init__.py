"""Refiners: they see a callable from boxes to f, nothing else."""

from ebm3d.refiners.ascent import Ascent, BoxScorer, RefinementResult
from ebm3d.refiners.gradient_ascent import GradientAscent
from ebm3d.refiners.langevin import langevin
from ebm3d.refiners.quasi_newton import QuasiNewtonAscent

__all__ = [
    "Ascent",
    "BoxScorer",
    "GradientAscent",
    "QuasiNewtonAscent",
    "RefinementResult",
    "langevin",
]
