"""Street scenes: vehicles in rows, people, and what stands along the road.

Positions in the frame of the road: s along it, lateral to its left, origin below the sensor,
meters. The own vehicle drives along +s; the road's heading in the LiDAR frame differs from frame
to frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import cos, pi, sin

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ebm3d.simulation import people, surroundings, vehicles
from ebm3d.simulation.ground import Ground, draw_ground
from ebm3d.simulation.raycast import Solids, ground_heights
from ebm3d.simulation.solids import Shape, place
from ebm3d.simulation.statistics import ClassStatistics, Flow, load_statistics

FloatArray = NDArray[np.float64]
BUILDERS = {
    "Car": vehicles.car,
    "Van": vehicles.van,
    "Truck": vehicles.truck,
    "Pedestrian": people.pedestrian,
    "Cyclist": people.cyclist,
}
# Labels count what annotators could see. So many more are placed per label wanted, as some hide
# behind others or find no room; see docs/simulation.md.
SURPLUS = 1.35
HORIZON = 85.0  # m; nothing is placed farther away
OWN_VEHICLE = (-0.8, 0.0, 0.0, 5.2, 2.2)  # rectangle x, y, yaw, length, width that stays free
_MARGIN = 0.25  # m between two rectangles


@dataclass(frozen=True, eq=False)
class SceneObject:
    """Something that stands on the ground.

    Attributes:
        name: class name, or ``""`` for surroundings.
        shape: bottom center at the origin of its own frame.
        pose: x, y, z, yaw in the LiDAR frame, meters and radians, shape ``(4,)``.
        size: length, width, height of the bounding box, meters, shape ``(3,)``.
        tint: reflectance of its ``Material.BODY`` surfaces.
    """

    name: str
    shape: Shape
    pose: FloatArray
    size: FloatArray
    tint: float

    @property
    def box(self) -> FloatArray:
        """The tight box ``(x, y, z, dx, dy, dz, yaw)``, shape ``(7,)``."""
        return np.concatenate([self.pose[:3], self.size, self.pose[3:]])


@dataclass(frozen=True, eq=False)
class Scene:
    """A ground and the objects on it; classes come first in no particular order."""

    ground: Ground
    objects: list[SceneObject]

    def solids(self) -> Solids:
        """Gather the solids of all objects in the LiDAR frame."""
        placed = [place(o.shape, *o.pose) for o in self.objects]
        counts = [len(s.kinds) for s in placed]
        offsets = np.cumsum([0, *(len(s.rows) for s in placed)])
        starts = [s.starts[:-1] + at for s, at in zip(placed, offsets, strict=False)]
        bounds = np.concatenate([s.bounds for s in placed])
        poses = np.repeat([o.pose for o in self.objects], counts, axis=0)
        corners = np.stack([bounds[:, [0, 1, 1, 0], 0], bounds[:, [0, 0, 1, 1], 1]], axis=2)
        c, s = np.cos(poses[:, 3, None]), np.sin(poses[:, 3, None])
        footprints = np.stack(
            [
                corners[..., 0] * c - corners[..., 1] * s + poses[:, None, 0],
                corners[..., 0] * s + corners[..., 1] * c + poses[:, None, 1],
            ],
            axis=2,
        )
        return Solids(
            owner=np.repeat(np.arange(len(placed)), counts),
            kinds=np.concatenate([s.kinds for s in placed]),
            starts=np.concatenate([*starts, offsets[-1:]]),
            rows=np.concatenate([s.rows for s in placed]),
            materials=np.concatenate([s.materials for s in placed]),
            footprints=np.ascontiguousarray(footprints),
            heights=bounds[:, :, 2] + poses[:, 2, None],
        )


@dataclass(eq=False)
class _Builder:
    """A scene in the making: the ground, what is placed, and the rectangles it covers."""

    ground: Ground
    heading: float
    generator: np.random.Generator
    side: float = 1.0
    objects: list[SceneObject] = field(default_factory=list)
    taken: list[tuple[float, float, float, float, float]] = field(
        default_factory=lambda: [OWN_VEHICLE]
    )

    def add(
        self,
        name: str,
        shape: Shape,
        s: float,
        lateral: float,
        turn: float,
        tint: float,
    ) -> bool:
        """Place a shape at (s, lateral), turned against the road, unless something stands there."""
        s = s * self.side
        c, d = cos(self.heading), sin(self.heading)
        x, y = s * c - lateral * d, s * d + lateral * c
        yaw = (self.heading + turn + pi) % (2 * pi) - pi
        low, high = shape.extent
        middle, size = (low + high) / 2, high - low
        center = (
            x + middle[0] * cos(yaw) - middle[1] * sin(yaw),
            y + middle[0] * sin(yaw) + middle[1] * cos(yaw),
        )
        rectangle = (*center, yaw, size[0], size[1])
        if rectangle_is_taken(np.array(rectangle), np.array(self.taken), _MARGIN):
            return False
        z = float(ground_heights(np.array([[x, y]]), self.ground)[0])
        self.taken.append(rectangle)
        self.objects.append(SceneObject(name, shape, np.array([x, y, z, yaw]), size, tint))
        return True


def draw_scene(
    sensor_height: float, generator: np.random.Generator, *, behind: bool = False
) -> Scene:
    """Draw a street.

    Args:
        sensor_height: of the sensor, the origin, over the ground below it, meters.
        generator: of all randomness.
        behind: whether to populate the street behind the sensor as well.
    """
    heading = float(generator.normal(0, 0.25 if generator.random() < 0.15 else 0.06))
    right, left = -generator.uniform(2.2, 6.0), generator.uniform(4.5, 10.0)
    ground = draw_ground(heading, right, left, sensor_height, generator)
    builder = _Builder(ground, heading, generator)
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


def draw_size(numbers: ClassStatistics, generator: np.random.Generator) -> FloatArray:
    """Draw length, width, height from the log-normal distribution of a class, meters."""
    log_size = generator.multivariate_normal(
        numbers.log_size_mean, numbers.log_size_covariance, method="cholesky"
    )
    return np.clip(np.exp(log_size), *numbers.size_limits)


def draw_tint(name: str, generator: np.random.Generator) -> float:
    """Draw the reflectance of paint or clothes: nearly half of all vehicles are dark."""
    if name in ("Pedestrian", "Cyclist"):
        return float(generator.uniform(0.1, 0.6))
    dark = generator.random() < 0.45
    return float(generator.uniform(0.015, 0.08) if dark else generator.uniform(0.15, 0.7))


def _add_class(builder: _Builder, name: str) -> None:
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
        is_row = name == "Car" and (lateral < -1.8 or lateral > 3.6)
        keep_on = 0.65 if is_row else 0.25
        length = min(int(generator.geometric(1 - keep_on)), remaining)
        _add_row(builder, name, numbers, which, flow, (s, lateral, length, is_row))
        remaining -= length


def _add_row(
    builder: _Builder,
    name: str,
    numbers: ClassStatistics,
    which: str,
    flow: Flow,
    row: tuple[float, float, int, bool],
) -> None:
    """Place objects one behind the other; ``row`` is (s, lateral, number, whether parked)."""
    s, lateral, num, parked = row
    generator = builder.generator
    if flow.heading_std is None:
        turn = generator.choice([-1.0, 1.0]) * pi / 2 + generator.normal(0, 0.35)
    else:
        turn = (0.0 if which == "with" else pi) + generator.normal(0, 0.4 * flow.heading_std)
    s = max(s - 2.0 - generator.uniform(0, 2.5) * (num - 1), 0.5)
    for _ in range(num):
        size = draw_size(numbers, generator)
        own_turn = turn + generator.normal(0, 0.03 if parked else 0.05)
        if parked and generator.random() < 0.15:
            own_turn += pi
        along = abs(size[0] * cos(own_turn)) + abs(size[1] * sin(own_turn))
        shape = BUILDERS[name](size, generator)
        if s + along / 2 > HORIZON:
            break
        shift = generator.normal(0, 0.12 if parked else 0.3)
        tint = draw_tint(name, generator)
        builder.add(name, shape, s + along / 2, lateral + shift, own_turn, tint)
        if name == "Car":
            gap = generator.uniform(0.5, 2.0) if parked else generator.uniform(4.0, 20.0)
        else:
            gap = generator.uniform(0.3, 3.0)
        s += along + gap


def _add_clutter(builder: _Builder) -> None:
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


def _add_posts(builder: _Builder, sign: float, curb: float) -> None:
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


def _add_fronts(builder: _Builder, sign: float, curb: float) -> None:
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


@njit(cache=True)
def rectangle_is_taken(rectangle: FloatArray, taken: FloatArray, margin: float) -> bool:
    """Whether a rectangle comes closer than a margin to any of others (separating axes).

    Args:
        rectangle: x, y, yaw, length, width, shape ``(5,)``, meters and radians.
        taken: rows of the same, shape ``(K, 5)``.
        margin: meters; each axis is tested with the sum of half extents plus this.
    """
    for k in range(len(taken)):
        dx, dy = taken[k, 0] - rectangle[0], taken[k, 1] - rectangle[1]
        difference = taken[k, 2] - rectangle[2]
        c, s = abs(np.cos(difference)), abs(np.sin(difference))
        separated = False
        for turn in range(2):
            yaw = rectangle[2] if turn == 0 else taken[k, 2]
            own = rectangle if turn == 0 else taken[k]
            other = taken[k] if turn == 0 else rectangle
            u = abs(dx * np.cos(yaw) + dy * np.sin(yaw))
            v = abs(-dx * np.sin(yaw) + dy * np.cos(yaw))
            if u > (own[3] + other[3] * c + other[4] * s) / 2 + margin:
                separated = True
            if v > (own[4] + other[3] * s + other[4] * c) / 2 + margin:
                separated = True
        if not separated:
            return True
    return False
