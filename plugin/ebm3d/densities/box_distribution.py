"""Densities of boxes: a density of residuals, and the coding that turns residuals into boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ebm3d.boxes.codings import BoxCoding, rows_like
from ebm3d.densities.density import Density
from ebm3d.devices import constant
from ebm3d.errors import check_positive, input_error
from ebm3d.records import TensorRecord


@dataclass(frozen=True)
class BoxDistribution(TensorRecord):
    r"""Densities of N boxes of D columns over meters, radians and m/s.

    .. math::
        p(y) = \left|\det \partial t/\partial y\right|
        \sum_{k=-1}^{1} p_t\Big(t(y) + k\,\frac{P}{u_\theta}\,e_\theta\Big)

    with the residuals t of the coding, the period P of the yaw and the radians :math:`u_\theta`
    per unit of its residual; the sum runs over the images of the yaw, so that the density over one
    period integrates to one. docs/method.md, M-8. The period is 2 pi, or pi for a density of the
    axis alone, where a direction classifier decides between the two headings.
    """

    density: Density
    coding: BoxCoding
    yaw_period: float = 2 * math.pi

    def __post_init__(self) -> None:
        if len(self.density) != len(self.coding):
            expected = f"of {len(self.density)} references, one per density"
            raise input_error("coding", expected, len(self.coding))
        check_positive("yaw_period", self.yaw_period)

    @property
    def boxes(self) -> Tensor:
        """The point estimates ``(N, D)``, yaw in (-pi, pi]."""
        return self.coding.decode(self.density.point)

    @property
    def covariance(self) -> Tensor:
        """Covariance of the boxes ``(N, D, D)``, LiDAR axes, to first order at the point."""
        jacobian = self.coding.jacobian(self.density.point)
        return jacobian @ self.density.covariance @ jacobian.transpose(-1, -2)

    @property
    def std(self) -> Tensor:
        """Standard deviation of each dimension ``(N, D)``."""
        return torch.diagonal(self.covariance, dim1=-2, dim2=-1).clamp_min(0).sqrt()

    def residuals(self, boxes: Tensor) -> Tensor:
        """Residuals of boxes ``(N, D)`` or ``(N, S, D)``, yaw the image nearest to the point's."""
        residuals = self.coding.encode(boxes)
        period = rows_like(self.yaw_period / self.coding.yaw_unit, residuals[..., 6])
        point = rows_like(self.density.point[:, 6], residuals[..., 6])
        yaw = residuals[..., 6] - torch.round((residuals[..., 6] - point) / period) * period
        return torch.cat((residuals[..., :6], yaw[..., None], residuals[..., 7:]), dim=-1)

    def log_prob(self, boxes: Tensor) -> Tensor:
        """Log densities ``(N,)`` or ``(N, S)`` of boxes ``(N, D)`` or ``(N, S, D)``, nats."""
        if boxes.ndim == 2:
            return self.log_prob(boxes[:, None])[:, 0]
        nearest = self.residuals(boxes)[:, None]
        period = self.yaw_period / self.coding.yaw_unit
        shift = period[:, None] * constant((-1.0, 0.0, 1.0), nearest)
        yaw = nearest[..., 6] + shift[..., None]
        rest = nearest.expand(*yaw.shape, -1)
        images = torch.cat((rest[..., :6], yaw[..., None], rest[..., 7:]), dim=-1)
        log_p = self.density.log_prob(images.flatten(1, 2)).unflatten(1, yaw.shape[1:])
        return torch.logsumexp(log_p, dim=1) - self.coding.log_volume(boxes)

    def cdf(self, boxes: Tensor) -> Tensor:
        """Marginal distribution functions of the :meth:`residuals`, the shape of ``boxes``."""
        return self.density.cdf(self.residuals(boxes))

    def squared_mahalanobis(self, boxes: Tensor) -> Tensor:
        """Squared distances ``(N,)`` or ``(N, S)`` from the mean, in the residuals' covariance.

        Of a Gaussian, chi-squared with D degrees of freedom. NaN without an inverse.
        """
        if boxes.ndim == 2:
            return self.squared_mahalanobis(boxes[:, None])[:, 0]
        offset = self.residuals(boxes) - self.density.mean[:, None]
        factor, failed = torch.linalg.cholesky_ex(self.density.covariance)
        white = torch.linalg.solve_triangular(factor, offset.transpose(1, 2), upper=False)
        return torch.where(failed[:, None] == 0, white.square().sum(1), math.nan)

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw boxes ``(N, S, D)``; see :meth:`Density.sample`."""
        return self.coding.decode(self.density.sample(num_samples, generator))

    def rescaled(self, factors: Tensor | float) -> BoxDistribution:
        """Widen the density of the residuals; see :meth:`Density.rescaled`."""
        return replace(self, density=self.density.rescaled(factors))
