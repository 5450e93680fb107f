"""Independent Gaussian or Laplace residuals, learned by their likelihood. docs/method.md, M-10."""

from __future__ import annotations

from torch import Tensor

from ebm3d.densities import Density, GaussianDensity, LaplaceDensity
from ebm3d.errors import check_positive
from ebm3d.losses import gaussian_nll, laplace_nll
from ebm3d.registry import register
from ebm3d.regressions.base import NUM_RESIDUALS, MaskedBoxRegression
from ebm3d.regressions.outputs import split_outputs


@register
class GaussianBoxRegression(MaskedBoxRegression):
    """A mean and a log variance per residual: D means, then D log variances.

    Args:
        max_log_variance: log variances are clamped to plus and minus this, in units of the coding,
            by :func:`~ebm3d.regressions.outputs.clamp_inward`. The standard deviations of 10 are
            0.0067 and 148: in diagonals of a car's anchor, 3 cm and more than any map.
        loss_weight: factor of the loss.
        num_residuals: D.
    """

    def __init__(
        self,
        max_log_variance: float = 10.0,
        loss_weight: float = 1.0,
        num_residuals: int = NUM_RESIDUALS,
    ) -> None:
        super().__init__(loss_weight, num_residuals)
        self.num_outputs = 2 * num_residuals
        check_positive("max_log_variance", max_log_variance)
        self.max_log_variance = max_log_variance

    def residual_loss(self, outputs: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Negative log likelihood per residual, nats."""
        means, log_variances = split_outputs(outputs, self.num_residuals, self.max_log_variance)
        return gaussian_nll(targets - means, log_variances)

    def density(self, outputs: Tensor) -> Density:
        """Gaussians; the point estimate is the mean."""
        return GaussianDensity(*split_outputs(outputs, self.num_residuals, self.max_log_variance))


@register
class LaplaceBoxRegression(MaskedBoxRegression):
    """A location and a log scale per residual: D locations, then D log scales b.

    Args:
        max_log_scale: as ``max_log_variance``; the scales of 5 are 0.0067 and 148.
        loss_weight: factor of the loss.
        num_residuals: D.
    """

    def __init__(
        self,
        max_log_scale: float = 5.0,
        loss_weight: float = 1.0,
        num_residuals: int = NUM_RESIDUALS,
    ) -> None:
        super().__init__(loss_weight, num_residuals)
        self.num_outputs = 2 * num_residuals
        check_positive("max_log_scale", max_log_scale)
        self.max_log_scale = max_log_scale

    def residual_loss(self, outputs: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Negative log likelihood per residual, nats."""
        locations, log_scales = split_outputs(outputs, self.num_residuals, self.max_log_scale)
        return laplace_nll(targets - locations, log_scales)

    def density(self, outputs: Tensor) -> Density:
        """Laplace densities; the point estimate is the median, which is the mean."""
        return LaplaceDensity(*split_outputs(outputs, self.num_residuals, self.max_log_scale))
