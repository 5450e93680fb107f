"""Independent Laplace densities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.densities.density import Density, check_parameters, check_residuals
from ebm3d.devices import check_generator


@dataclass(frozen=True)
class LaplaceDensity(Density):
    r"""Independent Laplace densities, one per residual.

    .. math::
        \log p(t) = -\sum_d \left(\log 2 + s_d + |t_d - \mu_d|\, e^{-s_d}\right),
        \quad s = \log b

    docs/method.md, M-10.

    Attributes:
        location: medians, which are the means, ``(N, D)``.
        log_scale: s, ``(N, D)``; the variance is :math:`2 b^2`.

    Raises:
        ValueError: if the shapes differ.
    """

    location: Tensor
    log_scale: Tensor

    def __post_init__(self) -> None:
        check_parameters("(N, D)", location=self.location, log_scale=self.log_scale)

    @property
    def point(self) -> Tensor:
        """The median, which is the mean, ``(N, D)``."""
        return self.location

    @property
    def mean(self) -> Tensor:
        """``(N, D)``."""
        return self.location

    @property
    def variance(self) -> Tensor:
        """``(N, D)``."""
        return 2 * torch.exp(2 * self.log_scale)

    def log_prob(self, residuals: Tensor) -> Tensor:
        """Log density; see :meth:`Density.log_prob`."""
        check_residuals(residuals, self.location)
        distance = (residuals - self.location).abs() * torch.exp(-self.log_scale)
        return -(math.log(2) + self.log_scale + distance).sum(-1)

    def cdf(self, residuals: Tensor) -> Tensor:
        """Marginal distribution functions; see :meth:`Density.cdf`."""
        check_residuals(residuals, self.location)
        z = (residuals - self.location) * torch.exp(-self.log_scale)
        beyond = 0.5 * torch.exp(-z.abs())
        return torch.where(z < 0, beyond, 1 - beyond)

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples: differences of two exponentials; see :meth:`Density.sample`."""
        check_generator(generator, self.location)
        drawn = self.location.new_empty(2, num_samples, *self.location.shape)
        drawn.exponential_(generator=generator)
        return self.location + torch.exp(self.log_scale) * (drawn[0] - drawn[1])
