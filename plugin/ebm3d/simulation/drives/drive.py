"""A drive: the ego vehicle's way past moving and parked objects, and its sweeps.

T sweeps at 20 Hz; every tenth is a key frame. Global frame: x, y on the map, z up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.nuscenes.poses import rotation_matrices
from ebm3d.simulation.drives import population
from ebm3d.simulation.drives.actors import Actor, Stage
from ebm3d.simulation.drives.lanes import HORIZON, Lights, add_traffic
from ebm3d.simulation.drives.population import Place
from ebm3d.simulation.drives.roads import (
    Road,
    Terrain,
    crossing_road,
    draw_road,
    draw_terrain,
    heights_at,
)
from ebm3d.simulation.drives.scan import SENSOR, Models, Scan, scan
from ebm3d.simulation.drives.shapes import ego_vehicle
from ebm3d.simulation.drives.statistics import load_drive_statistics
from ebm3d.simulation.drives.traffic import STEP, Light
from ebm3d.simulation.sensors import Sensor

FloatArray = NDArray[np.float64]
SWEEPS = 10  # from one key frame to the next
_TURN = 25.0  # m; no lights on roads of a smaller radius
_LATERAL_ACCELERATION = 2.5  # m/s^2, most in curves
_MOUNT = (0.94, 0.0, SENSOR.height)  # of the LiDAR in the ego frame, m


@dataclass(frozen=True, eq=False)
class Drive:
    """A drive, not yet scanned.

    Args:
        actors: objects, those of a class and surroundings.
        terrain: global frame.
        ego: x, y, z in meters and the rotation (w, x, y, z) of the ego frame, ``(T, 7)``.
        lidar: the same of the LiDAR frame in the ego frame, ``(7,)``.
        seeds: of the noise of every sweep, T in number.
    """

    actors: list[Actor]
    terrain: Terrain
    ego: FloatArray
    lidar: FloatArray
    seeds: list[np.random.SeedSequence]
    models: Models = field(init=False)

    def __post_init__(self) -> None:
        """Gather the shapes."""
        shapes = [*(actor.shape for actor in self.actors), ego_vehicle()]
        tints = np.array([*(actor.tint for actor in self.actors), 0.05])
        object.__setattr__(self, "models", Models(shapes, tints))

    def lidar2global(self, step: int) -> FloatArray:
        """Pose of the LiDAR at a sweep, ``(4, 4)``."""
        return as_matrix(self.ego[step]) @ as_matrix(self.lidar)

    def scan(self, step: int, sensor: Sensor = SENSOR) -> Scan:
        """Scan the drive as it is at a sweep."""
        poses = np.array([actor.trajectory[step] for actor in self.actors])
        generator = np.random.default_rng(self.seeds[step])
        lidar2global, lidar2ego = self.lidar2global(step), as_matrix(self.lidar)
        return scan(self.models, poses, lidar2global, lidar2ego, self.terrain, generator, sensor)


def as_matrix(pose: FloatArray) -> FloatArray:
    """4 x 4 matrix of a pose x, y, z and quaternion (w, x, y, z)."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrices(pose[3:])
    matrix[:3, 3] = pose[:3]
    return matrix


def draw_drive(seed: np.random.SeedSequence, num_key_frames: int) -> Drive:
    """Draw a drive."""
    num_steps = (num_key_frames - 1) * SWEEPS + 1
    generator = np.random.default_rng(seed)
    road, radius = draw_road(generator, generator.uniform(300, 1700, 2))
    roads, lights = [road], Lights()
    middle = generator.uniform(-5, 35)  # a vehicle that never stops is at 0 when the drive begins
    if np.isinf(radius) and generator.random() < 0.7:
        roads.append(crossing_road(road, middle, generator))
    if len(roads) > 1 or (radius > _TURN and generator.random() < 0.4):
        lights = _draw_lights(roads, middle, generator)
    speeds = load_drive_statistics()["car"].speed
    speed = float(generator.choice(speeds[len(speeds) // 2 - 1 :])) * generator.uniform(0.9, 1.1)
    speed = min(speed, np.sqrt(_LATERAL_ACCELERATION * radius))
    reach = speed * num_steps * STEP
    low, high = -HORIZON - 10, reach + HORIZON
    corners = road.poses(np.arange(low, high, 5.0), 0.0)[:, :2]
    terrain = draw_terrain(roads, corners.min(0) - 60, corners.max(0) + 60, generator)
    stage = Stage(terrain, num_steps)
    place = Place(stage, road, low, high, generator)
    counts = population.draw_counts(generator)
    poses = add_traffic(stage, counts, roads, lights, speed, generator)
    population.add_walkers(place, counts)
    population.add_parked(place, counts)
    population.add_standing(place, counts)
    population.add_surroundings(place)
    ego = _ego_poses(poses, terrain, generator)
    tilt = generator.normal([-np.pi / 2, 0.0, 0.0], [0.006, 0.012, 0.018])
    lidar = np.array([*_MOUNT, *quaternions(*tilt)])
    return Drive(stage.actors, terrain, ego, lidar, seed.spawn(num_steps))


def quaternions(yaw: FloatArray, pitch: FloatArray, roll: FloatArray) -> FloatArray:
    """Quaternions (w, x, y, z) of R_z(yaw) R_y(pitch) R_x(roll), shape ``(..., 4)``."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a / 2), np.sin(a / 2)) for a in (yaw, pitch, roll))
    return np.stack(
        [
            cr * cp * cy + sr * sp * sy,
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
        ],
        axis=-1,
    )


def _draw_lights(roads: list[Road], middle: float, generator: np.random.Generator) -> Lights:
    """Lights around a position of the first road; across is red whenever the others are not."""
    half = 2.0 + (roads[1].curb if len(roads) > 1 else 0.0)
    start = generator.uniform(-15, 5)
    end = start + generator.uniform(6, 16)
    red, rest = ((start, end),), ((-np.inf, start + 2.0), (end - 2.0, np.inf))
    across = Light(-roads[0].curb - 2.0, rest)
    return Lights(Light(middle - half, red), Light(-middle - half, red), across)


def _ego_poses(poses: FloatArray, terrain: Terrain, generator: np.random.Generator) -> FloatArray:
    """Poses of the ego frame on the terrain, with pitch and roll of the road and the springs."""
    time = np.arange(len(poses)) * STEP
    x, y, yaw = poses.T
    axes = {"pitch": (np.cos(yaw), np.sin(yaw), 2.7), "roll": (-np.sin(yaw), np.cos(yaw), 1.5)}
    tilts = {}
    for name, (dx, dy, base) in axes.items():
        ends = [
            heights_at(np.stack([x + sign * dx * base / 2, y + sign * dy * base / 2], 1), terrain)
            for sign in (1.0, -1.0)
        ]
        tilts[name] = np.arctan((ends[0] - ends[1]) / base)
        for _ in range(2):
            period, phase = generator.uniform(0.6, 2.5), generator.uniform(0, 2 * np.pi)
            tilts[name] += generator.normal(0, 0.002) * np.sin(2 * np.pi * time / period + phase)
    height = heights_at(np.ascontiguousarray(poses[:, :2]), terrain)
    rotation = quaternions(yaw, -tilts["pitch"], tilts["roll"])
    return np.column_stack([x, y, height, rotation])
