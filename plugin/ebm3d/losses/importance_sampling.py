"""Likelihoods of an energy with an importance-sampled normalizer: ML-IS and KLD-IS.

M samples of a known density q for each element; everything in log space.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.errors import check_count, check_positive, shape_error
from ebm3d.losses.training import (
    BatchScorer,
    NoiseAround,
    TrainingLoss,
)
from ebm3d.registry import register


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


def effective_share(f: Tensor, log_q: Tensor) -> Tensor:
    r"""Effective sample size of the weights exp(f) / q, as a share of the samples.

    .. math:: \frac{(\sum_m w_m)^2}{M \sum_m w_m^2}, \quad w_m = e^{f(\tilde y_m)} / q(\tilde y_m)

    Args:
        f: ``(..., M)``.
        log_q: ``(..., M)`` nats.

    Returns:
        ``(...)`` from 1 / M to 1; without a graph.
    """
    weights = torch.softmax((f - log_q).detach(), dim=-1)
    return 1 / (weights.square().sum(dim=-1) * weights.shape[-1])


@register
class MLISLoss:
    """Trains f by :func:`mlis_loss` with samples of the noise.

    Args:
        num_noise_samples: M per true box.

    Attributes:
        is_density: f becomes an unnormalized log density.
        draws_noise, returns_samples: as in :class:`ebm3d.losses.training.TrainingMethod`.

    Raises:
        ValueError: if M is below one.
    """

    is_density = True
    draws_noise, returns_samples = True, True

    def __init__(self, num_noise_samples: int = 128) -> None:
        check_count("num_noise_samples", num_noise_samples)
        self.num_noise_samples = num_noise_samples

    def __call__(self, f: BatchScorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss.

        Args:
            f: evaluates boxes near the true ones.
            noise: bound to the true boxes.

        Returns:
            Loss per true box; logs ``effective_share`` of the samples.
        """
        samples = noise.sample(self.num_noise_samples)
        values, log_q = f(samples.boxes), samples.log_q[:, 1:]
        loss = mlis_loss(values[:, 0], values[:, 1:], log_q)
        logged = {"effective_share": effective_share(values[:, 1:], log_q)}
        return TrainingLoss(loss, logged, samples, values.detach())


@register
class KLDISLoss:
    """Trains f by :func:`kldis_loss` towards a Gaussian of residuals around the true box.

    Args:
        num_noise_samples: M per true box.
        target_std: of the Gaussian, in standard deviations of the noise. At 0.5, the narrowest of
            the three components of the default ``BoxNoise``, the weights of the target are at
            most 3 under that noise. Where it is one share of the noise they are at most 3 over
            that share: 6 with a ``DetectionNoise``, 12 with a ``LearnedProposal``. Source: our own;
            published is 0.3 times the middle of three components (BMVC 2020, detection in images,
            four dimensions).

    Attributes:
        is_density: f becomes an unnormalized log density.
        draws_noise, returns_samples: as in :class:`ebm3d.losses.training.TrainingMethod`.

    Raises:
        ValueError: if M is below one or the standard deviation is not positive and finite.
    """

    is_density = True
    draws_noise, returns_samples = True, True

    def __init__(self, num_noise_samples: int = 128, target_std: float = 0.5) -> None:
        check_count("num_noise_samples", num_noise_samples)
        check_positive("target_std", target_std)
        self.num_noise_samples, self.target_std = num_noise_samples, target_std

    def __call__(self, f: BatchScorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss.

        Args:
            f: evaluates boxes near the true ones.
            noise: bound to the true boxes.

        Returns:
            Loss per true box; logs ``effective_share`` of the samples.
        """
        samples = noise.sample(self.num_noise_samples)
        values, log_q = f(samples.boxes), samples.log_q[:, 1:]
        loss = kldis_loss(values[:, 1:], log_q, self.target_log_prob(noise, samples.boxes[:, 1:]))
        logged = {"effective_share": effective_share(values[:, 1:], log_q)}
        return TrainingLoss(loss, logged, samples, values.detach())

    def target_log_prob(self, noise: NoiseAround, boxes: Tensor) -> Tensor:
        """Return the log density of the target.

        Args:
            noise: bound to N true boxes.
            boxes: ``(N, S, 7)``.

        Returns:
            ``(N, S)`` nats, in meters and radians.
        """
        coding = LocalCoding(noise.boxes, noise.noise_std * self.target_std)
        residuals, log_volume = coding.encode(boxes), coding.log_volume(boxes)
        return -0.5 * residuals.square().sum(-1) - 3.5 * math.log(2 * math.pi) - log_volume


def _check_true(f_true: Tensor, f: Tensor) -> None:
    """Raise unless there is one f of a true value for each set of samples."""
    if f.ndim == 0 or f_true.shape != f.shape[:-1]:
        raise shape_error("f_true", f"{tuple(f.shape[:-1])}, like f without its samples", f_true)
