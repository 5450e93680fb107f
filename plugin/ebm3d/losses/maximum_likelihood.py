"""Maximum likelihood with samples of the energy itself."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.errors import check_count, check_positive, shape_error
from ebm3d.losses.training import NoiseAround, TrainingLoss
from ebm3d.refiners.langevin import langevin
from ebm3d.refiners.scorers import ResidualDensity, Scorer
from ebm3d.registry import register


def mcmc_loss(f_true: Tensor, f_samples: Tensor) -> Tensor:
    r"""Contrast of the true value with samples of exp f (ML-MCMC).

    .. math:: L = \frac1M\sum_{m=1}^{M} f(\tilde y_m) - f(y), \quad \tilde y_m \sim e^f / Z

    With exact samples, held fixed, its gradient is an unbiased estimate of that of the negative
    log-likelihood; its value says nothing. Source: Gustafsson et al., "How to Train Your
    Energy-Based Model for Regression", BMVC 2020, where the samples come from short runs of
    :func:`ebm3d.refiners.langevin` that start at the true value: contrastive divergence (Hinton,
    2002). docs/method.md, M-23.

    f of the true values ``(...)`` and of the samples ``(..., M)``; returns ``(...)``.
    """
    if f_samples.ndim == 0 or f_samples.shape[-1] < 1:
        raise shape_error("f_samples", "(..., M) with M >= 1 samples", f_samples)
    if f_true.shape != f_samples.shape[:-1]:
        expected = f"{tuple(f_samples.shape[:-1])}, like f_samples without its last axis"
        raise shape_error("f_true", expected, f_true)
    return f_samples.mean(dim=-1) - f_true


@register
class MLMCMCLoss:
    """Trains f by :func:`mcmc_loss` with Langevin chains that start at the true boxes.

    Costs ``num_steps`` gradients of f in ``num_chains`` boxes before the step of training. Logs
    ``displacement``, the root mean square of the chains' residuals in units of the noise:
    ``step_size * sqrt(num_steps)`` while f is flat.

    Args:
        num_steps: L of each chain.
        step_size: lambda, in standard deviations of the noise.
        num_chains: per true box.
    """

    is_density, returns_samples = True, False

    def __init__(self, num_steps: int = 16, step_size: float = 0.1, num_chains: int = 8) -> None:
        check_count("num_steps", num_steps)
        check_count("num_chains", num_chains)
        check_positive("step_size", step_size)
        self.num_steps, self.step_size, self.num_chains = num_steps, step_size, num_chains

    def __call__(self, f: Scorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss per true box; no noise is drawn."""
        log_density = ResidualDensity(f, LocalCoding(noise.boxes, noise.noise_std))
        start = noise.boxes.new_zeros(len(noise.boxes), self.num_chains, 7)
        chains = langevin(
            log_density, start, self.step_size, self.num_steps, generator=noise.generator
        )
        values = log_density(torch.cat((start[:, :1], chains), dim=1))
        loss = mcmc_loss(values[:, 0], values[:, 1:])
        return TrainingLoss(loss, {"displacement": chains.square().mean(dim=(1, 2)).sqrt()})
