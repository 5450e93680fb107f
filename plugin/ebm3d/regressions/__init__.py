"""Box regressions: what the last layer's outputs mean, and how they learn it."""

from ebm3d.regressions.base import NUM_RESIDUALS, BoxRegression

__all__ = ["NUM_RESIDUALS", "BoxRegression"]
