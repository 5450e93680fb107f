"""A density whose point estimate comes from a decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.densities.density import Density
from ebm3d.errors import shape_error


@dataclass(frozen=True)
class DecodedDensity(Density):
    """A density with the point estimate of a decoder in place of its own.

    Attributes:
        base: N densities over D residuals.
        location: what was decoded, ``(N, D)``.

    Raises:
        ValueError: if the location has not one row for each of the base's.
    """

    base: Density
    location: Tensor

    def __post_init__(self) -> None:
        if self.location.ndim != 2 or len(self.location) != len(self.base):
            raise shape_error("location", f"({len(self.base)}, D)", self.location)

    @property
    def point(self) -> Tensor:
        """What was decoded."""
        return self.location

    @property
    def mean(self) -> Tensor:
        """That of the base."""
        return self.base.mean

    @property
    def variance(self) -> Tensor:
        """That of the base, about its mean."""
        return self.base.variance

    @property
    def covariance(self) -> Tensor:
        """That of the base, about its mean."""
        return self.base.covariance

    def log_prob(self, residuals: Tensor) -> Tensor:
        """That of the base; see :meth:`Density.log_prob`."""
        return self.base.log_prob(residuals)

    def cdf(self, residuals: Tensor) -> Tensor:
        """That of the base; see :meth:`Density.cdf`."""
        return self.base.cdf(residuals)

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw from the base; see :meth:`Density.sample`."""
        return self.base.sample(num_samples, generator)
