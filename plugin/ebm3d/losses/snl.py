"""Self-normalized likelihood: the log normalizer is learned beside f."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.errors import shape_error
from ebm3d.losses.importance_sampling import log_normalizer as sampled_log_normalizer

# Beyond it the exponential goes on as its tangent: e^20 is 5e8, and e^89 no float32 number.
_TANGENT_FROM = 20.0


def snl_loss(f_true: Tensor, f: Tensor, log_q: Tensor, log_normalizer: Tensor) -> Tensor:
    r"""Negative self-normalized log-likelihood (SNL).

    .. math:: L = b - f(y) + \frac1M\sum_{m=1}^{M}
        \frac{e^{f(\tilde y_m) - b}}{q(\tilde y_m)} - 1, \quad \tilde y_m \sim q

    Source: "Self-normalized log-likelihood for energy-based models", arXiv 2503.07021.
    docs/method.md, M-25. From :math:`\log Z \le b + Z e^{-b} - 1`, with equality at b = log Z: the
    expectation is never below the negative log-likelihood, and minimized over b it is equal to it.
    As Z-hat enters linearly, the gradient is unbiased for any M.

    Deviation: where the sampled log Z exceeds b by more than 20 nats, the exponential goes on as
    its tangent there, so that loss and gradient stay finite while b is far off. The loss stays
    convex in b.

    Args:
        f_true: ``(...)`` f of the true values.
        f: ``(..., M)`` f of samples of q.
        log_q: ``(..., M)`` their log densities, nats.
        log_normalizer: b, ``(...)`` nats.

    Returns:
        ``(...)`` nats; no reduction.

    Raises:
        ValueError: if the shapes do not fit or there is no sample.
    """
    excess = sampled_log_normalizer(f, log_q)
    for name, value in (("f_true", f_true), ("log_normalizer", log_normalizer)):
        if value.shape != excess.shape:
            expected = f"{tuple(excess.shape)}, like f without its samples"
            raise shape_error(name, expected, value)
    excess = excess - log_normalizer
    # logsumexp and exp: a mean of exponentials, none of which overflows on the way.
    near = torch.exp(excess.clamp_max(_TANGENT_FROM))
    ratio = near + math.exp(_TANGENT_FROM) * (excess - _TANGENT_FROM).clamp_min(0)
    return log_normalizer - f_true + ratio - 1
