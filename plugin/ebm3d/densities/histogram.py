"""Densities over quantized residuals: a mass per level, spread over the level's bin."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.densities.density import Density
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

    The bin of level j of residual d has width w and center :math:`l_d + j w_d`; c is the center of
    the range from l to u. Differentiable in the masses; in the residuals only through the Gaussian.
    docs/method.md, M-12.

    Args:
        log_masses: log P, normalized over the levels (``log_softmax``), ``(N, D, L)``.
        lower: l, the first level of each residual.
        upper: u, the last level of each residual.
        tail_weight: tau, between 0 and 1.
    """

    log_masses: Tensor
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    tail_weight: float = 1e-3

    def __post_init__(self) -> None:
        if self.log_masses.ndim != 3 or self.log_masses.shape[2] < 2:
            raise shape_error("log_masses", "(N, D, L) with at least 2 levels", self.log_masses)
        for name, limits in (("lower", self.lower), ("upper", self.upper)):
            if len(limits) != self.num_residuals:
                raise input_error(name, f"{self.num_residuals} numbers, one per residual", limits)

    @property
    def num_residuals(self) -> int:
        """D."""
        return self.log_masses.shape[1]

    @property
    def point(self) -> Tensor:
        """``(N, D)``: the expected level, without the wide Gaussian."""
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

    def _log_prob(self, residuals: Tensor) -> Tensor:
        _, center, width, tail_log_variance = self._range()
        position, bins = self._bins(residuals)
        inside = (position >= 0) & (position < self.log_masses.shape[2])
        masses = _at(self.log_masses, bins) - torch.log(width) + math.log1p(-self.tail_weight)
        masses = torch.where(inside, masses, -math.inf)
        tail = log_normal(residuals, center, tail_log_variance)
        return torch.logaddexp(masses, tail + math.log(self.tail_weight)).sum(-1)

    def _cdf(self, residuals: Tensor) -> Tensor:
        _, center, _, tail_log_variance = self._range()
        position, bins = self._bins(residuals)
        share = position.clamp(0, self.log_masses.shape[2]) - bins
        masses = self.log_masses.exp()
        before = _at(torch.cumsum(masses, dim=-1) - masses, bins)
        inside = (before + _at(masses, bins) * share).clamp_max(1)
        tail = normal_cdf(residuals, center, tail_log_variance)
        return torch.lerp(inside, tail, self.tail_weight)

    def _sample(self, num_samples: int, generator: torch.Generator | None) -> Tensor:
        # A bin and a place in it, or from the Gaussian.
        low, center, width, tail_log_variance = (row[:, None] for row in self._range())
        rows, columns, levels = self.log_masses.shape
        shape = (rows, columns, num_samples)
        chances = uniform((3, *shape), low, generator)
        cumulated = torch.cumsum(self.log_masses.exp(), dim=-1).contiguous()
        wanted = chances[0] * cumulated[..., -1:]
        bins = torch.searchsorted(cumulated, wanted, right=True).clamp_max(levels - 1)
        inside = low + width * (bins + chances[1] - 0.5)
        normal = standard_normal(shape, low, generator)
        tail = center + torch.exp(tail_log_variance / 2) * normal
        return torch.where(chances[2] < self.tail_weight, tail, inside).permute(2, 0, 1)

    def _range(self) -> Tensor:
        """First level, center, width of a bin, log variance of the wide Gaussian: ``(4, D)``."""
        ends = list(zip(self.lower, self.upper, strict=True))
        rows = (
            tuple(self.lower),
            tuple((low + high) / 2 for low, high in ends),
            tuple((high - low) / (self.log_masses.shape[2] - 1) for low, high in ends),
            tuple(2 * math.log(high - low) for low, high in ends),
        )
        return constant(rows, self.log_masses)

    def _steps(self) -> Tensor:
        """Numbers of the levels, ``(L,)``."""
        like = self.log_masses
        return torch.arange(like.shape[2], dtype=like.dtype, device=like.device)

    def _bins(self, residuals: Tensor) -> tuple[Tensor, Tensor]:
        """Positions in bins from the left edge of the first, and indices of the nearest bins."""
        low, _, width, _ = self._range()
        position = (residuals - low) / width + 0.5
        # NaN has no index, and on a GPU a wrong one ends the process; the position keeps it NaN.
        known = torch.nan_to_num(position.detach(), nan=0.0)
        return position, known.clamp(0, self.log_masses.shape[2] - 1).long()


def _at(table: Tensor, bins: Tensor) -> Tensor:
    """Entries ``(N, S, D)`` of a table ``(N, D, L)``."""
    return torch.take_along_dim(table[:, None], bins[..., None], dim=-1)[..., 0]
