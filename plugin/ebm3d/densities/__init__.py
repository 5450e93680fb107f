"""Densities of residuals (Gaussian, Laplace, Huber, mixture, histogram), and of boxes.

Shapes that do not fit and constants out of range raise ``ValueError``.
"""

from ebm3d.densities.box_distribution import BoxDistribution
from ebm3d.densities.density import AffineDensity, Density
from ebm3d.densities.gaussian import (
    GaussianDensity,
    LaplaceDensity,
    MultivariateGaussianDensity,
    triangular_root,
)
from ebm3d.densities.histogram import HistogramDensity
from ebm3d.densities.huber import HuberDensity
from ebm3d.densities.mixture import MixtureDensity

__all__ = [
    "AffineDensity",
    "BoxDistribution",
    "Density",
    "GaussianDensity",
    "HistogramDensity",
    "HuberDensity",
    "LaplaceDensity",
    "MixtureDensity",
    "MultivariateGaussianDensity",
    "triangular_root",
]
