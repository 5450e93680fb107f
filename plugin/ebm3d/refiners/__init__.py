"""Refiners: they see a callable from boxes to f, nothing else."""

from ebm3d.refiners.gradient_ascent import BoxScorer, GradientAscent, RefinementResult
from ebm3d.refiners.langevin import langevin

__all__ = ["BoxScorer", "GradientAscent", "RefinementResult", "langevin"]
