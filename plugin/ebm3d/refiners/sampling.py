"""Langevin samples of boxes from exp f.

N boxes; K samples of each; D = 7 residuals t in units of the noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.devices import standard_normal
from ebm3d.errors import check_count
from ebm3d.refiners.langevin import langevin
from ebm3d.refiners.laplace import LaplaceApproximation
from ebm3d.refiners.residual_density import ResidualDensity, VariantScorer


def sample_boxes(
    f: VariantScorer,
    laplace: LaplaceApproximation,
    num_samples: int,
    num_steps: int = 50,
    step_size: float = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draw boxes from exp f near a mode, by Langevin chains.

    .. math:: t = \mu + L z, \qquad z \leftarrow z + \frac{\lambda^2}{2} \nabla_z h(\mu + L z)
        + \lambda \epsilon, \qquad z_0, \epsilon \sim \mathcal N(0, I)

    The chains run in coordinates z in which the Laplace approximation is the standard normal, so
    that one step size suits wide and narrow directions, and they start from it. As h is the log
    density of residuals, the boxes are samples of exp f in meters and radians. docs/method.md,
    M-23 and M-30. No step is refused: where h is the approximation's, variances come out larger by
    :math:`1 / (1 - \lambda^2 / 4)`, 7 % for the default.

    Args:
        f: evaluates K variants of each box, ``(N, K, 7)`` to ``(N, K)``.
        laplace: of N boxes.
        num_samples: K, at least 1: chains of each box.
        num_steps: of each chain; 0 draws from the approximation.
        step_size: lambda, at most 2 in theory.
        generator: source of randomness on the device of the boxes.

    Returns:
        ``(K, N, 7)`` boxes, yaw in (-pi, pi].

    Raises:
        ValueError: for constants out of range, or as :func:`langevin`.
    """
    check_count("num_samples", num_samples)
    log_density = ResidualDensity(f, laplace.coding)
    mean, root = laplace.mean, laplace.scale_tril

    def residuals(white: Tensor) -> Tensor:
        return mean + torch.einsum("nij,knj->kni", root, white)

    def h(white: Tensor) -> Tensor:
        return log_density(residuals(white).transpose(0, 1)).transpose(0, 1)

    start = standard_normal((num_samples, *mean.shape), mean, generator)
    white = langevin(h, start, step_size, num_steps, generator=generator)
    return laplace.coding.decode(residuals(white))
