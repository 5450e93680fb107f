"""Langevin dynamics: samples of exp f from its gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ebm3d.devices import standard_normal
from ebm3d.errors import check_count, check_positive, input_error, is_number
from ebm3d.refiners.ascent import value_and_gradient


def langevin(
    f: Callable[[Tensor], Tensor],
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
    Roberts and Tweedie, Bernoulli 1996. docs/method.md, M-23. For small steps and many of them the
    samples are those of exp f. No step is refused, so for a finite step they are a little too wide:
    for :math:`f = -\frac k2 y^2` the variance becomes
    :math:`\frac{\gamma^2}{k\,(1 - \lambda^2 k / 4)}` instead of 1 / k, and the chain diverges where
    :math:`\lambda^2 k \ge 4`.

    Args:
        f: from ``(..., D)`` to ``(...)``, every point by itself; differentiable.
        start: ``(..., D)``.
        step_size: lambda, in units of y; positive.
        num_steps: L; 0 returns the start.
        noise_scale: gamma, 1 for samples of exp f, 0 for gradient ascent.
        generator: source of randomness on the device of ``start``.

    Returns:
        ``(..., D)`` where the chains are after the last step; without a graph. Runs also under
        ``torch.no_grad``.

    Raises:
        ValueError: for constants out of range, or if f gives another shape or cannot be
            differentiated.
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
