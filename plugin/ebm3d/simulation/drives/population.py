"""Who is on the road of a drive, and what stands beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebm3d.simulation import surroundings
from ebm3d.simulation.drives.actors import Stage
from ebm3d.simulation.drives.roads import LANE, PARKING, Road
from ebm3d.simulation.drives.shapes import BUILDERS, RIDDEN
from ebm3d.simulation.drives.statistics import load_drive_statistics
from ebm3d.simulation.drives.traffic import STEP, WARM_UP, Light, drive_lane
from ebm3d.simulation.street import draw_size, draw_tint

FloatArray = NDArray[np.float64]
EGO_CENTER, EGO_SIZE = 1.4, (4.1, 1.8)  # m: middle of the car ahead of its rear axle; its size
HORIZON = 75.0  # m, of a road before and behind the ego vehicle that is populated
# Objects drawn per annotation of a key frame: some find no place, some are never seen.
SURPLUS = {
    "car": 1.8,
    "truck": 1.4,
    "trailer": 1.5,
    "bus": 1.4,
    "construction_vehicle": 1.6,
    "bicycle": 1.8,
    "motorcycle": 1.6,
    "pedestrian": 1.4,
    "traffic_cone": 1.8,
    "barrier": 1.8,
}
_ZONE_SHARE = 0.7  # of drives past a work zone
_SMALL_INSET = 25.0  # m; small objects are annotated, and so drawn, less far away
_LANE_CLASSES = ("car", "truck", "bus", "construction_vehicle", "motorcycle")


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
    """Draw the number of objects of every class; streets differ by their log-normal density."""
    counts = {}
    has_zone = generator.random() < _ZONE_SHARE
    for name, numbers in load_drive_statistics().items():
        mean = SURPLUS[name] * numbers.per_frame
        if name in ("traffic_cone", "barrier"):
            mean *= has_zone / _ZONE_SHARE
        elif name in ("car", "pedestrian", "motorcycle"):
            mean *= np.exp(generator.normal(-0.08, 0.4))
        counts[name] = int(generator.poisson(mean))
    return counts


def draw_object(name: str, generator: np.random.Generator, *, ridden: bool = False):
    """Draw the shape and the tint of an object."""
    size = draw_size(load_drive_statistics()[name], generator)
    if ridden:  # with the rider's height
        size[2] = generator.normal(1.75, 0.07)
    build = RIDDEN[name] if ridden else BUILDERS[name]
    tint = generator.uniform(0.25, 0.6) if name == "traffic_cone" else draw_tint(name, generator)
    return build(size, generator), float(tint)


def add_traffic(
    place: Place,
    counts: dict[str, int],
    crossing: Road | None,
    lights: tuple[Light | None, Light | None, Light | None],
    speed: float,
) -> FloatArray:
    """Add the vehicles that drive; take their numbers off ``counts``.

    ``lights`` hold for the lanes with, against and across. Returns the positions of the ego
    vehicle's rear axle, x, y, heading, shape ``(T, 3)``.
    """
    generator, road, statistics = place.generator, place.road, load_drive_statistics()
    names = []
    for name in _LANE_CLASSES:
        num = int(generator.binomial(counts[name], statistics[name].moving_share))
        counts[name] -= num
        names += [name] * num
    towed = int(generator.binomial(counts["trailer"], statistics["trailer"].moving_share))
    counts["trailer"] -= towed
    lanes = [(road, direction, k) for direction in (1, -1) for k in range(road.num_lanes)]
    if crossing is not None:
        lanes += [(crossing, direction, 0) for direction in (1, -1)]
    ego_lane = int(generator.integers(road.num_lanes))
    members: list[list[str]] = [[] for _ in lanes]
    for name in names:
        members[int(generator.integers(len(lanes)))].append(name)
    ego_poses = None
    order = [ego_lane, *(i for i in range(len(lanes)) if i != ego_lane)]
    for index in order:
        lane_road, direction, k = lanes[index]
        light = lights[2] if lane_road is not road else lights[0 if direction == 1 else 1]
        vehicles = []
        for name in members[index]:
            ridden = name == "motorcycle"
            parts = [(name, *draw_object(name, generator, ridden=ridden))]
            if name == "truck" and towed > 0:
                parts.append(("trailer", *draw_object("trailer", generator)))
                towed -= 1
            vehicles.append(parts)
        lateral = -(k + 0.5) * LANE
        has_ego = index == ego_lane
        poses = _drive(
            place, lane_road, direction, lateral, vehicles, light, speed, has_ego=has_ego
        )
        ego_poses = poses if has_ego else ego_poses
    counts["trailer"] += towed
    assert ego_poses is not None
    return ego_poses


def _drive(place, road, direction, lateral, vehicles, light, speed, *, has_ego):
    """Drive the vehicles of one lane; the poses of the ego vehicle if it is one of them."""
    generator, stage = place.generator, place.stage
    extents = [[part[1].extent for part in parts] for parts in vehicles]
    lengths = [sum(e[1, 0] - e[0, 0] for e in parts) + 0.8 * (len(parts) - 1) for parts in extents]
    desired = [speed * generator.uniform(0.85, 1.1) for _ in vehicles]
    for i, parts in enumerate(vehicles):
        if parts[0][0] == "construction_vehicle":
            desired[i] = min(desired[i], generator.uniform(1.5, 5.0))
    starts = (generator.uniform(-HORIZON, HORIZON, len(vehicles)) - speed * WARM_UP).tolist()
    if has_ego:
        vehicles, lengths = [None, *vehicles], [EGO_SIZE[0], *lengths]
        desired, starts = [speed, *desired], [-speed * WARM_UP, *starts]
    order = np.argsort(-np.array(starts), kind="stable")
    position, limit = np.empty(len(order)), np.inf
    for rank, i in enumerate(order):  # push back those that start in one another
        position[rank] = min(starts[i], limit - lengths[i] / 2)
        limit = position[rank] - lengths[i] / 2 - 2.0 - 0.8 * desired[i]
    if has_ego:  # whom the others make room for
        position += -speed * WARM_UP - position[list(order).index(0)]
    along = drive_lane(
        position, np.array(lengths)[order], np.array(desired)[order], stage.num_steps, light
    )
    ego_poses = None
    for rank in sorted(range(len(order)), key=lambda rank: order[rank]):  # the ego vehicle first
        i = order[rank]
        front = along[:, rank] + lengths[i] / 2

        def poses(s: FloatArray) -> FloatArray:
            result = road.poses(direction * s, direction * lateral)
            result[:, 2] += 0.0 if direction == 1 else np.pi
            return result

        if vehicles[i] is None:
            ego_poses = poses(along[:, rank] - EGO_CENTER)
            stage.take(ego_poses, np.array([EGO_CENTER, 0.0, *EGO_SIZE]), None)
            continue
        for name, shape, tint in vehicles[i]:
            low, high = shape.extent
            length = high[0] - low[0]
            state = "ridden" if name == "motorcycle" else ""
            stage.add(name, shape, poses(front - length / 2), tint, state=state)
            front = front - length - 0.8
    return ego_poses


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
        length = shape.extent[1, 0] - shape.extent[0, 0]
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
            state = {"state": "parked", "curb": -1.6}
            if place.stage.add("construction_vehicle", shape, pose, tint, **state):
                counts["construction_vehicle"] -= 1
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
