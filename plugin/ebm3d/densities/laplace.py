"""Independent Laplace densities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.densities.density import SymmetricDensity
from ebm3d.devices import check_generator


@dataclass(frozen=True)
class LaplaceDensity(SymmetricDensity):
    r"""Independent Laplace densities.

    .. math::
        \log p(t) = -\sum_d \left(\log 2 + s_d + |t_d - \mu_d|\, e^{-s_d}\right),
        \quad s = \log b

    docs/method.md, M-10.

    Args:
        location: medians, ``(N, D)``.
        log_scale: s, ``(N, D)``; the variance is :math:`2 b^2`.
    """

    log_scale: Tensor

    @property
    def variance(self) -> Tensor:
        """``(N, D)``."""
        return 2 * torch.exp(2 * self.log_scale)

    def _log_prob(self, residuals: Tensor) -> Tensor:
        distance = self._standardized(residuals).abs()
        return -(math.log(2) + self.log_scale[:, None] + distance).sum(-1)

    def _cdf(self, residuals: Tensor) -> Tensor:
        z = self._standardized(residuals)
        beyond = 0.5 * torch.exp(-z.abs())
        return torch.where(z < 0, beyond, 1 - beyond)

    def _sample(self, num_samples: int, generator: torch.Generator | None) -> Tensor:
        # The difference of two exponential variables.
        check_generator(generator, self.location)
        drawn = self.location.new_empty(2, num_samples, *self.location.shape)
        drawn.exponential_(generator=generator)
        return self.location + torch.exp(self.log_scale) * (drawn[0] - drawn[1])

    def _standardized(self, residuals: Tensor) -> Tensor:
        """Distances from the medians in scales b."""
        return (residuals - self.location[:, None]) * torch.exp(-self.log_scale)[:, None]
