"""Cast the rays of a spinning sensor at the solids of a scene and at its ground.

O objects; P solids of all objects, in the order of the objects; R rows of all solids (see
``solids``); B beams, C columns. All rays start at the origin of the LiDAR frame. A solid is
compared only with the rays inside the rectangle of azimuths and elevations that bounds it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ebm3d.simulation.ground import Ground, cast_ground, ground_incidence, is_road
from ebm3d.simulation.intersections import intersect
from ebm3d.simulation.materials import Material

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
GROUND = -1  # owner of an echo from the ground
NOTHING = -2
_GLASS, _ASPHALT, _VERGE = int(Material.GLASS), int(Material.ASPHALT), int(Material.VERGE)
_GOLDEN = 0.6180339887498949


class Solids(NamedTuple):
    """All solids of a scene, in the LiDAR frame; ``kinds`` to ``materials`` as in ``Shape``."""

    owner: IntArray  # (P,), index of the object, never decreasing
    kinds: IntArray  # (P,)
    starts: IntArray  # (P + 1,)
    rows: FloatArray  # (R, 4)
    materials: IntArray  # (R,)
    footprints: FloatArray  # (P, 4, 2), corners x, y of a rectangle around the solid from above
    heights: FloatArray  # (P, 2), lowest and highest z


class Rays(NamedTuple):
    """The directions of a sweep: column c looks to ``first_azimuth + c * azimuth_step``."""

    elevations: FloatArray  # (B,), radians, highest first
    first_azimuth: float  # radians
    azimuth_step: float  # radians
    num_columns: int  # C
    full_turn: int  # columns of 360 degrees, at least C
    max_range: float  # meters


class Sweep(NamedTuple):
    """What every ray meets first: an opaque surface, and a window pane before or behind it."""

    distance: FloatArray  # (B, C), meters to the nearest opaque surface, infinite if none
    owner: IntArray  # object of that surface, GROUND or NOTHING
    material: IntArray
    incidence: FloatArray  # cosine of the angle between ray and normal
    glass_distance: FloatArray  # to the nearest pane
    glass_owner: IntArray
    glass_incidence: FloatArray
    alone: IntArray  # (O,), number of rays that would meet an object if it stood alone


@njit(cache=True)
def bounding_rectangle(
    footprint: FloatArray, low: float, high: float
) -> tuple[float, float, float, float]:
    """Lowest and highest azimuth and elevation, radians, at which the origin sees a prism.

    Its footprint is a convex polygon ``(K, 2)``, corners in order; ``low`` and ``high`` bound z.
    Azimuths are not wrapped; the lowest is in [-2 pi, pi).
    """
    num = len(footprint)
    nearest, farthest, signs = np.inf, 0.0, 0
    for i in range(num):
        x, y = footprint[i, 0], footprint[i, 1]
        ex, ey = footprint[(i + 1) % num, 0] - x, footprint[(i + 1) % num, 1] - y
        length = ex * ex + ey * ey
        share = min(max(-(x * ex + y * ey) / length, 0.0), 1.0) if length > 0.0 else 0.0
        nearest = min(nearest, np.hypot(x + share * ex, y + share * ey))
        farthest = max(farthest, np.hypot(x, y))
        signs += 1 if x * ey - y * ex > 0.0 else -1
    if abs(signs) == num or nearest < 1e-6:
        return -np.pi, np.pi, -np.pi / 2, np.pi / 2
    bottom = np.arctan2(low, nearest if low < 0 else farthest)
    top = np.arctan2(high, nearest if high > 0 else farthest)
    reference = np.arctan2(footprint[0, 1], footprint[0, 0])
    left, right = 0.0, 0.0
    for i in range(1, num):
        turn = np.arctan2(footprint[i, 1], footprint[i, 0]) - reference
        turn -= 2 * np.pi * np.floor(turn / (2 * np.pi) + 0.5)
        left, right = max(left, turn), min(right, turn)
    return reference + right, reference + left, bottom, top


@njit(cache=True)
def cast_solids(
    solids: Solids, mean_free_path: FloatArray, rays: Rays, scatter: FloatArray, sweep: Sweep
) -> None:
    """Update a sweep by all solids that rays meet before what it holds.

    A porous solid takes a ray at an exponentially distributed depth, decided by the uniform numbers
    ``scatter`` ``(B, C)`` and the mean free path of its material ``(M,)``, meters, 0 where opaque.
    A pane is noted apart, with the opaque surface behind it.
    """
    stamp = np.full(sweep.owner.shape, NOTHING)
    direction = np.empty(3)
    sin_el, cos_el = np.sin(rays.elevations), np.cos(rays.elevations)
    for p in range(len(solids.kinds)):
        az_low, az_high, el_low, el_high = bounding_rectangle(
            solids.footprints[p], solids.heights[p, 0], solids.heights[p, 1]
        )
        first = int(np.ceil((az_low - rays.first_azimuth) / rays.azimuth_step))
        last = int(np.floor((az_high - rays.first_azimuth) / rays.azimuth_step))
        last = min(last, first + rays.full_turn - 1)
        rows = solids.rows[solids.starts[p] : solids.starts[p + 1]]
        materials = solids.materials[solids.starts[p] : solids.starts[p + 1]]
        for unwrapped in range(first, last + 1):
            column = unwrapped % rays.full_turn
            if column >= rays.num_columns:
                continue
            azimuth = rays.first_azimuth + column * rays.azimuth_step
            cos_az, sin_az = np.cos(azimuth), np.sin(azimuth)
            for beam in range(len(rays.elevations)):
                if not el_low <= rays.elevations[beam] <= el_high:
                    continue
                direction[0] = cos_el[beam] * cos_az
                direction[1] = cos_el[beam] * sin_az
                direction[2] = sin_el[beam]
                entry, leave, face_in, face_out, cos_in, cos_out = intersect(
                    solids.kinds[p], rows, direction
                )
                if not 0.0 < entry < leave or entry > rays.max_range:
                    continue
                material = materials[face_in]
                depth = mean_free_path[material]
                if depth > 0.0:
                    draw = (scatter[beam, column] + p * _GOLDEN) % 1.0
                    entry -= depth * np.log(1.0 - draw)
                    if entry > leave:
                        continue
                if stamp[beam, column] != solids.owner[p]:
                    stamp[beam, column] = solids.owner[p]
                    sweep.alone[solids.owner[p]] += 1
                if material == _GLASS:
                    if entry < sweep.glass_distance[beam, column]:
                        sweep.glass_distance[beam, column] = entry
                        sweep.glass_owner[beam, column] = solids.owner[p]
                        sweep.glass_incidence[beam, column] = cos_in
                    if materials[face_out] == _GLASS:
                        continue
                    entry, material, cos_in = leave, materials[face_out], cos_out
                if entry < sweep.distance[beam, column]:
                    sweep.distance[beam, column] = entry
                    sweep.owner[beam, column] = solids.owner[p]
                    sweep.material[beam, column] = material
                    sweep.incidence[beam, column] = cos_in


@njit(cache=True)
def empty_sweep(rays: Rays, num_objects: int) -> Sweep:
    """Return a sweep whose rays have met nothing."""
    shape = (len(rays.elevations), rays.num_columns)
    return Sweep(
        np.full(shape, np.inf),
        np.full(shape, NOTHING),
        np.full(shape, _ASPHALT),
        np.zeros(shape),
        np.full(shape, np.inf),
        np.full(shape, NOTHING),
        np.zeros(shape),
        np.zeros(num_objects, dtype=np.int64),
    )


@njit(cache=True)
def cast_sweep(
    solids: Solids,
    num_objects: int,
    ground: Ground,
    mean_free_path: FloatArray,
    rays: Rays,
    scatter: FloatArray,
) -> Sweep:
    """Cast all rays at all solids and at the ground; arguments as for ``cast_solids``."""
    shape = (len(rays.elevations), rays.num_columns)
    sweep = empty_sweep(rays, num_objects)
    cast_solids(solids, mean_free_path, rays, scatter, sweep)
    for beam in range(shape[0]):
        dz, level = np.sin(rays.elevations[beam]), np.cos(rays.elevations[beam])
        for column in range(shape[1]):
            azimuth = rays.first_azimuth + column * rays.azimuth_step
            dx, dy = level * np.cos(azimuth), level * np.sin(azimuth)
            limit = min(sweep.distance[beam, column], rays.max_range)
            distance = cast_ground(dx, dy, dz, limit, ground)
            if distance < limit:
                x, y = distance * dx, distance * dy
                sweep.distance[beam, column] = distance
                sweep.owner[beam, column] = GROUND
                sweep.material[beam, column] = _ASPHALT if is_road(x, y, ground) else _VERGE
                sweep.incidence[beam, column] = ground_incidence(x, y, dx, dy, dz, ground)
    return sweep
