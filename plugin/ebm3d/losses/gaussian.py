"""Negative log likelihood of Gaussian residuals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.errors import shape_error


def gaussian_nll(residual: Tensor, log_variance: Tensor) -> Tensor:
    r"""Negative log likelihood of independent Gaussian residuals.

    .. math:: \tfrac12\left(\log 2\pi + s + r^2 e^{-s}\right), \quad s = \log\sigma^2

    Source: Kendall and Gal, "What Uncertainties Do We Need in Bayesian Deep Learning for Computer
    Vision?", NeurIPS 2017, Eq. (8), with the constant kept. docs/method.md, M-10.

    Args:
        residual: target minus mean in units of the coding, any shape.
        log_variance: in squared units of ``residual``, the same shape.
    """
    if residual.shape != log_variance.shape:
        raise shape_error("log_variance", f"{tuple(residual.shape)} like residual", log_variance)
    return 0.5 * (math.log(2 * math.pi) + log_variance + residual**2 * torch.exp(-log_variance))
