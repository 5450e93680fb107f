"""Refiners: they see a callable from boxes to f, nothing else."""

from ebm3d.refiners.gradient_ascent import BoxScorer, GradientAscent, RefinementResult

__all__ = ["BoxScorer", "GradientAscent", "RefinementResult"]
