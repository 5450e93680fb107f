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

    Its gradient estimates that of the negative log-likelihood; its value says nothing. Source:
    Gustafsson et al., "How to Train Your Energy-Based Model for Regression", BMVC 2020, with
    samples of :func:`ebm3d.refiners.langevin` from the true value. docs/method.md, M-23.
    f of the true values ``(...)`` and of the samples ``(..., M)``; returns ``(...)``.
    """
    if f_samples.ndim == 0 or f_samples.shape[-1] < 1:
        raise shape_error("f_samples", "(..., M) with M >= 1 samples", f_samples)
    if f_true.shape != f_samples.shape[:-1]:
        raise shape_error("f_true", f"{tuple(f_samples.shape[:-1])} as f_samples", f_true)
    return f_samples.mean(dim=-1) - f_true


@register
class MLMCMCLoss:
    """Trains f by :func:`mcmc_loss` with Langevin chains that start at the true boxes.

    ``num_chains`` chains per true box take ``num_steps`` steps of ``step_size`` standard deviations
    of the noise. Logs ``displacement``, the root mean square of their residuals in these units:
    ``step_size * sqrt(num_steps)`` while f is flat.
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
        num, columns = noise.boxes.shape
        start = noise.boxes.new_zeros(num, self.num_chains, columns)
        sizes = self.step_size, self.num_steps
        chains = langevin(log_density, start, *sizes, generator=noise.generator)
        values = log_density(torch.cat((start[:, :1], chains), dim=1))
        loss = mcmc_loss(values[:, 0], values[:, 1:])
        return TrainingLoss(loss, {"displacement": chains.square().mean(dim=(1, 2)).sqrt()})
