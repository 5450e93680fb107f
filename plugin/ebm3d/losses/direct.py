"""Losses of one residual without a spread: smooth L1, L1, L2."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.errors import input_error


def smooth_l1_loss(residual: Tensor, beta: float) -> Tensor:
    r"""Smooth L1 (Huber) loss: quadratic up to beta, linear beyond.

    .. math::
        \rho_\beta(r) = \begin{cases} r^2 / (2\beta) & |r| < \beta \\
        |r| - \beta / 2 & \text{otherwise} \end{cases}

    Source: Girshick, "Fast R-CNN", 2015, Eq. (3), with the transition at beta as in the host.
    docs/method.md, M-9.

    Args:
        residual: prediction minus target, any shape, units of the coding.
        beta: where the loss turns linear, in units of ``residual``, positive and finite.

    Returns:
        Loss per element, the shape of ``residual``; no reduction.

    Raises:
        ValueError: if beta is not positive and finite.
    """
    if not 0 < beta < math.inf:
        raise input_error(
            "beta", "positive and finite", beta, "choose l1_loss for the limit of zero"
        )
    size = residual.abs()
    return torch.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta)


def l1_loss(residual: Tensor) -> Tensor:
    """Absolute value of the residual; docs/method.md, M-9.

    Args:
        residual: prediction minus target, any shape.

    Returns:
        Loss per element, the shape of ``residual``; no reduction.
    """
    return residual.abs()


def l2_loss(residual: Tensor) -> Tensor:
    """Half the square of the residual; docs/method.md, M-9.

    Args:
        residual: prediction minus target, any shape.

    Returns:
        Loss per element, the shape of ``residual``; no reduction.
    """
    return 0.5 * residual * residual
