"""One sweep of a tilted sensor: solids in its frame, terrain, echoes.

O objects, P solids, R rows as in ``simulation.raycast``; poses are x, y, z, yaw, global frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ebm3d.simulation.drives.roads import Terrain, distance_to_road, height
from ebm3d.simulation.materials import Material
from ebm3d.simulation.raycast import GROUND, Rays, Solids, Sweep, cast_solids, empty_sweep
from ebm3d.simulation.returns import MEAN_FREE_PATHS, draw_echoes, visible_rays
from ebm3d.simulation.sensors import SENSORS, Sensor
from ebm3d.simulation.solids import Shape, union

FloatArray = NDArray[np.float64]
_ASPHALT, _VERGE, _CONCRETE = int(Material.ASPHALT), int(Material.VERGE), int(Material.CONCRETE)
# KITTI-like intensities of returns.py to those of nuScenes, by quantiles of real ones.
_INTENSITY = (
    (0.0, 0.17, 0.24, 0.30, 0.34, 0.40, 0.47, 0.99),
    (1.0, 3.0, 6.0, 12.0, 25.0, 65.0, 100.0, 255.0),
)
_SIDEWALK = 4.0  # m, width
NUM_COLUMNS = 1084  # of a turn
SENSOR = replace(SENSORS["32-beam"], azimuth_step_deg=360 / NUM_COLUMNS, height=1.84, min_range=0.3)


@dataclass(frozen=True, eq=False)
class Scan:
    """Points of a sweep and what they say of the objects."""

    points: NDArray[np.float32]  # (N, 5), x, y, z, intensity in [0, 255], ring, LiDAR frame
    owner: NDArray[np.int64]  # (N,), object of every point, or GROUND
    visible_share: FloatArray  # (O,), of the rays that would meet an object alone; NaN if none


@dataclass(frozen=True, eq=False)
class Models:
    """Shapes of all objects of a drive, and the reflectances of their paint."""

    shapes: list[Shape]
    tints: FloatArray  # (O,)

    @cached_property
    def shape(self) -> Shape:
        """All solids, in the frames of their objects."""
        return union(self.shapes)

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        """Object of every solid, shape ``(P,)``."""
        counts = [len(shape.kinds) for shape in self.shapes]
        return np.repeat(np.arange(len(counts)), counts)

    @cached_property
    def corners(self) -> FloatArray:
        """Corners of every solid's bounding box, shape ``(P, 8, 3)``."""
        choices = np.array(list(product((0, 1), repeat=3)))
        return np.stack([self.shape.bounds[:, choices[:, k], k] for k in range(3)], axis=2)

    def solids(self, rotations: FloatArray, positions: FloatArray) -> Solids:
        """Move objects by rotations ``(O, 3, 3)`` and positions ``(O, 3)`` into one frame."""
        owner, shape = self.owner, self.shape
        row_owner = np.repeat(owner, np.diff(shape.starts))
        normals = np.einsum("rij,rj->ri", rotations[row_owner], shape.rows[:, :3])
        offsets = shape.rows[:, 3] - np.einsum("ri,ri->r", normals, positions[row_owner])
        corners = np.einsum("pij,pcj->pci", rotations[owner], self.corners)
        corners += positions[owner][:, None]
        yaw = np.arctan2(rotations[owner, 1, 0], rotations[owner, 0, 0])
        along = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        across = np.stack([-np.sin(yaw), np.cos(yaw)], axis=1)
        u = np.einsum("pci,pi->pc", corners[..., :2], along)
        v = np.einsum("pci,pi->pc", corners[..., :2], across)
        u, v = (np.stack([w.min(1), w.max(1)], axis=1) for w in (u, v))
        footprints = (
            u[:, [0, 1, 1, 0], None] * along[:, None] + v[:, [0, 0, 1, 1], None] * across[:, None]
        )
        heights = np.stack([corners[..., 2].min(1), corners[..., 2].max(1)], axis=1)
        rows = np.column_stack([normals, offsets])
        return Solids(owner, shape.kinds, shape.starts, rows, shape.materials, footprints, heights)


def scan(
    models: Models,
    poses: FloatArray,
    lidar2global: FloatArray,
    lidar2ego: FloatArray,
    terrain: Terrain,
    generator: np.random.Generator,
    sensor: Sensor = SENSOR,
) -> Scan:
    """Scan objects and terrain; the last of ``models`` is the ego vehicle, in the ego frame.

    Args:
        models: O objects and the ego vehicle.
        poses: of the O objects, shape ``(O, 4)``.
        lidar2global: 4 x 4.
        lidar2ego: 4 x 4.
        terrain: global frame.
        generator: of all noise.
        sensor: with its lowest beam last.
    """
    rays = Rays(
        np.deg2rad(sensor.elevations_deg),
        -np.pi + float(generator.random()) * np.deg2rad(sensor.azimuth_step_deg),
        np.deg2rad(sensor.azimuth_step_deg),
        sensor.num_columns,
        sensor.num_columns,
        sensor.max_range,
    )
    solids = models.solids(*_in_lidar_frame(poses, lidar2global, lidar2ego))
    scatter = generator.random((len(rays.elevations), rays.num_columns))
    sweep = empty_sweep(rays, len(models.shapes))
    cast_solids(solids, MEAN_FREE_PATHS, rays, scatter, sweep)
    cast_terrain(rays, np.ascontiguousarray(lidar2global[:3]), terrain, sweep)
    points, owner, beam = draw_echoes(sweep, rays, sensor, models.tints, generator)
    share = np.full(len(models.shapes), np.nan)
    np.divide(visible_rays(sweep), sweep.alone, out=share, where=sweep.alone > 0)
    ring = len(rays.elevations) - 1 - beam
    points = np.column_stack([points[:, :3], intensity(points[:, 3]), ring])
    return Scan(points.astype(np.float32), owner, share[:-1])


def intensity(brightness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intensities as the sensor's firmware reports them, whole numbers in [0, 255]."""
    return np.round(np.interp(brightness, *_INTENSITY)).astype(np.float32)


@njit(cache=True)
def cast_terrain(rays: Rays, lidar2global: FloatArray, terrain: Terrain, sweep: Sweep) -> None:
    """Update a sweep by the terrain; marches and bisects as ``ground.cast_ground``."""
    x0, y0, z0 = lidar2global[:, 3]
    for beam in range(len(rays.elevations)):
        up, level = np.sin(rays.elevations[beam]), np.cos(rays.elevations[beam])
        for column in range(rays.num_columns):
            azimuth = rays.first_azimuth + column * rays.azimuth_step
            cx, cy = level * np.cos(azimuth), level * np.sin(azimuth)
            dx = lidar2global[0, 0] * cx + lidar2global[0, 1] * cy + lidar2global[0, 2] * up
            dy = lidar2global[1, 0] * cx + lidar2global[1, 1] * cy + lidar2global[1, 2] * up
            dz = lidar2global[2, 0] * cx + lidar2global[2, 1] * cy + lidar2global[2, 2] * up
            limit = min(sweep.distance[beam, column], rays.max_range)
            before, distance = 0.0, 0.5
            slope = abs(dz) + 0.15
            while distance < limit:
                gap = z0 + distance * dz - height(x0 + distance * dx, y0 + distance * dy, terrain)
                if gap <= 0.0:
                    break
                before = distance
                distance += max(0.5, gap / slope)
            low, high = before, min(distance, limit)
            if z0 + high * dz > height(x0 + high * dx, y0 + high * dy, terrain):
                continue
            while high - low > 1e-3:
                middle = 0.5 * (low + high)
                if z0 + middle * dz > height(x0 + middle * dx, y0 + middle * dy, terrain):
                    low = middle
                else:
                    high = middle
            distance = 0.5 * (low + high)
            x, y = x0 + distance * dx, y0 + distance * dy
            outside = distance_to_road(x, y, terrain)
            material = _ASPHALT if outside < 0 else _CONCRETE if outside < _SIDEWALK else _VERGE
            slope_x = (height(x + 0.2, y, terrain) - height(x - 0.2, y, terrain)) / 0.4
            slope_y = (height(x, y + 0.2, terrain) - height(x, y - 0.2, terrain)) / 0.4
            norm = np.sqrt(1.0 + slope_x**2 + slope_y**2)
            sweep.distance[beam, column] = distance
            sweep.owner[beam, column] = GROUND
            sweep.material[beam, column] = material
            sweep.incidence[beam, column] = abs(-slope_x * dx - slope_y * dy + dz) / norm


def _in_lidar_frame(
    poses: FloatArray, lidar2global: FloatArray, lidar2ego: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Rotations and positions of the objects, and of the ego vehicle, in the LiDAR frame."""
    c, s, zero = np.cos(poses[:, 3]), np.sin(poses[:, 3]), np.zeros(len(poses))
    upright = np.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], axis=1).reshape(-1, 3, 3)
    inverse = lidar2global[:3, :3].T
    rotations = [inverse @ upright, lidar2ego[None, :3, :3].transpose(0, 2, 1)]
    offsets = [poses[:, :3] - lidar2global[:3, 3], -lidar2ego[None, :3, 3]]
    positions = [offsets[0] @ inverse.T, offsets[1] @ lidar2ego[:3, :3]]
    return np.concatenate(rotations), np.concatenate(positions)
