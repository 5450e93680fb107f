"""Densities of boxes from the energy around them."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from ebm3d.densities import BoxDistribution
from ebm3d.energy.normalized_energy import NormalizedEnergy

METHODS = ("laplace", "importance")
_NUM_SAMPLES, _NUM_ROUNDS = 256, 4  # of "importance"


@torch.no_grad()
def energy_distribution(method: str, normalized: NormalizedEnergy) -> BoxDistribution:
    """Return Gaussian densities of boxes whose point estimates are the boxes.

    Their yaw has period pi: f, trained around true boxes, says nothing of headings flipped by pi.

    Args:
        method: "laplace": from the curvature of f at the box (M-30); "importance": the moments of
            weighted samples around it (M-20), 20 times as slow or more.
        normalized: f around N refined boxes.

    Returns:
        N densities; samples are of a fixed seed.
    """
    boxes = normalized.boxes
    if method == "laplace" or len(boxes) == 0:
        return normalized.laplace.distribution(math.pi)
    gaussian = normalized.posterior(_NUM_SAMPLES, _NUM_ROUNDS).gaussian(math.pi)
    density = gaussian.density.with_point(torch.zeros_like(gaussian.density.mean))
    return replace(gaussian, density=density).to(boxes.dtype)
