"""Losses of residuals, target minus location in units of the coding, per element."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss as torch_smooth_l1_loss

from ebm3d.errors import input_error, shape_error


def smooth_l1_loss(residual: Tensor, beta: float) -> Tensor:
    r"""Smooth L1 (Huber) loss: quadratic up to beta, linear beyond.

    .. math::
        \rho_\beta(r) = \begin{cases} r^2 / (2\beta) & |r| < \beta \\
        |r| - \beta / 2 & \text{otherwise} \end{cases}

    Source: Girshick, "Fast R-CNN", 2015, Eq. (3), with the transition at beta as in the host.
    docs/method.md, M-9.
    """
    if not 0 < beta < math.inf:
        raise input_error("beta", "positive and finite", beta, "l1_loss is the limit of zero")
    return torch_smooth_l1_loss(residual, torch.zeros_like(residual), reduction="none", beta=beta)


def l1_loss(residual: Tensor) -> Tensor:
    """Absolute value of the residual."""
    return residual.abs()


def l2_loss(residual: Tensor) -> Tensor:
    """Half the square of the residual."""
    return 0.5 * residual * residual


def gaussian_nll(residual: Tensor, log_variance: Tensor) -> Tensor:
    r"""Negative log likelihood of independent Gaussian residuals, nats.

    .. math:: \tfrac12\left(\log 2\pi + s + r^2 e^{-s}\right), \quad s = \log\sigma^2

    Source: Kendall and Gal, "What Uncertainties Do We Need in Bayesian Deep Learning for Computer
    Vision?", NeurIPS 2017, Eq. (8), with the constant kept. docs/method.md, M-10.
    """
    if residual.shape != log_variance.shape:
        raise shape_error("log_variance", f"{tuple(residual.shape)} like residual", log_variance)
    return 0.5 * (math.log(2 * math.pi) + log_variance + residual**2 * torch.exp(-log_variance))


def laplace_nll(residual: Tensor, log_scale: Tensor) -> Tensor:
    r"""Negative log likelihood of independent Laplace residuals, nats.

    .. math:: \log 2 + s + |r|\, e^{-s}, \quad s = \log b

    The variance is 2 b^2; the gradient at a residual of zero is zero. docs/method.md, M-10.
    """
    if residual.shape != log_scale.shape:
        raise shape_error("log_scale", f"{tuple(residual.shape)} like residual", log_scale)
    return math.log(2) + log_scale + residual.abs() * torch.exp(-log_scale)
