"""Gaussian and Laplace densities of independent residuals, and Gaussians of full covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from ebm3d.densities.density import SymmetricDensity, check_axes, check_shape
from ebm3d.devices import check_generator, standard_normal
from ebm3d.errors import can_read, input_error

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class GaussianDensity(SymmetricDensity):
    r"""Independent Gaussians.

    .. math::
        \log p(t) = -\tfrac12 \sum_d \left(\log 2\pi + s_d + (t_d - \mu_d)^2 e^{-s_d}\right),
        \quad s = \log \sigma^2

    with means and s ``(N, D)``. docs/method.md, M-10.
    """

    log_variance: Tensor

    @property
    def variance(self) -> Tensor:
        """``(N, D)``."""
        return torch.exp(self.log_variance)

    def _log_prob(self, residuals: Tensor) -> Tensor:
        return log_normal(residuals, self.location[:, None], self.log_variance[:, None]).sum(-1)

    def _cdf(self, residuals: Tensor) -> Tensor:
        return normal_cdf(residuals, self.location[:, None], self.log_variance[:, None])

    def _sample(self, num_samples: int, generator: torch.Generator | None) -> Tensor:
        normal = standard_normal((num_samples, *self.location.shape), self.location, generator)
        return self.location + torch.exp(self.log_variance / 2) * normal


@dataclass(frozen=True)
class LaplaceDensity(SymmetricDensity):
    r"""Independent Laplace densities.

    .. math::
        \log p(t) = -\sum_d \left(\log 2 + s_d + |t_d - \mu_d|\, e^{-s_d}\right),
        \quad s = \log b

    with medians and s ``(N, D)``. docs/method.md, M-10.
    """

    log_scale: Tensor

    @property
    def variance(self) -> Tensor:
        """``(N, D)``: 2 b^2."""
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


@dataclass(frozen=True)
class MultivariateGaussianDensity(SymmetricDensity):
    r"""Gaussians of full covariance.

    .. math::
        \log p(t) = -\tfrac12 |z|^2 - \sum_d \log L_{dd} - \tfrac D2 \log 2\pi,
        \quad L z = t - \mu, \quad \Sigma = L L^\top

    docs/method.md, M-30.

    Args:
        location: means, ``(N, D)``, float32 or float64.
        scale_tril: L, ``(N, D, D)``, of positive diagonal; only its lower triangle is read. NaN for
            a box without a density.
    """

    scale_tril: Tensor

    def __post_init__(self) -> None:
        check_axes("location", self.location, "(N, D)")
        check_shape("scale_tril", self.scale_tril, (*self.location.shape, self.location.shape[1]))
        if self.location.dtype not in (torch.float32, torch.float64):
            raise input_error("location", "float32 or float64", self.location.dtype)
        if self.scale_tril.dtype != self.location.dtype:
            raise input_error("scale_tril", f"{self.location.dtype}", self.scale_tril.dtype)
        diagonal = torch.diagonal(self.scale_tril, dim1=-2, dim2=-1)
        if can_read(diagonal) and bool((diagonal <= 0).any()):
            raise input_error("diagonal of scale_tril", "positive", float(diagonal.min()))

    @property
    def variance(self) -> Tensor:
        """``(N, D)``."""
        return self._factor.square().sum(dim=-1)

    @property
    def covariance(self) -> Tensor:
        """``(N, D, D)``."""
        return self._factor @ self._factor.transpose(-1, -2)

    def _log_prob(self, residuals: Tensor) -> Tensor:
        if residuals.numel() == 0:  # which MultivariateNormal divides by
            return residuals.new_zeros(residuals.shape[:-1])
        parts = {"loc": self.location[:, None], "scale_tril": self._factor[:, None]}
        return MultivariateNormal(**parts, validate_args=False).log_prob(residuals)

    def _cdf(self, residuals: Tensor) -> Tensor:
        return normal_cdf(residuals, self.location[:, None], torch.log(self.variance)[:, None])

    def _sample(self, num_samples: int, generator: torch.Generator | None) -> Tensor:
        normal = standard_normal((num_samples, *self.location.shape), self.location, generator)
        return self.location + torch.einsum("nij,snj->sni", self._factor, normal)

    @property
    def _factor(self) -> Tensor:
        """L without what lies above the diagonal."""
        return torch.tril(self.scale_tril)


def log_normal(values: Tensor, location: Tensor, log_variance: Tensor) -> Tensor:
    """Log density of one Gaussian per element, nats; the arguments broadcast."""
    # The distance is scaled before it is squared: a variance that underflows still counts.
    z = (values - location) * torch.exp(-log_variance / 2)
    return -0.5 * (_LOG_2PI + log_variance + z.square())


def normal_cdf(values: Tensor, location: Tensor, log_variance: Tensor) -> Tensor:
    """Distribution function of one Gaussian per element; the arguments broadcast."""
    return torch.special.ndtr((values - location) * torch.exp(-log_variance / 2))


def triangular_root(root: Tensor) -> Tensor:
    """Lower triangular L of positive diagonal with L L' = R R', R ``(..., D, D)`` of full rank.

    Unlike a Cholesky factor of R R', L keeps the digits of R.
    """
    _, upper = torch.linalg.qr(root.transpose(-1, -2))
    signs = torch.diagonal(upper, dim1=-2, dim2=-1).sign()
    return (signs[..., None] * upper).transpose(-1, -2)
