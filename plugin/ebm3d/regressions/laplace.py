"""Independent Laplace residuals, learned by their likelihood."""

from __future__ import annotations

from torch import Tensor

from ebm3d.densities import Density, LaplaceDensity
from ebm3d.errors import check_positive
from ebm3d.losses import laplace_nll
from ebm3d.registry import register
from ebm3d.regressions.base import NUM_RESIDUALS, BoxRegression
from ebm3d.regressions.outputs import check_targets, split_outputs


@register
class LaplaceBoxRegression(BoxRegression):
    """A location and a log scale per residual, learned by the negative log likelihood.

    Outputs: 7 locations, 7 log scales b; the variance is 2 b^2. docs/method.md, M-10.

    Args:
        max_log_scale: log scales are clamped to plus and minus this, in units of the coding, by
            :func:`~ebm3d.regressions.outputs.clamp_inward`. The scales of 5 are 0.0067 and 148.
        loss_weight: factor of the loss.
    """

    num_outputs = 2 * NUM_RESIDUALS

    def __init__(self, max_log_scale: float = 5.0, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        check_positive("max_log_scale", max_log_scale)
        self.max_log_scale = max_log_scale

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Negative log likelihood per residual ``(N, 7)``, nats."""
        locations, log_scales = split_outputs(outputs, self.max_log_scale)
        check_targets(targets, outputs)
        return laplace_nll(targets - locations, log_scales)

    def density(self, outputs: Tensor) -> Density:
        """Laplace densities; the point estimate is the median, which is the mean."""
        return LaplaceDensity(*split_outputs(outputs, self.max_log_scale))
