"""Vehicles on the lanes of a drive, the ego vehicle among them.

T sweeps; S positions along a lane in its driving direction, meters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebm3d.simulation.drives.actors import Stage
from ebm3d.simulation.drives.roads import LANE, Road
from ebm3d.simulation.drives.shapes import draw_object
from ebm3d.simulation.drives.statistics import load_drive_statistics
from ebm3d.simulation.drives.traffic import WARM_UP, Light, drive_lane
from ebm3d.simulation.solids import Shape

FloatArray = NDArray[np.float64]
EGO_CENTER, EGO_SIZE = 1.4, (4.1, 1.8)  # m: middle of the car ahead of its rear axle; its size
HORIZON = 75.0  # m, of a road before and behind the ego vehicle that is populated
_CLASSES = ("car", "truck", "bus", "construction_vehicle", "motorcycle")
_HITCH = 0.8  # m, between a truck and its trailer
_SLOW = (1.5, 5.0)  # m/s, of construction vehicles


class Part(NamedTuple):
    """One object of a vehicle."""

    name: str
    shape: Shape
    tint: float


@dataclass(frozen=True, eq=False)
class Vehicle:
    """What drives as one: an object, a truck with its trailer, or no part: the ego vehicle."""

    parts: Sequence[Part]
    speed: float  # desired, m/s

    @property
    def length(self) -> float:
        """From the front of the first part to the rear of the last, meters."""
        if not self.parts:
            return EGO_SIZE[0]
        return sum(length_of(p.shape) for p in self.parts) + _HITCH * (len(self.parts) - 1)


class Lane(NamedTuple):
    """A lane right of the center line, in the direction of its road (1) or against it (-1)."""

    road: Road
    direction: int
    lateral: float  # right of the center line, meters, positive
    light: Light | None

    def poses(self, s: FloatArray) -> FloatArray:
        """x, y, yaw of positions ``(S,)``, shape ``(S, 3)``."""
        poses = self.road.poses(self.direction * s, -self.direction * self.lateral)
        poses[:, 2] += 0.0 if self.direction == 1 else np.pi
        return poses


class Lights(NamedTuple):
    """Of the lanes with the ego vehicle, against it, and across."""

    along: Light | None = None
    against: Light | None = None
    across: Light | None = None


def length_of(shape: Shape) -> float:
    """Length of a shape, meters."""
    low, high = shape.extent
    return float(high[0] - low[0])


def add_traffic(
    stage: Stage,
    counts: dict[str, int],
    roads: Sequence[Road],
    lights: Lights,
    speed: float,
    generator: np.random.Generator,
) -> FloatArray:
    """Add the vehicles that drive, and take their numbers off ``counts``.

    Args:
        stage: where they are added.
        counts: number of objects by class, those that stand included.
        roads: that of the ego vehicle, and one that crosses it if any.
        lights: of the lanes.
        speed: that the ego vehicle desires, m/s.
        generator: of all randomness.

    Returns:
        Positions of the ego vehicle's rear axle, x, y, heading, shape ``(T, 3)``.
    """
    lanes = [
        Lane(roads[0], direction, (k + 0.5) * LANE, light)
        for direction, light in ((1, lights.along), (-1, lights.against))
        for k in range(roads[0].num_lanes)
    ]
    ego_lane = lanes[int(generator.integers(roads[0].num_lanes))]
    lanes.remove(ego_lane)
    lanes.insert(0, ego_lane)
    for road in roads[1:]:
        lanes += [Lane(road, direction, LANE / 2, lights.across) for direction in (1, -1)]
    members: list[list[Vehicle]] = [[] for _ in lanes]
    members[0].append(Vehicle((), speed))
    for vehicle in _draw_vehicles(counts, speed, generator):
        members[int(generator.integers(len(lanes)))].append(vehicle)
    poses = [
        _add_lane(stage, lane, vehicles, generator)
        for lane, vehicles in zip(lanes, members, strict=True)
    ]
    return poses[0]


def _draw_vehicles(
    counts: dict[str, int], speed: float, generator: np.random.Generator
) -> list[Vehicle]:
    """Draw the vehicles that drive on all lanes."""
    moving = {}
    for name in (*_CLASSES, "trailer"):
        share = load_drive_statistics()[name].moving_share
        moving[name] = int(generator.binomial(counts[name], share))
    moving["trailer"] = min(moving["trailer"], moving["truck"])
    vehicles = []
    for name in _CLASSES:
        for i in range(moving[name]):
            parts = [Part(name, *draw_object(name, generator, ridden=name == "motorcycle"))]
            if name == "truck" and i < moving["trailer"]:
                parts.append(Part("trailer", *draw_object("trailer", generator)))
            desired = speed * generator.uniform(0.85, 1.1)
            if name == "construction_vehicle":
                desired = min(desired, generator.uniform(*_SLOW))
            vehicles.append(Vehicle(parts, desired))
    for name, num in moving.items():
        counts[name] -= num
    return vehicles


def _add_lane(
    stage: Stage, lane: Lane, vehicles: list[Vehicle], generator: np.random.Generator
) -> FloatArray:
    """Drive the vehicles of a lane and add them; poses of the rear axle of the first, ``(T, 3)``.

    The first is the ego vehicle if any is; it is at zero when the warm-up ends unless it stopped.
    """
    if not vehicles:
        return np.empty((0, 3))
    lengths = np.array([vehicle.length for vehicle in vehicles])
    desired = np.array([vehicle.speed for vehicle in vehicles])
    starts = generator.uniform(-HORIZON, HORIZON, len(vehicles))
    starts[0] = 0.0 if not vehicles[0].parts else starts[0]
    order = np.argsort(-starts, kind="stable")
    limit = np.inf
    for i in order:  # those behind make room
        starts[i] = min(starts[i], limit - lengths[i] / 2)
        limit = starts[i] - lengths[i] / 2 - 2.0 - 0.8 * desired[i]
    if not vehicles[0].parts:
        starts -= starts[0]
    starts -= desired[0] * WARM_UP
    along = np.empty((stage.num_steps, len(vehicles)))
    along[:, order] = drive_lane(
        starts[order], lengths[order], desired[order], stage.num_steps, lane.light
    )
    for vehicle, center in zip(vehicles, along.T, strict=True):
        if not vehicle.parts:
            stage.take(lane.poses(center), np.array([0.0, 0.0, *EGO_SIZE]), None)
        front = center + vehicle.length / 2
        for name, shape, tint in vehicle.parts:
            length = length_of(shape)
            state = "ridden" if name == "motorcycle" else ""
            stage.add(name, shape, lane.poses(front - length / 2), tint, state=state)
            front = front - length - _HITCH
    return lane.poses(along[:, 0] - EGO_CENTER)
