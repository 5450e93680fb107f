"""Mixtures of Gaussians, learned by their overlap with a Gaussian at the target (PROPEL)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.densities import Density, MixtureDensity
from ebm3d.errors import check_positive, input_error
from ebm3d.losses import propel_loss
from ebm3d.registry import register
from ebm3d.regressions.base import NUM_RESIDUALS, MaskedBoxRegression
from ebm3d.regressions.outputs import check_outputs, clamp_inward

_OFFSET = 0.3  # in standard deviations of the Gaussian around the target


@register
class PROPELBoxRegression(MaskedBoxRegression):
    r"""A mixture of I equally weighted diagonal Gaussians over the D residuals.

    Outputs, component by component: D means, D log variances relative to the variance of the
    Gaussian at the target. The density is the mixture itself. docs/method.md, M-11.

    Outputs of zero are components as wide as that Gaussian, spread evenly from -0.3 to 0.3 of its
    standard deviations: components that start in one place would share every gradient.

    Args:
        num_components: I, at least 1.
        joint: whether the mixture is one over all D residuals; otherwise one for each.
        target_std: standard deviation of the Gaussian at the target, in units of the coding. The
            learned spread is at least about as wide: choose it below the errors to be told apart.
            0.05 suits residuals from anchors; where the unit is the error itself, about 0.3.
        point_estimate: see :class:`~ebm3d.densities.MixtureDensity`.
        max_log_variance: the relative log variances are clamped to plus and minus this, by
            :func:`~ebm3d.regressions.outputs.clamp_inward`.
        loss_weight: factor of the loss.
        num_residuals: D.
    """

    component_offsets: Tensor

    def __init__(
        self,
        num_components: int = 3,
        joint: bool = True,
        target_std: float = 0.05,
        point_estimate: str = "mean",
        max_log_variance: float = 7.0,
        loss_weight: float = 1.0,
        num_residuals: int = NUM_RESIDUALS,
    ) -> None:
        super().__init__(loss_weight, num_residuals)
        check_positive("target_std", target_std)
        check_positive("max_log_variance", max_log_variance)
        if num_components < 1:
            raise input_error("num_components", "at least 1", num_components)
        if point_estimate not in ("mean", "mode"):
            raise input_error("point_estimate", '"mean" or "mode"', repr(point_estimate))
        self.num_components, self.joint, self.point_estimate = num_components, joint, point_estimate
        self.target_std, self.max_log_variance = target_std, max_log_variance
        self.num_outputs = num_components * 2 * num_residuals
        end = _OFFSET * target_std if num_components > 1 else 0.0
        offsets = torch.linspace(-end, end, num_components)[:, None]
        self.register_buffer("component_offsets", offsets, persistent=False)

    def residual_loss(self, outputs: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Negative log overlap, ``(N, 1)``, or ``(N, D)`` if not joint."""
        means, log_variances = self._read(outputs)
        # Components that equal the Gaussian at the target are a factor that the overlap cancels.
        means = torch.where(known[:, None], means, targets[:, None])
        log_variances = torch.where(known[:, None], log_variances, 2 * math.log(self.target_std))
        loss = propel_loss(targets, means, log_variances, self.target_std**2, joint=self.joint)
        return loss[:, None] if self.joint else loss

    def density(self, outputs: Tensor) -> Density:
        """Mixtures; the point estimate is the one of ``point_estimate``."""
        return MixtureDensity(*self._read(outputs), self.point_estimate, joint=self.joint)

    def _read(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log variances, ``(N, I, D)`` each."""
        check_outputs(outputs, self.num_outputs)
        raw = outputs.unflatten(1, (self.num_components, 2 * self.num_residuals))
        means, relative = raw.split(self.num_residuals, dim=2)
        means = means + self.component_offsets.to(means)
        relative = clamp_inward(relative, self.max_log_variance)
        return means, relative + 2 * math.log(self.target_std)
