"""PROPEL: overlap of a mixture of Gaussians with a Gaussian around the target, in closed form.

N boxes; I components of the mixture; D residuals.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.errors import input_error, shape_error


def propel_loss(
    target: Tensor,
    means: Tensor,
    log_variances: Tensor,
    target_variance: float | Tensor,
    *,
    joint: bool = True,
) -> Tensor:
    r"""Negative log overlap of the predicted mixture with a Gaussian around the target.

    .. math::
        L = -\log\frac{2 \int P_{gt} P_m}{\int P_{gt}^2 + \int P_m^2}, \qquad
        P_{gt} = \mathcal N(y, v_{gt}), \quad P_m = \frac1I \sum_{i=1}^{I} \mathcal N(\mu_i, v_i)

    with diagonal variances. By the logarithm of the integral of the product of two Gaussians,

    .. math:: \ell(a, b) = -\tfrac12 \sum_d \left[\log 2\pi + \log(v_{ad} + v_{bd}) +
        \frac{(\mu_{ad} - \mu_{bd})^2}{v_{ad} + v_{bd}}\right]

    .. math::
        L = \log\Big(e^{\ell(gt, gt)} + \tfrac{1}{I^2} \sum_{i,j} e^{\ell(i, j)}\Big)
        - \log\Big(\tfrac2I \sum_i e^{\ell(gt, i)}\Big)

    Source: Asad et al., "PROPEL: Probabilistic Parametric Regression Loss for Convolutional Neural
    Networks", 2018 (arXiv 1807.10937). Deviations: natural logarithm, all sums in log space, one
    component allowed, no epsilon, and ``joint=False``. docs/method.md, M-11.

    Args:
        target: y, ``(N, D)``, units of the coding.
        means: ``(N, I, D)``, I at least 1.
        log_variances: ``(N, I, D)``.
        target_variance: v_gt, positive, one number or ``(D,)``.
        joint: whether the mixture is one over all residuals; otherwise each residual has one.

    Returns:
        ``(N,)``, or ``(N, D)`` if not joint; at least zero. Takes N I^2 D numbers of memory.
    """
    if target.ndim != 2:
        raise shape_error("target", "(N, D)", target)
    size, num_dims = target.shape
    if means.ndim != 3 or means.shape[::2] != (size, num_dims) or means.shape[1] < 1:
        raise shape_error("means", f"({size}, I, {num_dims}) with I >= 1", means)
    if log_variances.shape != means.shape:
        raise shape_error("log_variances", f"{tuple(means.shape)} like means", log_variances)
    num_components = means.shape[1]
    target, log_v = target[:, None], torch.log(_variance(target_variance, target)).expand(num_dims)
    with_target = _log_overlap(target, log_v, means, log_variances, joint)
    pairs = _log_overlap(
        means[:, :, None], log_variances[:, :, None], means[:, None], log_variances[:, None], joint
    ).flatten(1, 2)
    of_target = _log_overlap(target, log_v, target, log_v, joint)
    overlap = torch.logsumexp(with_target, dim=1) + math.log(2 / num_components)
    squares = torch.cat((of_target, pairs - 2 * math.log(num_components)), dim=1)
    loss = torch.logsumexp(squares, dim=1) - overlap
    return loss.squeeze(-1) if joint else loss


def _log_overlap(
    mean_a: Tensor, log_v_a: Tensor, mean_b: Tensor, log_v_b: Tensor, joint: bool
) -> Tensor:
    """Log integral of the product of two Gaussians, ``(..., 1)`` if joint, else ``(..., D)``."""
    log_v = torch.logaddexp(log_v_a, log_v_b)
    terms = -0.5 * (math.log(2 * math.pi) + log_v + (mean_a - mean_b) ** 2 * torch.exp(-log_v))
    return terms.sum(-1, keepdim=True) if joint else terms


def _variance(target_variance: float | Tensor, like: Tensor) -> Tensor:
    """The target's variance as a tensor, ``()`` or ``(D,)``."""
    if isinstance(target_variance, Tensor):
        if target_variance.shape not in ((), like.shape[1:]):
            expected = f"() or ({like.shape[1]},)"
            raise shape_error("target_variance", expected, target_variance)
        return target_variance.to(like)
    if not 0 < target_variance < math.inf:
        raise input_error("target_variance", "positive and finite", target_variance)
    return like.new_full((), target_variance)
