"""What stands or walks beside the road of a drive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebm3d.simulation import surroundings
from ebm3d.simulation.drives.actors import Stage
from ebm3d.simulation.drives.lanes import length_of
from ebm3d.simulation.drives.roads import PARKING, Road
from ebm3d.simulation.drives.shapes import draw_object
from ebm3d.simulation.drives.statistics import load_drive_statistics
from ebm3d.simulation.drives.traffic import STEP
from ebm3d.simulation.street import draw_tint

FloatArray = NDArray[np.float64]
# Objects drawn per annotation of a key frame: some find no place, some are never seen.
SURPLUS = {
    "car": 2.2,
    "truck": 1.5,
    "trailer": 1.8,
    "bus": 1.3,
    "construction_vehicle": 1.8,
    "bicycle": 1.8,
    "motorcycle": 2.6,
    "pedestrian": 1.8,
    "traffic_cone": 3.2,
    "barrier": 3.6,
}
_SMALL_INSET = 25.0  # m; small objects are annotated, and so drawn, less far away


@dataclass(frozen=True, eq=False)
class Place:
    """The stretch of road that is populated, and the random stream."""

    stage: Stage
    road: Road
    low: float
    high: float
    generator: np.random.Generator

    def draw_s(self, inset: float = 0.0) -> float:
        """Draw a position along the road, ``inset`` meters from the ends of the stretch."""
        return float(self.generator.uniform(self.low + inset, self.high - inset))

    def draw_side(self) -> float:
        """1 for the left side, -1 for the right."""
        return 1.0 if self.generator.random() < 0.5 else -1.0

    def pose(self, s: float, lateral: float, turn: float) -> FloatArray:
        """x, y, yaw of a position on the road."""
        return self.road.poses(s, lateral) + [0.0, 0.0, turn]


def draw_counts(generator: np.random.Generator) -> dict[str, int]:
    """Draw the number of objects of every class, at least one, so that small sets hold all.

    Streets differ by a log-normal density of cars, motorcycles and pedestrians.
    """
    counts = {}
    for name, numbers in load_drive_statistics().items():
        mean = SURPLUS[name] * numbers.per_frame
        if name in ("car", "pedestrian", "motorcycle"):
            mean *= np.exp(generator.normal(-0.08, 0.4))
        counts[name] = 1 + int(generator.poisson(max(mean - 1, 0.0)))
    return counts


def add_walkers(place: Place, counts: dict[str, int]) -> None:
    """Add pedestrians and cyclists that move; take their numbers off ``counts``."""
    generator, road = place.generator, place.road
    time = np.arange(place.stage.num_steps) * STEP
    for name in ("bicycle", "pedestrian"):
        numbers = load_drive_statistics()[name]
        moving = int(generator.binomial(counts[name], numbers.moving_share))
        for _ in range(moving):
            side, direction = place.draw_side(), place.draw_side()
            if name == "bicycle":
                direction = -side
                lateral = side * (road.curb - PARKING - 0.1)
            else:
                lateral = side * (road.curb + generator.uniform(0.4, 3.6))
            levels = np.linspace(0.05, 0.95, len(numbers.speed))
            speed = float(np.interp(generator.random(), levels, numbers.speed))
            shape, tint = draw_object(name, generator, ridden=name == "bicycle")
            poses = road.poses(place.draw_s(_SMALL_INSET) + direction * speed * time, lateral)
            poses[:, 2] += 0.0 if direction > 0 else np.pi
            curb = 0.0 if name == "pedestrian" else None
            state = "ridden" if name == "bicycle" else ""
            place.stage.add(name, shape, poses, tint, state=state, curb=curb)
            counts[name] -= 1


def add_parked(place: Place, counts: dict[str, int]) -> None:
    """Add all vehicles that stand still: at the curb, in lots, in work zones."""
    generator = place.generator
    _add_zone(place, counts)
    lot_side, lot_s = place.draw_side(), place.draw_s()
    for name in ("trailer", "bus", "truck", "construction_vehicle", "car"):
        tries = 0
        remaining = counts[name]
        while remaining > 0 and tries < 4 * counts[name] + 8:
            tries += 1
            row = min(int(generator.geometric(0.3 if name == "car" else 0.8)), remaining)
            if name != "bus" and generator.random() < 0.5:
                remaining -= _add_lot_row(place, name, row, lot_s, lot_side)
            else:
                remaining -= _add_curb_row(place, name, row)


def add_standing(place: Place, counts: dict[str, int]) -> None:
    """Add cycles without riders and pedestrians that stand."""
    generator = place.generator
    for name in ("motorcycle", "bicycle", "pedestrian"):
        s, lateral, turn = 0.0, 0.0, 0.0
        for i in range(counts[name]):
            if i % 3 == 0:
                side = place.draw_side()
                low, high = (-1.8, 0.8) if name == "motorcycle" else (0.3, 3.5)
                s, lateral = (
                    place.draw_s(_SMALL_INSET),
                    side * (place.road.curb + generator.uniform(low, high)),
                )
                turn = generator.uniform(-np.pi, np.pi)
            if name == "pedestrian":
                turn = generator.uniform(-np.pi, np.pi)
            shape, tint = draw_object(name, generator)
            pose = place.pose(s, lateral, turn + generator.normal(0, 0.1))
            place.stage.add(name, shape, pose, tint, curb=-PARKING - 0.2)
            s += generator.uniform(0.8, 1.8)


def add_surroundings(place: Place) -> None:
    """Add buildings, walls, trees, poles, bushes and containers on both sides."""
    generator, curb = place.generator, place.road.curb
    for side in (1.0, -1.0):
        turn = 0.0 if side > 0 else np.pi
        front = curb + generator.uniform(4.5, 14.0)
        s = place.low
        while s < place.high:
            length = generator.uniform(8, 20)
            if generator.random() < 0.7:
                shape = surroundings.building(length, generator.uniform(6, 12), generator)
                for retreat in (0.0, 8.0, 20.0):
                    pose = place.pose(s + length / 2, side * (front + retreat), turn)
                    if place.stage.add("", shape, pose, 0.3, curb=1.0):
                        break
            elif generator.random() < 0.5:
                shape = surroundings.wall(length * 0.8, generator)
                pose = place.pose(s + length / 2, side * (curb + 4.4), turn)
                place.stage.add("", shape, pose, 0.3, curb=1.0)
            s += length + generator.uniform(0.5, 8)
        spacing = generator.uniform(8, 25)
        for s in np.arange(place.low, place.high, spacing):
            make = surroundings.tree if generator.random() < 0.5 else surroundings.pole
            pose = place.pose(s + generator.normal(0, 1.5), side * (curb + 0.5), 0.0)
            trunk = np.array([0.0, 0.0, 0.6, 0.6])
            place.stage.add("", make(generator), pose, 0.3, curb=0.1, footprint=trunk)
    for make, most in ((surroundings.bush, 30), (surroundings.container, 6)):
        for _ in range(int(generator.integers(0, most))):
            lateral = place.draw_side() * (curb + generator.uniform(1.0, 30.0))
            pose = place.pose(place.draw_s(), lateral, generator.uniform(-np.pi, np.pi))
            place.stage.add("", make(generator), pose, draw_tint("", generator), curb=0.3)


def _add_curb_row(place: Place, name: str, num: int) -> int:
    """Park objects one behind the other at the curb; the number that found a place."""
    generator, side, s = place.generator, place.draw_side(), place.draw_s()
    added = 0
    for _ in range(num):
        shape, tint = draw_object(name, generator)
        length = length_of(shape)
        turn = (0.0 if side < 0 else np.pi) + (np.pi if generator.random() < 0.1 else 0.0)
        lateral = side * (place.road.curb - 1.25 + generator.normal(0, 0.12))
        pose = place.pose(s + length / 2, lateral, turn + generator.normal(0, 0.03))
        added += place.stage.add(name, shape, pose, tint, state="parked", curb=-PARKING - 0.2)
        s += length + generator.uniform(0.6, 2.0)
    return added


def _add_lot_row(place: Place, name: str, num: int, start: float, side: float) -> int:
    """Park objects side by side in a lot beside the road; the number that found a place."""
    generator = place.generator
    s = start + generator.uniform(-30, 30)
    rank = int(generator.integers(0, 5))
    added = 0
    for _ in range(num):
        shape, tint = draw_object(name, generator)
        length, width = (shape.extent[1] - shape.extent[0])[:2]
        lateral = side * (place.road.curb + 5.0 + 7.0 * rank + length / 2)
        turn = generator.choice([-1.0, 1.0]) * np.pi / 2 + generator.normal(0, 0.04)
        pose = place.pose(s, lateral + generator.normal(0, 0.3), turn)
        added += place.stage.add(name, shape, pose, tint, state="parked", curb=1.0)
        s += width + generator.uniform(0.6, 1.2)
    return added


def _add_zone(place: Place, counts: dict[str, int]) -> None:
    """Close the parking strip by barriers and cones, with a construction vehicle behind them."""
    generator = place.generator
    remaining = {name: counts[name] for name in ("barrier", "traffic_cone")}
    while sum(remaining.values()) > 0:
        side, s = place.draw_side(), place.draw_s(_SMALL_INSET)
        edge = place.road.curb - PARKING + 0.35
        if counts["construction_vehicle"] > 0 and generator.random() < 0.7:
            shape, tint = draw_object("construction_vehicle", generator)
            pose = place.pose(s + 5.0, side * (place.road.curb + 0.5), generator.normal(0, 0.4))
            name = "construction_vehicle"
            if place.stage.add(name, shape, pose, tint, state="parked", curb=-1.6):
                counts[name] -= 1
        for name, spacing, turn in (("barrier", 0.3, np.pi / 2), ("traffic_cone", 2.5, 0.0)):
            num = min(remaining[name], int(generator.integers(4, 12)))
            remaining[name] -= num
            for _ in range(num):
                shape, tint = draw_object(name, generator)
                length, width = (shape.extent[1] - shape.extent[0])[:2]
                along = width if name == "barrier" else length
                yaw = turn + generator.normal(0, 0.06 if name == "barrier" else 1.0)
                pose = place.pose(s + along / 2, side * edge + generator.normal(0, 0.1), yaw)
                place.stage.add(name, shape, pose, tint, curb=-PARKING - 0.1)
                s += along + spacing * generator.uniform(0.7, 1.5)
