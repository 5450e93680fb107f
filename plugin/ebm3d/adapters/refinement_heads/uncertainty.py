"""Densities of boxes from the energy around them."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ebm3d.densities import BoxDistribution, DecodedDensity
from ebm3d.energy import BoundNetwork, sample_posterior
from ebm3d.noise import BoxNoise
from ebm3d.refiners import laplace_approximation

METHODS = ("laplace", "importance")
_NUM_SAMPLES, _NUM_ROUNDS = 256, 4  # of "importance"


@torch.no_grad()
def energy_distribution(
    method: str, energy: BoundNetwork, boxes: Tensor, noise: BoxNoise
) -> BoxDistribution:
    """Return Gaussian densities of boxes whose point estimates are the boxes.

    Of period pi in the yaw, as those of ``RegressionRefinementHead``: f is trained around true
    boxes and knows nothing of detections whose front and rear are exchanged.

    Args:
        method: "laplace": from the curvature of f at the box (M-30); "importance": the moments of
            weighted samples around it (M-20), 20 times as slow or more.
        energy: bound to N boxes.
        boxes: ``(N, 7)`` refined.
        noise: as wide as the errors f can tell apart.

    Returns:
        N densities; the same for the same input: samples are of a fixed seed.
    """
    if method == "laplace" or len(boxes) == 0:
        units = noise.class_stds(energy.labels).to(boxes)
        return laplace_approximation(energy, boxes, units).distribution(math.pi)
    generator = torch.Generator(boxes.device).manual_seed(0)
    posterior = sample_posterior(
        energy, boxes, energy.labels, noise, _NUM_SAMPLES, _NUM_ROUNDS, generator
    )
    found = posterior.gaussian(math.pi)
    density = DecodedDensity(found.density, torch.zeros_like(found.density.mean))
    return replace(found, density=density).to(boxes.dtype)
