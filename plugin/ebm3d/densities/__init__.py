"""Densities of box residuals: Gaussian, Laplace, Huber, mixtures, histograms; and of boxes."""

from ebm3d.densities.box_distribution import BoxDistribution
from ebm3d.densities.density import Density

__all__ = ["BoxDistribution", "Density"]
