"""A density widened about its point estimate: temperature scaling of the spread."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.densities.density import Density
from ebm3d.errors import input_error


@dataclass(frozen=True)
class RescaledDensity(Density):
    r"""Density of :math:`a + s\,(t - a)` for t of a base density with point estimate a.

    Attributes:
        base: the density of t.
        factors: s, ``(N, D)``, positive.
    """

    base: Density
    factors: Tensor

    @classmethod
    def of(cls, base: Density, factors: Tensor | float) -> RescaledDensity:
        """Widen all of a density's rows alike.

        Args:
            base: N densities.
            factors: ``(D,)`` or one number, positive.

        Returns:
            N densities.

        Raises:
            ValueError: if a factor is not positive and finite.
        """
        factor = torch.as_tensor(factors, dtype=base.point.dtype, device=base.point.device)
        if not bool((factor > 0).all() and torch.isfinite(factor).all()):
            raise input_error("factors", "positive and finite", factor.tolist())
        return cls(base, factor.expand_as(base.point).clone())

    @property
    def point(self) -> Tensor:
        """That of the base."""
        return self.base.point

    @property
    def mean(self) -> Tensor:
        """``(N, D)``."""
        return self.point + self.factors * (self.base.mean - self.point)

    @property
    def variance(self) -> Tensor:
        """``(N, D)``."""
        return self.base.variance * self.factors.square()

    @property
    def covariance(self) -> Tensor:
        """``(N, D, D)``."""
        return self.base.covariance * self.factors[..., None] * self.factors[..., None, :]

    def log_prob(self, residuals: Tensor) -> Tensor:
        """Log density; see :meth:`Density.log_prob`."""
        return self.base.log_prob(self._unscaled(residuals)) - torch.log(self.factors).sum(-1)

    def cdf(self, residuals: Tensor) -> Tensor:
        """Marginal distribution functions; see :meth:`Density.cdf`."""
        return self.base.cdf(self._unscaled(residuals))

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples; see :meth:`Density.sample`."""
        drawn = self.base.sample(num_samples, generator)
        return self.point + self.factors * (drawn - self.point)

    def _unscaled(self, residuals: Tensor) -> Tensor:
        """Residuals of the base."""
        return self.point + (residuals - self.point) / self.factors
