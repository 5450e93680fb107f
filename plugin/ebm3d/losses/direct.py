"""Losses of a residual without an uncertainty: smooth L1, L1, L2. docs/method.md, M-9."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss as torch_smooth_l1_loss

from ebm3d.errors import input_error


def smooth_l1_loss(residual: Tensor, beta: float) -> Tensor:
    r"""Smooth L1 (Huber) loss per element: quadratic up to beta, linear beyond.

    .. math::
        \rho_\beta(r) = \begin{cases} r^2 / (2\beta) & |r| < \beta \\
        |r| - \beta / 2 & \text{otherwise} \end{cases}

    Source: Girshick, "Fast R-CNN", 2015, Eq. (3), with the transition at beta as in the host.
    """
    if not 0 < beta < math.inf:
        raise input_error("beta", "positive and finite", beta, "l1_loss is the limit of zero")
    return torch_smooth_l1_loss(residual, torch.zeros_like(residual), reduction="none", beta=beta)


def l1_loss(residual: Tensor) -> Tensor:
    """Absolute value of the residual per element."""
    return residual.abs()


def l2_loss(residual: Tensor) -> Tensor:
    """Half the square of the residual per element."""
    return 0.5 * residual * residual
