"""Likelihoods of an energy with an importance-sampled normalizer: ML-IS and KLD-IS.

Of M samples of a density q, f and log q are ``(..., M)``, and f of the true value ``(...)``; nats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.errors import check_count, check_positive, shape_error
from ebm3d.losses.training import NoiseAround, TrainingLoss
from ebm3d.refiners.scorers import Scorer
from ebm3d.registry import register


def log_normalizer(f: Tensor, log_q: Tensor) -> Tensor:
    r"""Importance-sampled logarithm of the normalizer of exp f.

    .. math:: \log\hat Z = \log\frac1M\sum_{m=1}^{M} \exp\{f(\tilde y_m) - \log q(\tilde y_m)\},
        \quad \tilde y_m \sim q

    docs/method.md, M-22. Biased by about :math:`-\mathrm{Var}(w) / (2 M)`, of standard error
    :math:`\sqrt{\mathrm{Var}(w) / M}`, with w the weights over their mean.
    """
    if f.shape != log_q.shape:
        raise shape_error("log_q", f"{tuple(f.shape)} like f", log_q)
    if f.ndim == 0 or f.shape[-1] < 1:
        raise shape_error("f", "(..., M) with M >= 1 samples", f)
    return torch.logsumexp(f - log_q, dim=-1) - math.log(f.shape[-1])


def mlis_loss(f_true: Tensor, f: Tensor, log_q: Tensor) -> Tensor:
    r"""Negative log-likelihood with an importance-sampled normalizer (ML-IS).

    .. math:: L = \log\frac1M\sum_{m=1}^{M} \frac{e^{f(\tilde y_m)}}{q(\tilde y_m)} - f(y)

    Source: Gustafsson et al., "Energy-Based Models for Deep Probabilistic Regression", ECCV 2020.
    docs/method.md, M-22. Biased downwards as :func:`log_normalizer` is.
    """
    normalizer = log_normalizer(f, log_q)
    if f_true.shape != normalizer.shape:
        expected = f"{tuple(normalizer.shape)}, like f without its samples"
        raise shape_error("f_true", expected, f_true)
    return normalizer - f_true


def kldis_loss(f: Tensor, log_q: Tensor, log_p: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence from a density p around the label, without its entropy (KLD-IS).

    .. math:: L = \log\frac1M\sum_{m=1}^{M} \frac{e^{f(\tilde y_m)}}{q(\tilde y_m)} -
        \frac1M\sum_{m=1}^{M} f(\tilde y_m)\, \frac{p(\tilde y_m | y)}{q(\tilde y_m)}

    Source: Gustafsson et al., "How to Train Your Energy-Based Model for Regression", BMVC 2020.
    docs/method.md, M-22. The weights p / q are not normalized, as published, and must not overflow.
    """
    if log_p.shape != f.shape:
        raise shape_error("log_p", f"{tuple(f.shape)} like f", log_p)
    return log_normalizer(f, log_q) - (f * torch.exp(log_p - log_q)).mean(dim=-1)


def effective_share(f: Tensor, log_q: Tensor) -> Tensor:
    r"""Effective sample size of the weights exp(f) / q, as a share of the samples.

    .. math:: \frac{(\sum_m w_m)^2}{M \sum_m w_m^2}, \quad w_m = e^{f(\tilde y_m)} / q(\tilde y_m)

    From 1 / M to 1, without a graph.
    """
    weights = torch.softmax((f - log_q).detach(), dim=-1)
    return 1 / (weights.square().sum(dim=-1) * weights.shape[-1])


def proposal_loss(f: Tensor, log_q: Tensor) -> Tensor:
    r"""Divergence of exp f from the proposal, by samples of the proposal, without log Z.

    .. math:: L(\phi) = \log\frac1M\sum_{m=1}^{M}
        \frac{e^{f(\tilde y_m)}}{q_\phi(\tilde y_m)}, \quad \tilde y_m \sim q_\phi

    with samples and f held fixed. Source: Gustafsson et al., "Learning Proposals for Practical
    Energy-Based Regression", AISTATS 2022. docs/method.md, M-26. Its gradient estimates that of
    :math:`\mathrm{KL}(e^f / Z \,\|\, q_\phi)` by self-normalized importance sampling.
    """
    return log_normalizer(f.detach(), log_q)


@register
class MLISLoss:
    """Trains f by :func:`mlis_loss` with M = ``num_noise_samples`` per true box.

    Logs their ``effective_share``.
    """

    is_density, returns_samples = True, True

    def __init__(self, num_noise_samples: int = 128) -> None:
        check_count("num_noise_samples", num_noise_samples)
        self.num_noise_samples = num_noise_samples

    def __call__(self, f: Scorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss per true box."""
        samples = noise.sample(self.num_noise_samples)
        values, log_q = f(samples.boxes), samples.log_q[:, 1:]
        loss = mlis_loss(values[:, 0], values[:, 1:], log_q)
        logged = {"effective_share": effective_share(values[:, 1:], log_q)}
        return TrainingLoss(loss, logged, samples, values.detach())


@register
class KLDISLoss:
    """Trains f by :func:`kldis_loss` towards a Gaussian of residuals around the true box.

    Logs the ``effective_share`` of the samples.

    Args:
        num_noise_samples: M per true box.
        target_std: of the Gaussian, in standard deviations of the noise. At 0.5, the narrowest
            component of the default ``BoxNoise``, its weights are at most 3 (under a
            ``LearnedProposal`` 12). Published is 0.3 times the middle one of three (BMVC 2020).
    """

    is_density, returns_samples = True, True

    def __init__(self, num_noise_samples: int = 128, target_std: float = 0.5) -> None:
        check_count("num_noise_samples", num_noise_samples)
        check_positive("target_std", target_std)
        self.num_noise_samples, self.target_std = num_noise_samples, target_std

    def __call__(self, f: Scorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss per true box."""
        samples = noise.sample(self.num_noise_samples)
        values, log_q = f(samples.boxes), samples.log_q[:, 1:]
        loss = kldis_loss(values[:, 1:], log_q, self.target_log_prob(noise, samples.boxes[:, 1:]))
        logged = {"effective_share": effective_share(values[:, 1:], log_q)}
        return TrainingLoss(loss, logged, samples, values.detach())

    def target_log_prob(self, noise: NoiseAround, boxes: Tensor) -> Tensor:
        """Log density p ``(N, S)`` of boxes ``(N, S, D)``, nats, in meters, radians and m/s."""
        coding = LocalCoding(noise.boxes, noise.noise_std * self.target_std)
        residuals, log_volume = coding.encode(boxes), coding.log_volume(boxes)
        log_peak = -boxes.shape[-1] / 2 * math.log(2 * math.pi)
        return -0.5 * residuals.square().sum(-1) + log_peak - log_volume
