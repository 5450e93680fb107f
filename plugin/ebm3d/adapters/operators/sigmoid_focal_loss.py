r"""The focal loss of independent classes.

Glossary: N rows, C classes; x a logit, s the probability of the truth about its class:
``sigmoid(x)`` for the row's class, ``sigmoid(-x)`` for the others.

.. math:: L = -a (1 - s)^\gamma \log s, \quad a = \alpha \text{ or } 1 - \alpha
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["sigmoid_focal_loss_backward", "sigmoid_focal_loss_forward"]


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the focal loss of each logit, in nats.

    Source: ``sigmoid_focal_loss_forward_cuda_kernel`` of mmcv 2.1.0, which has no CPU version;
    "Focal Loss for Dense Object Detection", Eq. (5). The logarithm is exact for every logit; mmcv
    takes it of a probability rounded to float32, which is wrong from logits of 17 on.

    Args:
        input: logits, floating point, shape ``(N, C)``; half precision is computed in float32.
        target: class of each row, C for none of them, int64, shape ``(N,)``.
        weight: a factor for rows of each class, shape ``(C,)``, or empty; rows of none have 1.
        output: filled, shape ``(N, C)``.
        gamma: exponent, at least 0.
        alpha: weight of the row's class.
    """
    logit, factor, _ = _terms(input, target, weight, alpha)
    output.copy_(-factor * (-logit).sigmoid().pow(gamma) * logsigmoid(logit))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    r"""Write the derivative of each loss in its logit: minus for the row's class, else plus.

    .. math:: \mp a (1 - s)^\gamma (1 - s - \gamma s \log s)
    """
    logit, factor, sign = _terms(input, target, weight, alpha)
    other = (-logit).sigmoid()
    slope = other.pow(gamma) * (other - gamma * logit.sigmoid() * logsigmoid(logit))
    grad_input.copy_(-sign * factor * slope)


def _terms(
    input: Tensor, target: Tensor, weight: Tensor, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of s, factors a times the weight, and 1 or -1 for s of x or -x, shape ``(N, C)``."""
    logit = input.detach()
    logit = logit if logit.dtype == torch.float64 else logit.float()
    classes = torch.arange(input.shape[1], device=input.device)
    is_class = (target[:, None] == classes).to(logit.dtype)
    sign = 2.0 * is_class - 1.0
    factor = alpha * is_class + (1.0 - alpha) * (1.0 - is_class)
    if weight.numel() > 0:
        factor = factor * torch.cat([weight.to(logit.dtype), logit.new_ones(1)])[target][:, None]
    return sign * logit, factor, sign
