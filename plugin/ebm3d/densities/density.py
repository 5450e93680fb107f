"""Densities of residuals: N boxes, one density each; S samples; D residuals (of boxes 7 or 9)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.errors import can_read, input_error, shape_error
from ebm3d.records import TensorRecord


class Density(TensorRecord, ABC):
    """N normalized densities over D residuals; a frozen dataclass of tensors with N rows."""

    @property
    @abstractmethod
    def point(self) -> Tensor:
        """Point estimates ``(N, D)``."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """``(N, D)``."""

    @property
    @abstractmethod
    def variance(self) -> Tensor:
        """``(N, D)``."""

    @property
    def covariance(self) -> Tensor:
        """``(N, D, D)``."""
        return torch.diag_embed(self.variance)

    @property
    def num_residuals(self) -> int:
        """D."""
        return self.point.shape[1]

    def log_prob(self, residuals: Tensor) -> Tensor:
        """Log densities, nats: ``(N,)`` at residuals ``(N, D)``, ``(N, S)`` at ``(N, S, D)``."""
        return self._evaluate(self._log_prob, residuals)

    def cdf(self, residuals: Tensor) -> Tensor:
        """Marginal distribution functions at residuals ``(N, D)`` or ``(N, S, D)``, same shape."""
        return self._evaluate(self._cdf, residuals)

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw residuals ``(N, S, D)``; no graph. The generator is on the density's device."""
        return self._sample(num_samples, generator).transpose(0, 1)

    def rescaled(self, factors: Tensor | float) -> AffineDensity:
        """Widen by factors, ``()`` or ``(D,)``, about the point estimates. docs/method.md, M-17."""
        point = self.point
        factors = torch.as_tensor(factors, dtype=point.dtype)
        if factors.shape not in ((), point.shape[1:]):
            raise shape_error("factors", f"() or ({point.shape[1]},)", factors)
        if can_read(factors) and not bool(((factors > 0) & torch.isfinite(factors)).all()):
            raise input_error("factors", "positive and finite", factors.tolist())
        return AffineDensity(self, point, factors.to(point.device).expand_as(point), point)

    def translated(self, offset: Tensor) -> AffineDensity:
        """Move densities and point estimates by ``(N, D)``."""
        point = self.point
        return AffineDensity(self, point, torch.ones_like(point), point + offset)

    def with_point(self, point: Tensor) -> AffineDensity:
        """Replace the point estimates by ``(N, D)``, those of a decoder; the densities stay."""
        return AffineDensity(self, point, torch.ones_like(point), point)

    @abstractmethod
    def _log_prob(self, residuals: Tensor) -> Tensor:
        """``(N, S)`` at ``(N, S, D)``."""

    @abstractmethod
    def _cdf(self, residuals: Tensor) -> Tensor:
        """``(N, S, D)`` at ``(N, S, D)``."""

    @abstractmethod
    def _sample(self, num_samples: int, generator: torch.Generator | None) -> Tensor:
        """``(S, N, D)``: random numbers are drawn for one sample of all boxes after the other."""

    def _evaluate(self, function: Callable[[Tensor], Tensor], residuals: Tensor) -> Tensor:
        """Check residuals and evaluate them as ``(N, S, D)``."""
        rows, columns = len(self), self.num_residuals
        if residuals.ndim not in (2, 3) or (len(residuals), residuals.shape[-1]) != (rows, columns):
            expected = f"({rows}, {columns}) or ({rows}, S, {columns})"
            raise shape_error("residuals", expected, residuals)
        return function(residuals[:, None])[:, 0] if residuals.ndim == 2 else function(residuals)


@dataclass(frozen=True)
class AffineDensity(Density):
    r"""Density of :math:`b + s\,(t - a)` for t of a base density.

    .. math:: \log p(u) = \log p_t\!\left(a + (u - b) / s\right) - \sum_d \log s_d

    with ``center`` a, ``factors`` s > 0 and ``location`` b, the point estimates, ``(N, D)``.
    """

    base: Density
    center: Tensor
    factors: Tensor
    location: Tensor

    def __post_init__(self) -> None:
        shape = (len(self.base), self.base.num_residuals)
        for name in ("center", "factors", "location"):
            check_shape(name, getattr(self, name), shape)

    @property
    def point(self) -> Tensor:
        """``(N, D)``."""
        return self.location

    @property
    def mean(self) -> Tensor:
        """``(N, D)``."""
        return self.location + self.factors * (self.base.mean - self.center)

    @property
    def variance(self) -> Tensor:
        """``(N, D)``."""
        return self.base.variance * self.factors.square()

    @property
    def covariance(self) -> Tensor:
        """``(N, D, D)``."""
        return self.base.covariance * self.factors[..., None] * self.factors[..., None, :]

    def _log_prob(self, residuals: Tensor) -> Tensor:
        log_volume = torch.log(self.factors).sum(-1)
        return self.base.log_prob(self._of_base(residuals)) - log_volume[:, None]

    def _cdf(self, residuals: Tensor) -> Tensor:
        return self.base.cdf(self._of_base(residuals))

    def _sample(self, num_samples: int, generator: torch.Generator | None) -> Tensor:
        residuals = self.base._sample(num_samples, generator)
        return self.location + self.factors * (residuals - self.center)

    def _of_base(self, residuals: Tensor) -> Tensor:
        """t of ``(N, S, D)``."""
        offset = (residuals - self.location[:, None]) / self.factors[:, None]
        return self.center[:, None] + offset


@dataclass(frozen=True)
class SymmetricDensity(Density):
    """Densities symmetric about ``location`` ``(N, D)``: the mean and the point estimate."""

    location: Tensor

    def __post_init__(self) -> None:
        check_axes("location", self.location, "(N, D)")
        for name, value in self._columns():
            check_shape(name, value, self.location.shape)

    @property
    def point(self) -> Tensor:
        """``(N, D)``."""
        return self.location

    @property
    def mean(self) -> Tensor:
        """``(N, D)``."""
        return self.location


def check_axes(name: str, value: Tensor, axes: str) -> None:
    """Raise unless a tensor has axes such as ``"(N, D)"``."""
    if value.ndim != axes.count(",") + 1:
        raise shape_error(name, axes, value)


def check_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    """Raise unless a tensor has a shape."""
    if value.shape != shape:
        raise shape_error(name, f"{tuple(shape)}", value)
