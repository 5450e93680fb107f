"""Langevin dynamics: samples of exp f from its gradient.

N boxes; K samples of each; D residuals t in units of the noise: 7, or 9 with velocities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.devices import standard_normal
from ebm3d.errors import check_count, check_positive, input_error, is_number
from ebm3d.refiners.laplace import LaplaceApproximation
from ebm3d.refiners.scorers import ResidualDensity, Scorer, value_and_gradient


def langevin(
    f: Scorer,
    start: Tensor,
    step_size: float,
    num_steps: int,
    noise_scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Run unadjusted Langevin chains, one from each point.

    .. math:: y \leftarrow y + \frac{\lambda^2}{2}\nabla f(y) + \gamma\lambda\,\epsilon,
        \quad \epsilon \sim \mathcal N(0, I)

    Source: Gustafsson et al., "How to Train Your Energy-Based Model for Regression", BMVC 2020;
    Roberts and Tweedie, Bernoulli 1996. docs/method.md, M-23. No step is refused: for
    :math:`f = -\frac k2 y^2` the variance becomes :math:`\gamma^2 / (k\,(1 - \lambda^2 k / 4))`
    instead of 1 / k, and the chain diverges where :math:`\lambda^2 k \ge 4`.

    Args:
        f: from ``(..., D)`` to ``(...)``, every point by itself; differentiable.
        start: ``(..., D)``; returned after the last step, without a graph and in any grad mode.
        step_size: lambda, in units of y.
        num_steps: L; 0 returns the start.
        noise_scale: gamma, 1 for samples of exp f, 0 for gradient ascent.
        generator: source of randomness on the device of ``start``.
    """
    check_positive("step_size", step_size)
    check_count("num_steps", num_steps, least=0)
    if not (is_number(noise_scale) and noise_scale >= 0):
        raise input_error("noise_scale", "at least 0 and finite", noise_scale)
    current = start.detach()
    for _ in range(num_steps if start.numel() else 0):
        _, gradient = value_and_gradient(f, current, "y")
        noise = standard_normal(tuple(current.shape), current, generator)
        drift = 0.5 * step_size**2 * gradient
        current = current + drift + noise_scale * step_size * noise
    return current


def sample_boxes(
    f: Scorer,
    laplace: LaplaceApproximation,
    num_samples: int,
    num_steps: int = 50,
    step_size: float = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draw boxes from exp f near a mode, by Langevin chains.

    .. math:: t = \mu + L z, \qquad z \leftarrow z + \frac{\lambda^2}{2} \nabla_z h(\mu + L z)
        + \lambda \epsilon, \qquad z_0, \epsilon \sim \mathcal N(0, I)

    In z the Laplace approximation is the standard normal, from which the chains start. For a
    Gaussian exp f, variances come out larger by :math:`1 / (1 - \lambda^2 / 4)`, 7 % for the
    default. docs/method.md, M-23 and M-30.

    Args:
        f: evaluates boxes ``(N, K, D)``.
        laplace: of N boxes.
        num_samples: K, chains of each box; returns ``(N, K, D)``, yaw in (-pi, pi].
        num_steps: of each chain; 0 draws from the approximation.
        step_size: lambda, at most 2 in theory.
        generator: source of randomness on the device of the boxes.
    """
    check_count("num_samples", num_samples)
    mean, root = laplace.mean[:, None], laplace.scale_tril
    log_density = ResidualDensity(f, laplace.coding)

    def residuals(z: Tensor) -> Tensor:
        return mean + z @ root.mT

    start = standard_normal((len(mean), num_samples, mean.shape[-1]), mean, generator)
    z = langevin(lambda z: log_density(residuals(z)), start, step_size, num_steps, 1.0, generator)
    return laplace.coding.decode(residuals(z))
