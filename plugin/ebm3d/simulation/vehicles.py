"""Cars, vans and trucks: bodies with hood, cabin, wheels and rounded corners.

Built along x (front at +x), width along y, wheels on z = 0, then fitted to the wanted box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ebm3d.simulation.materials import Material
from ebm3d.simulation.solids import Shape, Size, box, cylinder, fit_to_box, polyhedron, union

Row = list[float]


@dataclass(frozen=True)
class CarModel:
    """Side profile of a kind of car: shares of its length from the front, and of its height."""

    name: str
    share: float  # how common it is at its typical size, relative to the others
    typical_size: tuple[float, float]  # mean length and height, meters
    nose: float  # height of the hood's front edge
    belt: float  # height of the lower edge of the windows
    windshield: float  # where the hood ends and the windshield begins
    roof: tuple[float, float]  # where the roof begins and ends
    rear_window: float  # where the rear window meets the trunk or the tailgate
    trunk: float  # height of the rear end's upper edge


CAR_MODELS = (
    CarModel("sedan", 0.35, (4.2, 1.46), 0.46, 0.62, 0.27, (0.43, 0.70), 0.85, 0.60),
    CarModel("hatchback", 0.35, (3.7, 1.50), 0.48, 0.62, 0.23, (0.41, 0.84), 0.975, 0.58),
    CarModel("wagon", 0.18, (4.2, 1.50), 0.46, 0.61, 0.26, (0.42, 0.90), 0.985, 0.58),
    CarModel("suv", 0.14, (4.1, 1.72), 0.53, 0.61, 0.25, (0.40, 0.88), 0.975, 0.60),
    CarModel("pickup", 0.02, (4.8, 1.75), 0.53, 0.61, 0.26, (0.39, 0.57), 0.62, 0.585),
)
_SPREAD = (0.35, 0.09)  # m; standard deviation of length and height within a model


def draw_car_model(size: Size, generator: np.random.Generator) -> CarModel:
    """Choose the model of a car from its size by Bayes' rule, over Gaussian sizes per model."""
    weights = np.array([model.share for model in CAR_MODELS])
    for axis, spread in ((0, _SPREAD[0]), (1, _SPREAD[1])):
        typical = np.array([model.typical_size[axis] for model in CAR_MODELS])
        weights *= np.exp(-0.5 * ((size[2 * axis] - typical) / spread) ** 2) + 1e-6
    return CAR_MODELS[int(generator.choice(len(CAR_MODELS), p=weights / weights.sum()))]


def car(size: Size, generator: np.random.Generator) -> Shape:
    """Build a car whose bounding box has this length, width, height (m), bottom center at 0."""
    length, width, height = size
    model = draw_car_model(size, generator)
    jitter = generator.uniform(-1, 1, 12)
    front = length / 2

    def at(share: float) -> float:
        return front - share * length

    belt = (model.belt + 0.02 * jitter[0]) * height
    windshield = at(model.windshield + 0.02 * jitter[1])
    roof_front = at(model.roof[0] + 0.025 * jitter[2])
    roof_rear = at(model.roof[1] + 0.025 * jitter[3])
    rear_window = at(min(model.rear_window + 0.02 * jitter[4], 0.985))
    nose = (model.nose + 0.03 * jitter[5]) * height
    trunk = min(model.trunk * height * (1 + 0.03 * jitter[6]), belt - 0.01)
    clearance = (0.13 + 0.02 * jitter[7]) * height
    shoulder = (0.04 + 0.02 * jitter[8]) * width
    lean = (0.075 + 0.02 * jitter[9]) * width
    rounding = 1.0 + 0.35 * jitter[10]

    body = [
        profile((front - 0.05, nose), (windshield, belt)),
        profile((rear_window, belt), (-front + 0.04, trunk)),
        profile((front, 0.8 * nose), (front - 0.05, nose)),
        profile((front - 0.14, clearance), (front, 0.32 * height)),
        profile((-front + 0.04, trunk), (-front, 0.85 * trunk)),
        profile((-front, 0.32 * height), (-front + 0.16, clearance)),
        *slab(2, clearance, belt),
        *slab(0, -front, front),
        *sides(width / 2, 0.75 * belt, width / 2 - shoulder, belt),
        *sides(width / 2 - 0.07, clearance, width / 2, 0.26 * height),
        *slab(1, -width / 2, width / 2),
        *_rounded_corners(length, width, rounding),
    ]
    side = width / 2 - shoulder
    cabin = [
        profile((windshield, belt - 0.01), (roof_front, height)),
        profile((roof_rear, height), (rear_window, belt - 0.01)),
        *sides(side, belt, side - lean, height),
        *slab(2, belt - 0.01, height),
        *sides(side - lean - 0.02, 0.955 * height, side - lean - 0.17, height),
        profile((roof_front + 0.02, 0.96 * height), (roof_front - 0.25, height)),
        profile((roof_rear + 0.2, height), (roof_rear - 0.02, 0.965 * height)),
    ]
    panes = [Material.GLASS] * 4 + [Material.BODY] * 6
    parts = [
        polyhedron(body, Material.BODY),
        polyhedron(cabin, panes),
        *_seats(roof_front, roof_rear, side - lean, 0.55 * height, 0.86 * height),
        *wheels(length, width, float(0.215 + 0.012 * jitter[11]) * height, (0.20, 0.80)),
    ]
    return fit_to_box(union(parts), size)


def van(size: Size, generator: np.random.Generator) -> Shape:
    """Build a van or minibus: one volume with a short sloping front."""
    length, width, height = size
    jitter = generator.uniform(-1, 1, 8)
    front = length / 2
    clearance = (0.10 + 0.015 * jitter[0]) * height
    nose = (0.46 + 0.04 * jitter[1]) * height
    belt = (0.54 + 0.03 * jitter[2]) * height
    windshield = front - (0.15 + 0.05 * jitter[3]) * length
    roof_front = windshield - (0.10 + 0.03 * jitter[4]) * length
    lean = (0.05 + 0.02 * jitter[5]) * width
    lower = [
        profile((front, nose), (windshield, belt)),
        profile((front - 0.15, clearance), (front, 0.28 * height)),
        *slab(2, clearance, belt),
        *slab(0, -front, front),
        *slab(1, -width / 2, width / 2),
        *_rounded_corners(length, width, 1.0 + 0.3 * jitter[6]),
    ]
    upper = [
        profile((windshield, belt - 0.01), (roof_front, height)),
        *sides(width / 2, belt, width / 2 - lean, height),
        *slab(2, belt - 0.01, height),
        profile((-front + 0.12, height), (-front, 0.6 * height)),
        *sides(width / 2 - lean - 0.01, 0.95 * height, width / 2 - lean - 0.14, height),
    ]
    side = Material.GLASS if generator.random() < 0.4 else Material.BODY
    panes = [Material.GLASS, side, side] + [Material.BODY] * 5
    parts = [
        polyhedron(lower, Material.BODY),
        polyhedron(upper, panes),
        *_seats(roof_front, -front + 0.8, width / 2 - 0.2, 0.5 * height, 0.7 * height),
        *wheels(length, width, 0.17 * height, (0.18, 0.80)),
    ]
    return fit_to_box(union(parts), size)


def truck(size: Size, generator: np.random.Generator) -> Shape:
    """Build a truck: cab, gap, load."""
    length, width, height = size
    front = length / 2
    cab = generator.uniform(1.7, 2.3)
    cab_height = generator.uniform(0.75, 0.95) * height
    inset = generator.uniform(0.0, 0.1)
    faces = [
        profile((front, 0.45 * cab_height), (front - 0.35, cab_height)),
        *slab(2, 0.5, cab_height),
        *slab(0, front - cab, front),
        *slab(1, -width / 2 + inset, width / 2 - inset),
    ]
    panes = [Material.GLASS] + [Material.BODY] * 6
    load_front = front - cab - generator.uniform(0.1, 0.5)
    bed = generator.uniform(0.9, 1.2)
    parts = [
        polyhedron(faces, panes),
        box((-front, -width / 2, bed), (load_front, width / 2, height), Material.BODY),
        box((-front + 0.4, -0.4, 0.5), (front - cab, 0.4, bed), Material.METAL),
        *wheels(length, width, 0.48, (0.15, 0.68, 0.85)),
    ]
    return fit_to_box(union(parts), size)


def slab(axis: int, low: float, high: float) -> tuple[Row, Row]:
    """Two faces across an axis, at its positions ``high`` and ``low``."""
    normal = [float(i == axis) for i in range(3)]
    return [*normal, -high], [*(-n for n in normal), low]


def profile(start: tuple[float, float], end: tuple[float, float]) -> Row:
    """Face through two points (x, z) of the side view; inside lies right of start -> end."""
    dx, dz = end[0] - start[0], end[1] - start[1]
    normal = (dz, -dx)
    return [normal[0], 0.0, normal[1], -(normal[0] * start[0] + normal[1] * start[1])]


def sides(low_y: float, low_z: float, high_y: float, high_z: float) -> tuple[Row, Row]:
    """Left and right face through (±low_y, low_z) and (±high_y, high_z) of the front view."""
    ny, nz = high_z - low_z, low_y - high_y
    offset = -(ny * low_y + nz * low_z)
    return [0.0, ny, nz, offset], [0.0, -ny, nz, offset]


def _rounded_corners(length: float, width: float, rounding: float) -> list[Row]:
    """Two vertical faces at each corner of the plan view; larger ``rounding`` cuts more away."""
    rows: list[Row] = []
    for along, across in ((0.62 * rounding, 0.10), (0.14, 0.42 * rounding)):
        # Through (L/2 - along, W/2) and (L/2, W/2 - across).
        offset = -(across * (length / 2 - along) + along * width / 2)
        rows += [[across * i, along * j, 0.0, offset] for i in (1, -1) for j in (1, -1)]
    return rows


def wheels(length: float, width: float, radius: float, positions: Sequence[float]) -> list[Shape]:
    """Pairs of wheels, centers at shares of the length from the front."""
    outer, inner = width / 2 - 0.015, width / 2 - 0.23
    return [
        cylinder((x, sign * inner, radius), (x, sign * outer, radius), radius, Material.TIRE)
        for x in (length / 2 - share * length for share in positions)
        for sign in (1.0, -1.0)
    ]


def _seats(
    roof_front: float, roof_rear: float, half_width: float, low: float, high: float
) -> list[Shape]:
    """Two rows of seats, seen through the windows."""
    span, half = roof_front - roof_rear, half_width / 2
    return [
        box((x - 0.1, y - 0.22, low), (x + 0.1, y + 0.22, high), Material.INTERIOR)
        for x in (roof_front - 0.25 * span, roof_rear + 0.2 * span)
        for y in (half, -half)
    ]
