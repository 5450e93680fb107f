"""What stands along a street: trees, bushes, poles, buildings, containers; sizes in meters.

Shapes stand on z = 0 around the origin. Containers and bushes have the sizes of cars on purpose.
"""

from __future__ import annotations

import numpy as np

from ebm3d.simulation.materials import Material
from ebm3d.simulation.solids import Shape, box, cylinder, ellipsoid, union


def tree(generator: np.random.Generator) -> Shape:
    """Build a trunk with a crown of overlapping porous ellipsoids."""
    height = generator.uniform(4.0, 11.0)
    spread = height * generator.uniform(0.18, 0.32)
    clear = height * generator.uniform(0.25, 0.4)
    radius = generator.uniform(0.08, 0.3)
    parts = [cylinder((0, 0, 0), (0, 0, 0.7 * height), radius, Material.BARK)]
    for _ in range(4):
        x, y = generator.uniform(-0.5, 0.5, 2) * spread
        z = generator.uniform(clear + 0.3 * spread, height)
        radii = spread * generator.uniform(0.5, 0.9, 3)
        radii[2] = min(radii[2], z - clear * 0.8)
        parts.append(ellipsoid((x, y, z), radii.tolist(), Material.LEAVES))
    return union(parts)


def bush(generator: np.random.Generator) -> Shape:
    """Build a bush, from knee height to the size of a car."""
    length, width = generator.uniform(0.6, 4.5), generator.uniform(0.6, 1.9)
    height = generator.uniform(0.6, 1.9)
    parts = []
    for x in np.linspace(-0.5, 0.5, 3) * max(length - width, 0.1):
        radii = generator.uniform(0.8, 1.1, 3) * (width / 2, width / 2, height / 2)
        parts.append(ellipsoid((x, 0, 0.9 * radii[2]), radii.tolist(), Material.HEDGE))
    return union(parts)


def pole(generator: np.random.Generator) -> Shape:
    """Build a lamp post, or a post with a sign."""
    radius = generator.uniform(0.04, 0.15)
    height = generator.uniform(2.2, 8.0)
    post = cylinder((0, 0, 0), (0, 0, height), radius, Material.METAL)
    if generator.random() < 0.5:
        return post
    half, top = generator.uniform(0.2, 0.45), min(height, 3.2)
    low, high = (-radius - 0.02, -half, top - 2 * half), (-radius, half, top)
    return union([post, box(low, high, Material.METAL)])


def container(generator: np.random.Generator) -> Shape:
    """Build a skip, dumpster, cabinet or trailer: a body with slanted ends, on feet or wheels."""
    length, width = generator.uniform(1.0, 5.5), generator.uniform(0.8, 2.2)
    height, feet = generator.uniform(0.9, 2.3), generator.uniform(0.0, 0.4)
    ground = (-length * 0.35, -width * 0.3, 0.0), (length * 0.35, width * 0.3, feet + 0.05)
    body = (-length / 2, -width / 2, feet), (length / 2, width / 2, height)
    parts = [box(*body, Material.BODY), box(*ground, Material.METAL)]
    if generator.random() < 0.4:
        cover = (-length * 0.2, -width * 0.4, height), (length * 0.3, width * 0.4, height + 0.4)
        parts.append(box(*cover, Material.BODY))
    return union(parts)


def building(length: float, depth: float, generator: np.random.Generator) -> Shape:
    """Build a house of which one long side, along x, lies at y = 0 and the rest at y > 0."""
    height = generator.uniform(4.0, 12.0)
    half = length / 2
    material = Material.BRICK if generator.random() < 0.5 else Material.CONCRETE
    parts = [box((-half, 0, -1.0), (half, depth, height), material)]
    for x in np.arange(-half + 1.5, half - 1.5, generator.uniform(2.5, 4.5)):
        sill = generator.uniform(0.6, 1.2)
        width, jut = generator.uniform(0.5, 0.9), generator.uniform(0.05, 0.3)
        low, high = (x - width, -jut, sill), (x + width, 0, sill + 1.4)
        parts.append(box(low, high, material))
    return union(parts)


def wall(length: float, generator: np.random.Generator) -> Shape:
    """Build a garden wall or a hedge along x."""
    height = generator.uniform(0.7, 2.2)
    hedge = generator.random() < 0.5
    half = generator.uniform(0.3, 0.6) if hedge else generator.uniform(0.08, 0.2)
    material = Material.HEDGE if hedge else Material.CONCRETE
    return box((-length / 2, -half, -0.5), (length / 2, half, height), material)
