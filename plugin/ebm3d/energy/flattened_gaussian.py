"""The Gaussian that a round of adaptive importance sampling draws from.

N boxes; K weighted samples of each; D = 7 residuals.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.densities import MultivariateGaussianDensity

_WIDENING = 1.2  # of the Gaussian against the moments it has seen
_LEAST_VARIANCE = 1e-4  # in squared units of the noise: a hundredth of its width


def flattened_gaussian(log_w: Tensor, residuals: Tensor) -> MultivariateGaussianDensity:
    """Gaussian of the moments of flattened weights, a little wider; docs/method.md, M-20.

    Args:
        log_w: ``(N, K)`` logarithms of the weights, up to a constant for each box.
        residuals: ``(N, K, D)`` of the samples.

    Returns:
        N densities over D residuals. As long as few samples carry the weight, the weights are the
        power beta of theirs, at most 1, that leaves an effective eighth of the samples.
    """
    beta = flattening(log_w, max(log_w.shape[1] / 8, 1.0))
    # Nothing of minus infinity is still nothing, where few samples carry all the weight.
    weights = torch.softmax(torch.where(log_w == -math.inf, log_w, beta * log_w), dim=1)
    mean = (weights[..., None] * residuals).sum(dim=1)
    offset = residuals - mean[:, None]
    covariance = _WIDENING**2 * torch.einsum("nk,nki,nkj->nij", weights, offset, offset)
    unit = torch.eye(residuals.shape[2], dtype=covariance.dtype, device=covariance.device)
    root = torch.linalg.cholesky_ex(covariance + _LEAST_VARIANCE * unit)[0]
    return MultivariateGaussianDensity(mean, root)


def flattening(log_w: Tensor, size: float) -> Tensor:
    """The largest power below one that leaves weights an effective size.

    The effective size falls as the power grows, so each of five rounds looks at fifteen powers at
    once and keeps the sixteenth of the interval in which it crosses the size.

    Args:
        log_w: ``(N, K)`` logarithms of the weights, up to a constant for each box.
        size: effective size, from 1 to K.

    Returns:
        ``(N, 1)`` in [0, 1), a multiple of 2^-20.
    """
    # At minus infinity, the product with a power of zero would be NaN.
    lowest = torch.finfo(log_w.dtype).min
    logs = (log_w - log_w.amax(dim=1, keepdim=True)).clamp_min(lowest)[:, None]
    beta = torch.zeros_like(log_w[:, :1])
    steps = torch.arange(1, 16, dtype=log_w.dtype, device=log_w.device)
    for part in (16.0**-level for level in range(1, 6)):
        weights = torch.exp((beta + part * steps)[..., None] * logs)
        sizes = weights.sum(dim=2).square() / weights.square().sum(dim=2)
        beta = beta + part * (sizes >= size).sum(dim=1, keepdim=True)
    return beta
