"""Gaussian densities of correlated residuals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from ebm3d.densities.density import Density, check_residuals
from ebm3d.densities.gaussian import normal_cdf
from ebm3d.devices import standard_normal
from ebm3d.errors import can_read, check_count, input_error, shape_error


@dataclass(frozen=True)
class MultivariateGaussianDensity(Density):
    r"""Gaussians of full covariance.

    .. math::
        \log p(t) = -\tfrac12 |z|^2 - \sum_d \log L_{dd} - \tfrac D2 \log 2\pi,
        \quad L z = t - \mu, \quad \Sigma = L L^\top

    docs/method.md, M-30. Built on ``torch.distributions.MultivariateNormal``.

    Attributes:
        location: means, ``(N, D)``.
        scale_tril: L, ``(N, D, D)``, lower triangular with a positive diagonal; what lies above
            the diagonal is not read.

    Raises:
        ValueError: if the shapes or types do not fit, or, in main memory, where looking waits for
            no device, a diagonal is not positive. NaN may be: the density of a box that has none.
    """

    location: Tensor
    scale_tril: Tensor

    def __post_init__(self) -> None:
        if self.location.ndim != 2:
            raise shape_error("location", "(N, D)", self.location)
        rows, columns = self.location.shape
        if self.scale_tril.shape != (rows, columns, columns):
            raise shape_error("scale_tril", f"({rows}, {columns}, {columns})", self.scale_tril)
        if self.location.dtype not in (torch.float32, torch.float64):
            raise input_error("location", "float32 or float64", self.location.dtype)
        if self.scale_tril.dtype != self.location.dtype:
            raise input_error("scale_tril", f"{self.location.dtype}", self.scale_tril.dtype)
        if not can_read(self.scale_tril):
            return
        diagonal = torch.diagonal(self.scale_tril, dim1=-2, dim2=-1)
        if bool((diagonal <= 0).any()):
            raise input_error("diagonal of scale_tril", "positive", float(diagonal.min()))

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
        return self._factor.square().sum(dim=-1)

    @property
    def covariance(self) -> Tensor:
        """``(N, D, D)``."""
        return self._factor @ self._factor.transpose(-1, -2)

    def log_prob(self, residuals: Tensor) -> Tensor:
        """Log density; see :meth:`Density.log_prob`."""
        check_residuals(residuals, self.location)
        if residuals.numel() == 0:  # which torch's distribution does not know
            return residuals.new_zeros(residuals.shape[:-1])
        normal = MultivariateNormal(self.location, scale_tril=self._factor, validate_args=False)
        return normal.log_prob(residuals)

    def cdf(self, residuals: Tensor) -> Tensor:
        """Marginal distribution functions; see :meth:`Density.cdf`."""
        check_residuals(residuals, self.location)
        return normal_cdf(residuals, self.location, torch.log(self.variance))

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples; see :meth:`Density.sample`."""
        check_count("num_samples", num_samples, least=0)
        normal = standard_normal((num_samples, *self.location.shape), self.location, generator)
        return self.location + torch.einsum("nij,knj->kni", self._factor, normal)

    @property
    def _factor(self) -> Tensor:
        """L without what lies above the diagonal."""
        return torch.tril(self.scale_tril)


def triangular_root(root: Tensor) -> Tensor:
    """Lower triangular L of positive diagonal with L L' = R R'.

    Args:
        root: R, ``(..., D, D)`` of full rank, such as eigenvectors times standard deviations.

    Returns:
        L, ``(..., D, D)``: unlike a Cholesky factor of the product it keeps the digits of R.
    """
    _, upper = torch.linalg.qr(root.transpose(-1, -2))
    signs = torch.diagonal(upper, dim1=-2, dim2=-1).sign()
    return (signs[..., None] * upper).transpose(-1, -2)
