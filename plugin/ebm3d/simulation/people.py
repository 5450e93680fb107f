"""Pedestrians and cyclists: limbs, trunk and head; built facing +x, fitted to the wanted box."""

from __future__ import annotations

import numpy as np

from ebm3d.simulation.materials import Material
from ebm3d.simulation.solids import Shape, Size, cylinder, ellipsoid, fit_to_box, union


def pedestrian(size: Size, generator: np.random.Generator) -> Shape:
    """Build a standing or walking person; a long box (length, width, height) is a long stride."""
    length, _, height = size
    reach = max(length / 2 - 0.15, 0.02) * generator.uniform(0.8, 1.2)
    side = 1.0 if generator.random() < 0.5 else -1.0
    hip, shoulder = 0.50 * height, 0.80 * height
    parts = [
        ellipsoid((0, 0, 0.93 * height), (0.10, 0.085, 0.07 * height), Material.SKIN),
        ellipsoid((0, 0, 0.67 * height), (0.13, 0.20, 0.20 * height), Material.BODY),
    ]
    for sign in (1.0, -1.0):
        swing = sign * side * reach
        foot = (swing, 0.1 * sign, 0.03)
        hand = (-0.8 * swing, 0.25 * sign, 0.48 * height)
        parts.append(cylinder((0, 0.09 * sign, hip), foot, 0.075, Material.BODY))
        parts.append(cylinder((0, 0.20 * sign, shoulder), hand, 0.045, Material.BODY))
    return fit_to_box(union(parts), size)


def cyclist(size: Size, generator: np.random.Generator) -> Shape:
    """Build a person on a bicycle."""
    length, _, height = size
    radius = 0.33 * generator.uniform(0.95, 1.05)
    axle = length / 2 - radius
    saddle, shoulder = 0.56 * height, 0.82 * height
    lean = generator.uniform(0.1, 0.3)
    knee = generator.uniform(-0.1, 0.1)
    parts = [
        ellipsoid((lean + 0.08, 0, 0.93 * height), (0.11, 0.09, 0.07 * height), Material.SKIN),
        cylinder((-0.2, 0, saddle), (lean, 0, shoulder), 0.16, Material.BODY),
        cylinder((-axle, 0, radius), (-0.1, 0, 0.5 * height), 0.025, Material.METAL),
        cylinder((-0.1, 0, 0.5 * height), (axle, 0, radius + 0.2), 0.025, Material.METAL),
    ]
    for x in (-axle, axle):
        parts.append(cylinder((x, -0.02, radius), (x, 0.02, radius), radius, Material.SPOKES))
    for sign in (1.0, -1.0):
        pedal = (0.1 - knee * sign, 0.12 * sign, 0.15 + radius / 2 + knee * sign)
        hand = (axle - 0.15, 0.25 * sign, 0.6 * height)
        parts.append(cylinder((-0.15, 0.1 * sign, saddle), pedal, 0.075, Material.BODY))
        parts.append(cylinder((lean, 0.2 * sign, shoulder), hand, 0.045, Material.BODY))
    return fit_to_box(union(parts), size)
