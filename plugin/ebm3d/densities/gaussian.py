"""Independent Gaussian densities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.densities.density import Density, check_parameters, check_residuals
from ebm3d.devices import standard_normal

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class GaussianDensity(Density):
    r"""Independent Gaussians, one per residual.

    .. math::
        \log p(t) = -\tfrac12 \sum_d \left(\log 2\pi + s_d + (t_d - \mu_d)^2 e^{-s_d}\right),
        \quad s = \log \sigma^2

    docs/method.md, M-10.

    Attributes:
        location: means, ``(N, D)``.
        log_variance: s, ``(N, D)``.

    Raises:
        ValueError: if the shapes differ.
    """

    location: Tensor
    log_variance: Tensor

    def __post_init__(self) -> None:
        check_parameters("(N, D)", location=self.location, log_variance=self.log_variance)

    @property
    def point(self) -> Tensor:
        """The mean, ``(N, D)``."""
        return self.location

    @property
    def mean(self) -> Tensor:
        """``(N, D)``."""
        return self.location

    @property
    def variance(self) -> Tensor:
        """``(N, D)``."""
        return torch.exp(self.log_variance)

    def log_prob(self, residuals: Tensor) -> Tensor:
        """Log density; see :meth:`Density.log_prob`."""
        check_residuals(residuals, self.location)
        return log_normal(residuals, self.location, self.log_variance).sum(-1)

    def cdf(self, residuals: Tensor) -> Tensor:
        """Marginal distribution functions; see :meth:`Density.cdf`."""
        check_residuals(residuals, self.location)
        return normal_cdf(residuals, self.location, self.log_variance)

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples; see :meth:`Density.sample`."""
        normal = standard_normal((num_samples, *self.location.shape), self.location, generator)
        return self.location + torch.exp(self.log_variance / 2) * normal


def log_normal(values: Tensor, location: Tensor, log_variance: Tensor) -> Tensor:
    """Log density of one Gaussian per element.

    Args:
        values: where it is wanted, any shape.
        location: means, broadcast with ``values``.
        log_variance: logs of the variances, broadcast with ``values``.

    Returns:
        Nats, the broadcast shape. Finite as long as the square of the distance in standard
        deviations is.
    """
    # The distance is scaled before it is squared: a variance that underflows still counts.
    z = (values - location) * torch.exp(-log_variance / 2)
    return -0.5 * (_LOG_2PI + log_variance + z.square())


def normal_cdf(values: Tensor, location: Tensor, log_variance: Tensor) -> Tensor:
    """Distribution function of one Gaussian per element; arguments as :func:`log_normal`."""
    return torch.special.ndtr((values - location) * torch.exp(-log_variance / 2))
