"""Densities of boxes: a density of residuals, and the coding that turns residuals into boxes.

N boxes; D = 7 parameters; K samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ebm3d.boxes.codings import BoxCoding
from ebm3d.densities.density import Density
from ebm3d.densities.rescaled import RescaledDensity
from ebm3d.devices import constant
from ebm3d.errors import input_error
from ebm3d.records import TensorRecord


@dataclass(frozen=True)
class BoxDistribution(TensorRecord):
    r"""N predicted boxes as densities over meters and radians.

    .. math::
        p(y) = \left|\det \partial t/\partial y\right|
        \sum_{k=-1}^{1} p_t\Big(t(y) + k\,\frac{P}{u_\theta}\,e_\theta\Big)

    with the residuals t of the coding, the period P of the yaw and the radians
    :math:`u_\theta` per unit of its residual; the sum runs over the images of the yaw, so that the
    density over one period of the yaw integrates to one (up to what lies more than one and a half
    periods from the point estimate). docs/method.md, M-8.

    Attributes:
        density: of the residuals.
        coding: from residuals to boxes.
        yaw_period: 2 pi, or pi where a direction classifier decides which end is the front and the
            density is one of the axis alone.

    Raises:
        ValueError: if there are more densities than references, or fewer, or the period is not
            positive.
    """

    density: Density
    coding: BoxCoding
    yaw_period: float = 2 * math.pi

    def __post_init__(self) -> None:
        if len(self.density) != len(self.coding):
            expected = f"of {len(self.density)} references, one per density"
            raise input_error("coding", expected, len(self.coding))
        if not 0 < self.yaw_period < math.inf:
            raise input_error("yaw_period", "positive, 2 pi or pi", self.yaw_period)

    @property
    def boxes(self) -> Tensor:
        """The point estimates ``(N, 7)``, yaw in (-pi, pi]."""
        return self.coding.decode(self.density.point)

    @property
    def covariance(self) -> Tensor:
        """Covariance of the boxes ``(N, 7, 7)``, meters and radians, LiDAR axes.

        To first order: the Jacobian at the point estimate on both sides of the residuals'
        covariance.
        """
        jacobian = self.coding.jacobian(self.density.point)
        return jacobian @ self.density.covariance @ jacobian.transpose(-1, -2)

    @property
    def std(self) -> Tensor:
        """Standard deviation of each dimension ``(N, 7)``: roots of the covariance's diagonal."""
        return torch.diagonal(self.covariance, dim1=-2, dim2=-1).clamp_min(0).sqrt()

    def residuals(self, boxes: Tensor) -> Tensor:
        """Return residuals of boxes whose yaw is the image nearest to the point estimate.

        Args:
            boxes: ``(..., N, 7)``.

        Returns:
            ``(..., N, 7)``.
        """
        residuals = self.coding.encode(boxes)
        period = self.yaw_period / self.coding.yaw_unit
        turns = torch.round((residuals[..., 6] - self.density.point[:, 6]) / period)
        yaw = residuals[..., 6] - turns * period
        return torch.cat((residuals[..., :6], yaw[..., None]), dim=-1)

    def log_prob(self, boxes: Tensor) -> Tensor:
        """Log density of boxes, nats, in meters and radians.

        Args:
            boxes: ``(..., N, 7)``, sizes positive.

        Returns:
            ``(..., N)``.
        """
        nearest = self.residuals(boxes)
        period = self.yaw_period / self.coding.yaw_unit
        shape = (3, *(1,) * (nearest.ndim - 1))
        yaw = nearest[..., 6] + constant((-1.0, 0.0, 1.0), nearest).view(shape) * period
        images = torch.cat((nearest[..., :6].expand(*yaw.shape, 6), yaw[..., None]), dim=-1)
        log_p = torch.logsumexp(self.density.log_prob(images), dim=0)
        return log_p - self.coding.log_volume(boxes)

    def cdf(self, boxes: Tensor) -> Tensor:
        """Marginal distribution functions of the residuals at boxes.

        That of the yaw is the one of the residual nearest to the point estimate; what the density
        has beyond half a period from there is not folded in, as it is in :meth:`log_prob`.

        Args:
            boxes: ``(..., N, 7)``.

        Returns:
            ``(..., N, 7)`` in [0, 1].
        """
        return self.density.cdf(self.residuals(boxes))

    def squared_mahalanobis(self, boxes: Tensor) -> Tensor:
        """Squared distance of boxes from the mean, in the covariance of the residuals.

        Args:
            boxes: ``(..., N, 7)``.

        Returns:
            ``(..., N)``; of a Gaussian, chi-squared with 7 degrees of freedom. NaN where the
            covariance has no inverse.
        """
        offset = self.residuals(boxes) - self.density.mean
        factor, failed = torch.linalg.cholesky_ex(self.density.covariance)
        white = torch.linalg.solve_triangular(factor, offset[..., None], upper=False)
        squared = white[..., 0].square().sum(-1)
        return torch.where(failed == 0, squared, torch.full_like(squared, math.nan))

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw boxes ``(K, N, 7)``; arguments as in :meth:`Density.sample`."""
        return self.coding.decode(self.density.sample(num_samples, generator))

    def rescaled(self, factors: Tensor) -> BoxDistribution:
        """Widen the density about its point estimate.

        Args:
            factors: ``(7,)`` or one number, positive: by how much each residual's spread grows.

        Returns:
            The distribution of temperature-scaled spread, with the same point estimates.
        """
        return replace(self, density=RescaledDensity.of(self.density, factors))
