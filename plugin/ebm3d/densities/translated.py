"""A density moved as it is: what voting does to the density of a box."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.densities.density import Density, check_residuals
from ebm3d.errors import shape_error


@dataclass(frozen=True)
class TranslatedDensity(Density):
    """Density of t + offset for t of a base density.

    Attributes:
        base: the density of t.
        offset: ``(N, D)``.

    Raises:
        ValueError: if the offset has not one row for each of the base's.
    """

    base: Density
    offset: Tensor

    def __post_init__(self) -> None:
        if self.offset.shape != self.base.point.shape:
            raise shape_error("offset", str(tuple(self.base.point.shape)), self.offset)

    @property
    def point(self) -> Tensor:
        """That of the base, moved, ``(N, D)``."""
        return self.base.point + self.offset

    @property
    def mean(self) -> Tensor:
        """``(N, D)``."""
        return self.base.mean + self.offset

    @property
    def variance(self) -> Tensor:
        """``(N, D)``."""
        return self.base.variance

    @property
    def covariance(self) -> Tensor:
        """``(N, D, D)``."""
        return self.base.covariance

    def log_prob(self, residuals: Tensor) -> Tensor:
        """Log density; see :meth:`Density.log_prob`."""
        check_residuals(residuals, self.offset)
        return self.base.log_prob(residuals - self.offset)

    def cdf(self, residuals: Tensor) -> Tensor:
        """Marginal distribution functions; see :meth:`Density.cdf`."""
        check_residuals(residuals, self.offset)
        return self.base.cdf(residuals - self.offset)

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples; see :meth:`Density.sample`."""
        return self.base.sample(num_samples, generator) + self.offset
