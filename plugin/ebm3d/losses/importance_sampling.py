"""Likelihoods of an energy with an importance-sampled normalizer: ML-IS and KLD-IS.

M samples of a known density q for each element; everything in log space.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.errors import shape_error


def log_normalizer(f: Tensor, log_q: Tensor) -> Tensor:
    r"""Importance-sampled logarithm of the normalizer of exp f.

    .. math:: \log\hat Z = \log\frac1M\sum_{m=1}^{M} \exp\{f(\tilde y_m) - \log q(\tilde y_m)\},
        \quad \tilde y_m \sim q

    docs/method.md, M-22. Z-hat is unbiased; its logarithm falls short by about
    :math:`\mathrm{Var}(w) / (2 M)`, with w the weights over their mean, and has the standard error
    :math:`\sqrt{\mathrm{Var}(w) / M}`.

    Args:
        f: ``(..., M)`` unnormalized log densities of samples of q.
        log_q: ``(..., M)`` their log densities under q, nats.

    Returns:
        ``(...)``, nats. Differentiable in both arguments.

    Raises:
        ValueError: if the shapes differ or there is no sample.
    """
    if f.shape != log_q.shape:
        raise shape_error("log_q", f"{tuple(f.shape)} like f", log_q)
    if f.ndim == 0 or f.shape[-1] < 1:
        raise shape_error("f", "(..., M) with M >= 1 samples", f)
    return torch.logsumexp(f - log_q, dim=-1) - math.log(f.shape[-1])


def mlis_loss(f_true: Tensor, f: Tensor, log_q: Tensor) -> Tensor:
    r"""Negative log-likelihood with an importance-sampled normalizer (ML-IS).

    .. math:: L = \log\frac1M\sum_{m=1}^{M} \frac{e^{f(\tilde y_m)}}{q(\tilde y_m)} - f(y)

    Source: Gustafsson et al., "How to Train Your Energy-Based Model for Regression", BMVC 2020
    (first in their "Energy-Based Models for Deep Probabilistic Regression", ECCV 2020).
    docs/method.md, M-22. Biased downwards as :func:`log_normalizer` is.

    Args:
        f_true: ``(...)`` f of the true values.
        f: ``(..., M)`` f of samples of q.
        log_q: ``(..., M)`` their log densities, nats.

    Returns:
        ``(...)`` nats; no reduction.

    Raises:
        ValueError: if the shapes do not fit or there is no sample.
    """
    _check_true(f_true, f)
    return log_normalizer(f, log_q) - f_true


def kldis_loss(f: Tensor, log_q: Tensor, log_p: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence from a density around the label, but for its entropy (KLD-IS).

    .. math:: L = \log\frac1M\sum_{m=1}^{M} \frac{e^{f(\tilde y_m)}}{q(\tilde y_m)} -
        \frac1M\sum_{m=1}^{M} f(\tilde y_m)\, \frac{p(\tilde y_m | y)}{q(\tilde y_m)}

    Source: Gustafsson et al., BMVC 2020, with the Gaussian p of the label noise. docs/method.md,
    M-22. The second weights are not normalized, as published: the loss is unbiased in them, and
    their mean is one only in expectation, so that a constant added to f adds noise to the loss. The
    weights must stay below the largest number of the type: p may not exceed q by 1e38 in float32.

    Args:
        f: ``(..., M)`` f of samples of q.
        log_q: ``(..., M)`` their log densities under q, nats.
        log_p: ``(..., M)`` their log densities under p, nats.

    Returns:
        ``(...)`` nats; no reduction.

    Raises:
        ValueError: if the shapes differ or there is no sample.
    """
    if log_p.shape != f.shape:
        raise shape_error("log_p", f"{tuple(f.shape)} like f", log_p)
    return log_normalizer(f, log_q) - (f * torch.exp(log_p - log_q)).mean(dim=-1)


def _check_true(f_true: Tensor, f: Tensor) -> None:
    """Raise unless there is one f of a true value for each set of samples."""
    if f.ndim == 0 or f_true.shape != f.shape[:-1]:
        raise shape_error("f_true", f"{tuple(f.shape[:-1])}, like f without its samples", f_true)
