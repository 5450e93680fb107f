"""Densities of box residuals: Gaussian, Laplace, Huber, mixtures, histograms; and of boxes.

A density is also one that was widened, moved, or given the point estimate of a decoder.
"""

from ebm3d.densities.box_distribution import BoxDistribution
from ebm3d.densities.decoded import DecodedDensity
from ebm3d.densities.density import Density
from ebm3d.densities.gaussian import GaussianDensity
from ebm3d.densities.histogram import HistogramDensity
from ebm3d.densities.huber import HuberDensity
from ebm3d.densities.laplace import LaplaceDensity
from ebm3d.densities.mixture import IndependentMixtureDensity, MixtureDensity
from ebm3d.densities.multivariate_gaussian import MultivariateGaussianDensity, triangular_root
from ebm3d.densities.rescaled import RescaledDensity
from ebm3d.densities.translated import TranslatedDensity

__all__ = [
    "BoxDistribution",
    "DecodedDensity",
    "Density",
    "GaussianDensity",
    "HistogramDensity",
    "HuberDensity",
    "IndependentMixtureDensity",
    "LaplaceDensity",
    "MixtureDensity",
    "MultivariateGaussianDensity",
    "RescaledDensity",
    "TranslatedDensity",
    "triangular_root",
]
