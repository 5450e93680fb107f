"""Box regressions: what the last layer's outputs mean, and how they learn it.

Shapes that do not fit and options out of range raise ``ValueError``.
"""

from ebm3d.regressions.base import NUM_RESIDUALS, BoxRegression
from ebm3d.regressions.bel import BELBoxRegression
from ebm3d.regressions.binned import BinnedBoxRegression
from ebm3d.regressions.direct import DirectBoxRegression
from ebm3d.regressions.likelihoods import GaussianBoxRegression, LaplaceBoxRegression
from ebm3d.regressions.propel import PROPELBoxRegression
from ebm3d.regressions.rlel import RLELBoxRegression

__all__ = [
    "NUM_RESIDUALS",
    "BELBoxRegression",
    "BinnedBoxRegression",
    "BoxRegression",
    "DirectBoxRegression",
    "GaussianBoxRegression",
    "LaplaceBoxRegression",
    "PROPELBoxRegression",
    "RLELBoxRegression",
]
