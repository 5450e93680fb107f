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

    Of period pi in the yaw, as those of ``RegressionRefinementHead``: f is trained around true
    boxes and knows nothing of detections whose front and rear are exchanged.

    Args:
        method: "laplace": from the curvature of f at the box (M-30); "importance": the moments of
            weighted samples around it (M-20), 20 times as slow or more.
        normalized: f around N refined boxes.

    Returns:
        N densities; the same for the same input: samples are of a fixed seed.
    """
    boxes = normalized.boxes
    if method == "laplace" or len(boxes) == 0:
        return normalized.laplace.distribution(math.pi)
    found = normalized.posterior(_NUM_SAMPLES, _NUM_ROUNDS).gaussian(math.pi)
    density = found.density.with_point(torch.zeros_like(found.density.mean))
    return replace(found, density=density).to(boxes.dtype)
