"""Roads of a drive and the terrain around them, in the global frame.

Positions along a road: s along its center line, lateral to the left of it, meters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
CELL = 0.4  # m, of the terrain
LANE = 3.5  # m, width
PARKING = 2.4  # m, width of the strip between lanes and curb
_STEP = 0.5  # m, between two positions of a road
_CURB = 0.12  # m


class Road(NamedTuple):
    """A center line with lanes on both sides."""

    s: FloatArray  # (K,), meters, increasing
    xy: FloatArray  # (K, 2)
    heading: FloatArray  # (K,), radians, not wrapped
    num_lanes: int  # a direction

    @property
    def curb(self) -> float:
        """Lateral position of the left curb; the right one is opposite."""
        return LANE * self.num_lanes + PARKING

    def poses(self, s: FloatArray | float, lateral: FloatArray | float) -> FloatArray:
        """Return x, y, heading of positions, shape ``(..., 3)``."""
        x, y, heading = (np.interp(s, self.s, v) for v in (*self.xy.T, self.heading))
        return np.stack([x - lateral * np.sin(heading), y + lateral * np.cos(heading), heading], -1)


class Terrain(NamedTuple):
    """Heights and surfaces of square cells, row i, column j at ``origin + CELL * (j, i)``."""

    origin: FloatArray  # (2,), x, y
    heights: FloatArray  # (H, W), meters
    outside: FloatArray  # (H, W), meters to the nearest curb, negative on a road


def draw_road(generator: np.random.Generator, start: FloatArray) -> tuple[Road, float]:
    """Draw a straight, curved or turning road and the smallest radius of its curve, meters."""
    s = np.arange(-160.0, 260.0, _STEP)
    kind = generator.choice(["straight", "curve", "turn"], p=[0.35, 0.4, 0.25])
    curvature, radius = np.zeros_like(s), np.inf
    if kind != "straight":
        radius = generator.uniform(30, 90) if kind == "curve" else generator.uniform(14, 20)
        length = generator.uniform(25, 60) if kind == "curve" else radius * np.pi / 2
        first = generator.uniform(-25, 15)
        curvature[(s >= first) & (s < first + length)] = generator.choice([-1.0, 1.0]) / radius
        window = np.hanning(19)
        curvature = np.convolve(curvature, window / window.sum(), mode="same")
    heading = generator.uniform(-np.pi, np.pi) + np.cumsum(curvature) * _STEP
    xy = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * _STEP, axis=0)
    xy += start - xy[np.searchsorted(s, 0.0)]
    return Road(s, xy, heading, int(generator.integers(1, 3))), float(radius)


def crossing_road(road: Road, s: float, generator: np.random.Generator) -> Road:
    """A straight road that crosses another at a right angle, its s = 0, in the middle."""
    x, y, heading = road.poses(s, 0.0)
    along = np.arange(-180.0, 180.0, _STEP)
    angle = np.full_like(along, heading + np.pi / 2)
    xy = np.array([x, y]) + along[:, None] * [np.cos(angle[0]), np.sin(angle[0])]
    return Road(along, xy, angle, int(generator.integers(1, 3)))


def draw_terrain(
    roads: list[Road], low: FloatArray, high: FloatArray, generator: np.random.Generator
) -> Terrain:
    """Draw the terrain between two corners x, y: waves, curbs, slopes beyond the sidewalks."""
    x = np.arange(low[0], high[0], CELL)
    y = np.arange(low[1], high[1], CELL)
    outside = np.full((len(y), len(x)), np.inf)
    for road in roads:
        lower_distances(outside, low, road.xy, road.curb)
    heights = np.zeros_like(outside)
    for shortest, longest, slope in ((60, 160, 0.012),) * 3 + ((10, 40, 0.003),) * 3:
        wavelength = generator.uniform(shortest, longest)
        direction, phase = generator.uniform(0, 2 * np.pi, 2)
        amplitude = generator.normal(0, slope) * wavelength / (2 * np.pi)
        angle = np.cos(direction) * x[None, :] + np.sin(direction) * y[:, None]
        heights += amplitude * np.sin(2 * np.pi * angle / wavelength + phase)
    heights += _CURB * np.clip(outside / CELL + 0.5, 0, 1)
    heights += generator.normal(0.01, 0.03) * np.clip(outside - 4.0, 0, 15)
    return Terrain(np.asarray(low, dtype=np.float64), heights, outside)


@njit(cache=True)
def lower_distances(outside: FloatArray, origin: FloatArray, xy: FloatArray, curb: float) -> None:
    """Lower distances of cells to the nearest curb by those to a road's, up to 30 m."""
    reach = curb + 30.0
    cells = int(reach / CELL) + 1
    for k in range(0, len(xy), 2):
        column, row = (xy[k, 0] - origin[0]) / CELL, (xy[k, 1] - origin[1]) / CELL
        for i in range(max(0, int(row) - cells), min(outside.shape[0], int(row) + cells + 1)):
            for j in range(max(0, int(column) - cells), min(outside.shape[1], int(column) + cells)):
                distance = np.hypot((i - row) * CELL, (j - column) * CELL) - curb
                outside[i, j] = min(outside[i, j], distance)


@njit(cache=True)
def height(x: float, y: float, terrain: Terrain) -> float:
    """Height at a position, linear between cells; outside the terrain that of its border."""
    rows, columns = terrain.heights.shape
    u = min(max((x - terrain.origin[0]) / CELL, 0.0), columns - 1.000001)
    v = min(max((y - terrain.origin[1]) / CELL, 0.0), rows - 1.000001)
    j, i = int(u), int(v)
    u, v = u - j, v - i
    table = terrain.heights
    lower = table[i, j] * (1 - u) + table[i, j + 1] * u
    upper = table[i + 1, j] * (1 - u) + table[i + 1, j + 1] * u
    return float(lower * (1 - v) + upper * v)


@njit(cache=True)
def distance_to_road(x: float, y: float, terrain: Terrain) -> float:
    """Meters from a position to the nearest curb, negative on a road."""
    rows, columns = terrain.outside.shape
    j = int(min(max((x - terrain.origin[0]) / CELL, 0.0), columns - 1.0))
    i = int(min(max((y - terrain.origin[1]) / CELL, 0.0), rows - 1.0))
    return float(terrain.outside[i, j])


@njit(cache=True)
def heights_at(xy: FloatArray, terrain: Terrain) -> FloatArray:
    """Heights at positions ``(N, 2)``, shape ``(N,)``."""
    result = np.empty(len(xy))
    for i in range(len(xy)):
        result[i] = height(xy[i, 0], xy[i, 1], terrain)
    return result
