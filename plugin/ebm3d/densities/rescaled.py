"""A density widened about its point estimate: temperature scaling of the spread."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.densities.density import Density, check_residuals
from ebm3d.errors import can_read, check_positive, input_error, shape_error


@dataclass(frozen=True)
class RescaledDensity(Density):
    r"""Density of :math:`a + s\,(t - a)` for t of a base density with point estimate a.

    .. math:: \log p(u) = \log p_t\!\left(a + (u - a) / s\right) - \sum_d \log s_d

    docs/method.md, M-17.

    Attributes:
        base: the density of t.
        factors: s, ``(N, D)``, positive.

    Raises:
        ValueError: if there is not one row of factors per density.
    """

    base: Density
    factors: Tensor

    def __post_init__(self) -> None:
        if self.factors.ndim != 2 or len(self.factors) != len(self.base):
            raise shape_error("factors", f"({len(self.base)}, D)", self.factors)

    @classmethod
    def of(cls, base: Density, factors: Tensor | float) -> RescaledDensity:
        """Widen all of a density's rows alike.

        Args:
            base: N densities.
            factors: ``(D,)`` or one number, positive.

        Returns:
            N densities.

        Raises:
            ValueError: if a factor is not positive and finite, unless it is on another device, or
                their number is neither 1 nor D.
        """
        point = base.point
        if not isinstance(factors, Tensor):
            check_positive("factors", factors)
            return cls(base, torch.full_like(point, factors))
        if factors.shape not in ((), (1,), point.shape[1:]):
            raise shape_error("factors", f"(), or ({point.shape[1]},)", factors)
        if can_read(factors) and not bool(((factors > 0) & torch.isfinite(factors)).all()):
            raise input_error("factors", "positive and finite", factors.tolist())
        return cls(base, factors.to(point).expand_as(point).clone())

    @property
    def point(self) -> Tensor:
        """That of the base."""
        return self.base.point

    @property
    def mean(self) -> Tensor:
        """``(N, D)``."""
        point = self.point
        return point + self.factors * (self.base.mean - point)

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
        check_residuals(residuals, self.factors)
        return self.base.log_prob(self._unscaled(residuals)) - torch.log(self.factors).sum(-1)

    def cdf(self, residuals: Tensor) -> Tensor:
        """Marginal distribution functions; see :meth:`Density.cdf`."""
        check_residuals(residuals, self.factors)
        return self.base.cdf(self._unscaled(residuals))

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples; see :meth:`Density.sample`."""
        point = self.point
        return point + self.factors * (self.base.sample(num_samples, generator) - point)

    def _unscaled(self, residuals: Tensor) -> Tensor:
        """Residuals of the base."""
        point = self.point
        return point + (residuals - point) / self.factors
