"""The ground: a road with curbs and verges, slightly uneven and sloped.

Height is that of a profile along the road plus that of a cross-section, interpolated linearly in
tables, at positions in the LiDAR frame, meters, with h the heading of the road:

    z(x, y) = along[s] + across[lateral]
    s = x cos h + y sin h,   lateral = -x sin h + y cos h
"""

from __future__ import annotations

from math import cos, sin
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
SPACING = 0.1  # m between two entries of the tables
_REACH = 125.0  # m; the tables hold positions from -_REACH to _REACH
_ROUGHNESS = 4  # number of waves along the road


class Ground(NamedTuple):
    """Tables of the ground, see the module, and the lateral positions of the road's edges."""

    along: FloatArray  # (T,), height of the profile along the road, meters
    across: FloatArray  # (T,), height of the cross-section, meters
    heading_cos: float
    heading_sin: float
    right_curb: float  # meters, negative
    left_curb: float  # positive


def draw_ground(
    heading: float,
    right_curb: float,
    left_curb: float,
    sensor_height: float,
    generator: np.random.Generator,
) -> Ground:
    """Draw a ground that lies ``sensor_height`` below the sensor at the origin."""
    table = np.arange(-_REACH, _REACH + SPACING / 2, SPACING)
    along = generator.normal(0, 0.008) * table
    # A hill or a hollow begins at some distance: the change of slope is what detectors meet.
    along += generator.normal(0, 0.010) * np.maximum(table - generator.uniform(5, 40), 0)
    for _ in range(_ROUGHNESS):
        wavelength = generator.uniform(8, 60)
        amplitude = generator.normal(0, 0.0008) * wavelength
        phase = generator.uniform(0, 2 * np.pi)
        along += amplitude * np.sin(2 * np.pi * table / wavelength + phase)
    camber = generator.uniform(0.0, 0.02)
    middle = (left_curb + right_curb) / 2
    outside = np.maximum(table - left_curb, right_curb - table)
    across = generator.normal(0, 0.008) * table
    across -= camber * np.minimum(np.abs(table - middle), (left_curb - right_curb) / 2)
    across += generator.uniform(0.03, 0.16) * np.clip(outside / 0.15 + 0.5, 0, 1)
    for side in (table - left_curb, right_curb - table):
        across += generator.normal(0.01, 0.03) * np.clip(side - generator.uniform(2, 6), 0, 12)
    along -= along[len(table) // 2]
    across -= across[len(table) // 2]
    along -= sensor_height
    return Ground(along, across, cos(heading), sin(heading), float(right_curb), float(left_curb))


@njit(cache=True)
def ground_height(x: float, y: float, ground: Ground) -> float:
    """Height of the ground at a position; outside the tables that of their ends."""
    s = x * ground.heading_cos + y * ground.heading_sin
    lateral = -x * ground.heading_sin + y * ground.heading_cos
    return _interpolate(ground.along, s) + _interpolate(ground.across, lateral)


@njit(cache=True)
def ground_heights(positions: FloatArray, ground: Ground) -> FloatArray:
    """Height of the ground at positions (x, y), shape ``(N, 2)``; shape ``(N,)``, meters."""
    heights = np.empty(len(positions))
    for i in range(len(positions)):
        heights[i] = ground_height(positions[i, 0], positions[i, 1], ground)
    return heights


@njit(cache=True)
def _interpolate(table: FloatArray, position: float) -> float:
    """Linear interpolation in a table centered on position zero."""
    cell = min(max(position / SPACING + (len(table) - 1) / 2, 0.0), len(table) - 1.000001)
    index = int(cell)
    share = cell - index
    return float(table[index] * (1 - share) + table[index + 1] * share)


@njit(cache=True)
def is_road(x: float, y: float, ground: Ground) -> bool:
    """Whether a position lies between the curbs."""
    lateral = -x * ground.heading_sin + y * ground.heading_cos
    return bool(ground.right_curb < lateral < ground.left_curb)


@njit(cache=True)
def cast_ground(dx: float, dy: float, dz: float, max_range: float, ground: Ground) -> float:
    """First distance at which a ray from the origin meets the ground; infinite if none.

    Marches by the height left over the steepest descent, at least 0.5 m, then bisects to 1 mm. A
    curb is a step up that stays, so it cannot be jumped over.
    """
    before, distance = 0.0, 0.5
    slope = abs(dz) + 0.15
    while distance < max_range:
        gap = distance * dz - ground_height(distance * dx, distance * dy, ground)
        if gap <= 0.0:
            low, high = before, distance
            while high - low > 1e-3:
                middle = 0.5 * (low + high)
                if middle * dz > ground_height(middle * dx, middle * dy, ground):
                    low = middle
                else:
                    high = middle
            return 0.5 * (low + high)
        before = distance
        distance += max(0.5, gap / slope)
    return np.inf


@njit(cache=True)
def ground_incidence(x: float, y: float, dx: float, dy: float, dz: float, ground: Ground) -> float:
    """Cosine of the angle between a ray and the ground's normal, from slopes over 0.4 m."""
    slope_x = (ground_height(x + 0.2, y, ground) - ground_height(x - 0.2, y, ground)) / 0.4
    slope_y = (ground_height(x, y + 0.2, ground) - ground_height(x, y - 0.2, ground)) / 0.4
    norm = np.sqrt(1.0 + slope_x**2 + slope_y**2)
    return abs(-slope_x * dx - slope_y * dy + dz) / norm
