"""Maximum likelihood with samples of the energy itself."""

from __future__ import annotations

from torch import Tensor

from ebm3d.errors import shape_error


def mcmc_loss(f_true: Tensor, f_samples: Tensor) -> Tensor:
    r"""Contrast of the true value with samples of exp f, by which the likelihood climbs (ML-MCMC).

    .. math:: L = \frac1M\sum_{m=1}^{M} f(\tilde y_m) - f(y), \quad \tilde y_m \sim e^f / Z

    With exact samples, held fixed, its gradient in the parameters of f is an unbiased estimate of
    that of the negative log-likelihood; its value says nothing. Source: Gustafsson et al., "How to
    Train Your Energy-Based Model for Regression", BMVC 2020, where the samples come from short runs
    of :func:`ebm3d.refiners.langevin` that start at the true value: contrastive divergence (Hinton,
    2002). docs/method.md, M-23.

    Args:
        f_true: ``(...)`` f of the true values.
        f_samples: ``(..., M)`` f of the samples.

    Returns:
        ``(...)``; no reduction.

    Raises:
        ValueError: if the shapes do not fit or there is no sample.
    """
    if f_samples.ndim == 0 or f_samples.shape[-1] < 1:
        raise shape_error("f_samples", "(..., M) with M >= 1 samples", f_samples)
    if f_true.shape != f_samples.shape[:-1]:
        expected = f"{tuple(f_samples.shape[:-1])}, like f_samples without its last axis"
        raise shape_error("f_true", expected, f_true)
    return f_samples.mean(dim=-1) - f_true
