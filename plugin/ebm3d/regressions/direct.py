"""Residuals without a predicted spread, as the host's heads have them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ebm3d.densities import Density, GaussianDensity, HuberDensity, LaplaceDensity
from ebm3d.errors import check_positive, input_error
from ebm3d.losses import l1_loss, l2_loss, smooth_l1_loss
from ebm3d.registry import register
from ebm3d.regressions.base import NUM_RESIDUALS, MaskedBoxRegression
from ebm3d.regressions.outputs import check_outputs


@register
class DirectBoxRegression(MaskedBoxRegression):
    r"""Residuals without a spread, learned by smooth L1, L1 or L2.

    The density is the one the loss implies, :math:`p(r) \propto e^{-\rho(r) / s}` (Huber, Laplace,
    Gaussian), with one constant scale s per residual: the maximum likelihood estimate for the
    residuals of the latest training batches,

    .. math:: s = \frac{\overline{\rho(r)}}{1 - w(s) / 2}

    where w is the mass of the part where rho is quadratic. docs/method.md, M-9. The scales are NaN
    until a training step has seen a target; checkpoints of the host load without them.

    Args:
        kind: ``"smooth_l1"``, ``"l1"`` or ``"l2"``.
        beta: where smooth L1 becomes linear, units of the coding.
        sin_difference: whether the loss of the yaw is that of the sine of its difference, as in
            the host, which a heading flipped by pi does not change.
        momentum: weight of the newest batch in the running means of rho over targets, in (0, 1].
        loss_weight: factor of the loss.
        num_residuals: D.
    """

    loss_sums: Tensor
    num_targets: Tensor

    def __init__(
        self,
        kind: str = "smooth_l1",
        beta: float = 1 / 9,
        sin_difference: bool = False,
        momentum: float = 0.01,
        loss_weight: float = 1.0,
        num_residuals: int = NUM_RESIDUALS,
    ) -> None:
        super().__init__(loss_weight, num_residuals)
        self.num_outputs = num_residuals
        if kind not in ("smooth_l1", "l1", "l2"):
            raise input_error("kind", '"smooth_l1", "l1" or "l2"', repr(kind))
        check_positive("beta", beta)
        if not 0 < momentum <= 1:
            raise input_error("momentum", "in (0, 1]", momentum)
        self.kind, self.beta = kind, beta
        self.sin_difference, self.momentum = sin_difference, momentum
        self.register_buffer("loss_sums", torch.zeros(num_residuals))
        self.register_buffer("num_targets", torch.zeros(num_residuals))

    @property
    def scales(self) -> Tensor:
        """The scale s of each residual, ``(D,)``, units of the coding (squared for L2)."""
        # Residuals of exactly zero would have a scale without a logarithm.
        floor = torch.finfo(self.loss_sums.dtype).tiny
        mean_losses = (self.loss_sums / self.num_targets).clamp_min(floor)
        if self.kind == "smooth_l1":
            return huber_scale(mean_losses, self.beta)
        return mean_losses if self.kind == "l1" else 2 * mean_losses

    def residual_loss(self, outputs: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Loss per residual; in training mode, also updates the running means."""
        residuals = outputs - targets
        if self.sin_difference:
            yaw, true_yaw = outputs[:, 6:7], targets[:, 6:7]
            sine = torch.sin(yaw) * torch.cos(true_yaw) - torch.cos(yaw) * torch.sin(true_yaw)
            residuals = torch.cat((residuals[:, :6], sine, residuals[:, 7:]), dim=1)
        if self.kind == "smooth_l1":
            losses = smooth_l1_loss(residuals, self.beta)
        else:
            losses = l1_loss(residuals) if self.kind == "l1" else l2_loss(residuals)
        if self.training:
            sums = torch.where(known, losses.detach(), 0.0).sum(0)
            self.loss_sums.mul_(1 - self.momentum).add_(sums)
            self.num_targets.mul_(1 - self.momentum).add_(known.sum(0))
        return losses

    def density(self, outputs: Tensor) -> Density:
        """The densities the loss implies; the point estimate is the output itself."""
        check_outputs(outputs, self.num_outputs)
        log_scales = torch.log(self.scales).to(outputs).expand_as(outputs)
        if self.kind == "smooth_l1":
            return HuberDensity(outputs, log_scales, self.beta)
        kind = LaplaceDensity if self.kind == "l1" else GaussianDensity
        return kind(outputs, log_scales)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load the sums; a checkpoint without them is complete, and resets them."""
        for name in ("loss_sums", "num_targets"):
            value = state_dict.setdefault(prefix + name, torch.zeros_like(getattr(self, name)))
            if value.ndim == 0:  # older: one number for all residuals
                state_dict[prefix + name] = value.expand(self.num_residuals).clone()
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def huber_scale(mean_loss: Tensor, beta: float) -> Tensor:
    r"""Maximum likelihood scale of a Huber density, given the mean smooth L1 loss.

    With :math:`\tau = s / \beta`, the density :math:`e^{-\rho(r) / s}` has a quadratic part and
    linear tails of masses proportional to

    .. math:: A = \sqrt{2 \pi \tau}\, \mathrm{erf}(1 / \sqrt{2 \tau}), \qquad
        B = 2 \tau e^{-1 / (2 \tau)}

    Two steps of Newton's method in logarithms solve ``mean_loss = s (1 - w / 2)``,
    :math:`w = A / (A + B)`, to a relative error of 2e-9. docs/method.md, M-9.
    """
    mean = mean_loss / beta
    tau = mean + mean / (1 + 1.5 * mean)
    for _ in range(2):
        edge = torch.exp(-0.5 / tau)
        quadratic = torch.sqrt(2 * math.pi * tau) * torch.erf(torch.rsqrt(2 * tau))
        linear = 2 * tau * edge
        total = quadratic + linear
        share = quadratic / total
        # Derivatives by log tau of the quadratic part, the total and the share.
        by_quadratic = quadratic / 2 - edge
        by_total = quadratic / 2 + linear
        by_share = by_quadratic / total - share * (by_total / total)
        rest = 1 - 0.5 * share
        slope = 1 - 0.5 * by_share / rest
        tau = tau * (mean / (tau * rest)) ** (1 / slope)
    return beta * tau
