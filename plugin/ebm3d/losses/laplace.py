"""Negative log likelihood of Laplace residuals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.errors import shape_error


def laplace_nll(residual: Tensor, log_scale: Tensor) -> Tensor:
    r"""Negative log likelihood of independent Laplace residuals.

    .. math:: \log 2 + s + |r|\, e^{-s}, \quad s = \log b

    The variance is 2 b^2. docs/method.md, M-10.

    Args:
        residual: target minus location in units of the coding, any shape.
        log_scale: log b in units of ``residual``, the same shape.

    Returns:
        Loss per element, nats; its gradient at a residual of zero is zero.
    """
    if residual.shape != log_scale.shape:
        raise shape_error("log_scale", f"{tuple(residual.shape)} like residual", log_scale)
    return math.log(2) + log_scale + residual.abs() * torch.exp(-log_scale)
