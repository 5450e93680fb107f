"""Densities over quantized residuals: a mass per level, spread over the level's bin.

N boxes; D residuals; L levels per residual; K samples.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.densities.density import Density, check_residuals
from ebm3d.densities.gaussian import log_normal, normal_cdf
from ebm3d.devices import constant, standard_normal, uniform
from ebm3d.errors import input_error, shape_error


@dataclass(frozen=True)
class HistogramDensity(Density):
    r"""Independent histograms, mixed with a wide Gaussian so that no target has zero density.

    .. math::
        p(t) = \prod_d \left[(1 - \tau) \frac{P_{d, j(t_d)}}{w_d}
        + \tau\, \mathcal N\!\left(t_d;\, c_d,\, (u_d - l_d)^2\right)\right], \qquad
        w_d = \frac{u_d - l_d}{L - 1}

    Level j of residual d lies at :math:`l_d + j w_d` and owns the bin of width w around it; c is
    the center of the range from l to u. Differentiable in the masses; in the residuals only through
    the Gaussian, as a histogram is flat within its bins. docs/method.md, M-12.

    Attributes:
        log_masses: log P, normalized over the levels (``log_softmax``), ``(N, D, L)``.
        lower: the first level of each residual.
        upper: the last level of each residual.
        tail_weight: tau, between 0 and 1.

    Raises:
        ValueError: for a wrong shape, fewer than two levels, a range that is empty or of another
            length than D, or a tail weight outside (0, 1).
    """

    log_masses: Tensor
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    tail_weight: float = 1e-3

    def __post_init__(self) -> None:
        if self.log_masses.ndim != 3 or self.log_masses.shape[2] < 2:
            raise shape_error("log_masses", "(N, D, L) with at least 2 levels", self.log_masses)
        for name, limits in (("lower", self.lower), ("upper", self.upper)):
            if len(limits) != self.log_masses.shape[1]:
                raise input_error(
                    name, f"{self.log_masses.shape[1]} numbers, one per residual", limits
                )
        for d, (low, high) in enumerate(zip(self.lower, self.upper, strict=True)):
            if not -math.inf < low < high < math.inf:
                raise input_error("lower", "finite and below upper", f"{low} and {high} at {d}")
        if not 0 < self.tail_weight < 1:
            raise input_error("tail_weight", "between 0 and 1, both excluded", self.tail_weight)

    @property
    def point(self) -> Tensor:
        """The expected level, ``(N, D)``; without the wide Gaussian."""
        low, _, width, _ = self._range()
        return low + width * (self.log_masses.exp() * self._steps()).sum(-1)

    @property
    def mean(self) -> Tensor:
        """``(N, D)``, of the whole density."""
        _, center, _, _ = self._range()
        return torch.lerp(self.point, center, self.tail_weight)

    @property
    def variance(self) -> Tensor:
        """``(N, D)``, of the whole density."""
        low, center, width, tail_log_variance = self._range()
        point, mean = self.point, self.mean
        levels = low[:, None] + width[:, None] * self._steps()
        spread = (self.log_masses.exp() * (levels - point[..., None]).square()).sum(-1)
        inside = spread + width.square() / 12 + (point - mean).square()
        tail = torch.exp(tail_log_variance) + (center - mean).square()
        return torch.lerp(inside, tail, self.tail_weight)

    def log_prob(self, residuals: Tensor) -> Tensor:
        """Log density; see :meth:`Density.log_prob`."""
        check_residuals(residuals, self.log_masses[..., 0])
        _, center, width, tail_log_variance = self._range()
        position = self._position(residuals)
        bins = self._bins(position)
        inside = (position >= 0) & (position < self.log_masses.shape[2])
        masses = _at(self.log_masses, bins) - torch.log(width) + math.log1p(-self.tail_weight)
        masses = torch.where(inside, masses, -math.inf)
        tail = log_normal(residuals, center, tail_log_variance)
        return torch.logaddexp(masses, tail + math.log(self.tail_weight)).sum(-1)

    def cdf(self, residuals: Tensor) -> Tensor:
        """Marginal distribution functions; see :meth:`Density.cdf`."""
        check_residuals(residuals, self.log_masses[..., 0])
        _, center, _, tail_log_variance = self._range()
        position = self._position(residuals).clamp(0, self.log_masses.shape[2])
        bins = self._bins(position)
        masses = self.log_masses.exp()
        before = _at(torch.cumsum(masses, dim=-1) - masses, bins)
        inside = (before + _at(masses, bins) * (position - bins)).clamp_max(1)
        tail = normal_cdf(residuals, center, tail_log_variance)
        return torch.lerp(inside, tail, self.tail_weight)

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw a bin, a place in it, or from the Gaussian; see :meth:`Density.sample`."""
        low, center, width, tail_log_variance = self._range()
        rows, columns, levels = self.log_masses.shape
        shape = (rows, columns, num_samples)
        chances = uniform((3, *shape), width, generator)
        cumulated = torch.cumsum(self.log_masses.exp(), dim=-1).contiguous()
        wanted = chances[0] * cumulated[..., -1:]
        bins = torch.searchsorted(cumulated, wanted, right=True).clamp_max(levels - 1)
        places = low[:, None] + width[:, None] * (bins + chances[1] - 0.5)
        normal = standard_normal(shape, width, generator)
        spread = torch.exp(tail_log_variance / 2)
        tail = center[:, None] + spread[:, None] * normal
        drawn = torch.where(chances[2] < self.tail_weight, tail, places)
        return drawn.permute(2, 0, 1).contiguous()

    def _range(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """First level, center, width of a bin, log variance of the wide Gaussian, ``(D,)`` each."""
        like = self.log_masses
        rows = _range_of(tuple(self.lower), tuple(self.upper), like.shape[2])
        low, center, width, tail_log_variance = constant(rows, like)
        return low, center, width, tail_log_variance

    def _steps(self) -> Tensor:
        """Numbers of the levels, ``(L,)``."""
        like = self.log_masses
        return torch.arange(like.shape[2], dtype=like.dtype, device=like.device)

    def _position(self, residuals: Tensor) -> Tensor:
        """Residuals in bins from the left edge of the first one."""
        low, _, width, _ = self._range()
        return (residuals - low) / width + 0.5

    def _bins(self, position: Tensor) -> Tensor:
        """Indices of the bins, the outermost for what lies beyond them."""
        # NaN has no index, and on a GPU a wrong one ends the process; the position keeps it NaN.
        known = torch.nan_to_num(position.detach(), nan=0.0)
        return known.clamp(0, self.log_masses.shape[2] - 1).long()


def _at(table: Tensor, bins: Tensor) -> Tensor:
    """Entries ``(..., N, D)`` of a table ``(N, D, L)``."""
    expanded = table.expand(*bins.shape, table.shape[-1])
    return expanded.gather(-1, bins[..., None])[..., 0]


@functools.lru_cache(maxsize=64)
def _range_of(
    lower: tuple[float, ...], upper: tuple[float, ...], num_levels: int
) -> tuple[tuple[float, ...], ...]:
    """The rows of ``HistogramDensity._range``."""
    extents = [high - low for low, high in zip(lower, upper, strict=True)]
    centers = tuple((low + high) / 2 for low, high in zip(lower, upper, strict=True))
    widths = tuple(extent / (num_levels - 1) for extent in extents)
    return tuple(lower), centers, widths, tuple(2 * math.log(extent) for extent in extents)
