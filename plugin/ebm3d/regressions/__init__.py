"""Box regressions: what the last layer's outputs mean, and how they learn it."""

from ebm3d.regressions.base import NUM_RESIDUALS, BoxRegression
from ebm3d.regressions.direct import DirectBoxRegression
from ebm3d.regressions.gaussian import GaussianBoxRegression
from ebm3d.regressions.laplace import LaplaceBoxRegression
from ebm3d.regressions.propel import PROPELBoxRegression

__all__ = [
    "NUM_RESIDUALS",
    "BoxRegression",
    "DirectBoxRegression",
    "GaussianBoxRegression",
    "LaplaceBoxRegression",
    "PROPELBoxRegression",
]
