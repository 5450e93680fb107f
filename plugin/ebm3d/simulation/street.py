"""Draw street scenes: vehicles in rows, people, and what stands along the road.

Positions as in ``scene``; the ego vehicle drives along +s.
"""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

from ebm3d.simulation import people, surroundings, vehicles
from ebm3d.simulation.ground import draw_ground
from ebm3d.simulation.scene import Scene, SceneBuilder
from ebm3d.simulation.statistics import SizeStatistics, load_statistics

FloatArray = NDArray[np.float64]
BUILDERS = {
    "Car": vehicles.car,
    "Van": vehicles.van,
    "Truck": vehicles.truck,
    "Pedestrian": people.pedestrian,
    "Cyclist": people.cyclist,
}
SURPLUS = 1.35  # objects drawn per label: some hide or find no free place (docs/simulation.md)
HORIZON = 85.0  # m; no object is farther away


def draw_scene(
    sensor_height: float, generator: np.random.Generator, *, behind: bool = False
) -> Scene:
    """Draw a street, also the part ``behind`` the sensor if wanted; sensor height in meters."""
    heading = float(generator.normal(0, 0.25 if generator.random() < 0.15 else 0.06))
    right, left = -generator.uniform(2.2, 6.0), generator.uniform(4.5, 10.0)
    ground = draw_ground(heading, right, left, sensor_height, generator)
    builder = SceneBuilder(ground, heading, generator)
    for side in (1.0, -1.0) if behind else (1.0,):
        builder.side = side
        for name in ("Truck", "Van", "Car", "Cyclist", "Pedestrian"):
            _add_class(builder, name)
        for sign, curb in ((1.0, left), (-1.0, right)):
            _add_fronts(builder, sign, curb)
            _add_posts(builder, sign, curb)
        _add_clutter(builder)
    if not builder.objects:  # an empty street still needs one solid for the arrays to have a shape
        builder.add("", surroundings.pole(generator), 30.0, left + 1.0, 0.0, 0.3)
    return Scene(ground, builder.objects)


def draw_size(numbers: SizeStatistics, generator: np.random.Generator) -> FloatArray:
    """Draw length, width, height from the log-normal distribution of a class, meters."""
    moments = numbers.log_size_mean, numbers.log_size_covariance
    log_size = generator.multivariate_normal(*moments, method="cholesky")
    return np.clip(np.exp(log_size), *numbers.size_limits)


def draw_tint(name: str, generator: np.random.Generator) -> float:
    """Draw the reflectance of paint or clothes: nearly half of all vehicles are dark."""
    if name in ("Pedestrian", "Cyclist", "pedestrian", "bicycle", "motorcycle"):
        return float(generator.uniform(0.1, 0.6))
    dark = generator.random() < 0.45
    return float(generator.uniform(0.015, 0.08) if dark else generator.uniform(0.15, 0.7))


def _add_class(builder: SceneBuilder, name: str) -> None:
    """Place the objects of one class, in rows along the road."""
    generator, statistics = builder.generator, load_statistics()
    numbers = statistics.classes[name]
    wanted = generator.choice(len(numbers.count_shares), p=numbers.count_shares) * SURPLUS
    remaining = int(wanted + generator.random())
    names = list(numbers.flows)
    shares = np.array([flow.share for flow in numbers.flows.values()])
    while remaining > 0:
        which = names[int(generator.choice(len(names), p=shares / shares.sum()))]
        flow = numbers.flows[which]
        lateral = float(np.interp(generator.random(), statistics.levels, flow.lateral))
        s = float(np.interp(generator.random(), statistics.levels, numbers.forward))
        parked = name == "Car" and (lateral < -1.8 or lateral > 3.6)
        length = min(int(generator.geometric(1 - (0.65 if parked else 0.25))), remaining)
        if flow.heading_std is None:
            turn = generator.choice([-1.0, 1.0]) * pi / 2 + generator.normal(0, 0.35)
        else:
            turn = (0.0 if which == "with" else pi) + generator.normal(0, 0.4 * flow.heading_std)
        _add_row(builder, name, (s, lateral, turn), length, parked)
        remaining -= length


def _add_row(
    builder: SceneBuilder, name: str, pose: tuple[float, float, float], num: int, parked: bool
) -> None:
    """Place objects one behind the other, the first at the pose (s, lateral, turn)."""
    s, lateral, row_turn = pose
    generator, numbers = builder.generator, load_statistics().classes[name]
    s = max(s - 2.0 - generator.uniform(0, 2.5) * (num - 1), 0.5)
    for _ in range(num):
        size = draw_size(numbers, generator)
        turn = row_turn + generator.normal(0, 0.03 if parked else 0.05)
        if parked and generator.random() < 0.15:
            turn += pi
        along = abs(size[0] * cos(turn)) + abs(size[1] * sin(turn))
        shape = BUILDERS[name](size, generator)
        if s + along / 2 > HORIZON:
            break
        shift = generator.normal(0, 0.12 if parked else 0.3)
        tint = draw_tint(name, generator)
        builder.add(name, shape, s + along / 2, lateral + shift, turn, tint)
        if name == "Car":
            gap = generator.uniform(0.5, 2.0) if parked else generator.uniform(4.0, 20.0)
        else:
            gap = generator.uniform(0.3, 3.0)
        s += along + gap


def _add_clutter(builder: SceneBuilder) -> None:
    """Place containers and bushes, where cars park and beyond."""
    generator, ground = builder.generator, builder.ground
    for make, most, reach in (
        (surroundings.container, 6, 5.0),
        (surroundings.bush, 40, 14.0),
        (surroundings.tree, 14, 25.0),
    ):
        for _ in range(int(generator.integers(0, most))):
            shape = make(generator)
            offset = generator.uniform(-1.5 if make is surroundings.container else 0.5, reach)
            is_left = generator.random() < 0.5
            lateral = ground.left_curb + offset if is_left else ground.right_curb - offset
            turn = generator.choice([0.0, pi / 2]) + generator.normal(0, 0.1)
            s = generator.uniform(4, HORIZON - 5)
            builder.add("", shape, s, lateral, turn, draw_tint("", generator))


def _add_posts(builder: SceneBuilder, sign: float, curb: float) -> None:
    """Place poles and trees in rows along one side."""
    generator = builder.generator
    for make, chance, low, high in (
        (surroundings.pole, 0.8, 0.4, 1.2),
        (surroundings.tree, 0.6, 1.2, 4.0),
    ):
        if generator.random() > chance:
            continue
        lateral = curb + sign * generator.uniform(low, high)
        s, spacing = generator.uniform(3, 15), generator.uniform(7, 25)
        while s < HORIZON:
            shift = abs(generator.normal(0, 0.4))
            builder.add("", make(generator), s, lateral + sign * shift, 0.0, 0.3)
            s += spacing * generator.uniform(0.6, 1.5)


def _add_fronts(builder: SceneBuilder, sign: float, curb: float) -> None:
    """Place walls and buildings along one side, with gaps."""
    generator = builder.generator
    wall_l = curb + sign * generator.uniform(1.5, 5.0)
    front_l = curb + sign * generator.uniform(3.0, 12.0)
    has_walls, built = generator.random() < 0.6, generator.uniform(0.3, 1.0)
    s = -5.0
    while s < HORIZON:
        length = generator.uniform(6, 18)
        turn = (0.0 if sign > 0 else pi) + generator.normal(0, 0.02)
        if generator.random() < built:
            shape = surroundings.building(length, generator.uniform(5, 10), generator)
            for retreat in (0.0, 4.0, 9.0):
                if builder.add("", shape, s + length / 2, front_l + sign * retreat, turn, 0.3):
                    break
        if has_walls and generator.random() < 0.7:
            shape = surroundings.wall(length * 0.85, generator)
            builder.add("", shape, s + length / 2, wall_l, turn, 0.3)
        s += length + generator.uniform(0.3, 6)
