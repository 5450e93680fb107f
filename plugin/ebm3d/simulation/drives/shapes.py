"""Shapes of the classes that nuScenes has and KITTI has not; front at +x, bottom center at 0."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ebm3d.simulation import people, vehicles
from ebm3d.simulation.drives.statistics import load_drive_statistics
from ebm3d.simulation.materials import Material
from ebm3d.simulation.solids import (
    Shape,
    Size,
    box,
    cylinder,
    ellipsoid,
    fit_to_box,
    polyhedron,
    union,
)
from ebm3d.simulation.street import draw_size, draw_tint
from ebm3d.simulation.vehicles import profile, sides, slab, wheels

Build = Callable[[Size, np.random.Generator], Shape]


def bus(size: Size, generator: np.random.Generator) -> Shape:
    """Build a city bus: a floor, a band of windows with seats behind it, a roof."""
    length, width, height = size
    front, side = length / 2, width / 2
    belt = generator.uniform(0.36, 0.44) * height
    top = generator.uniform(0.74, 0.82) * height
    parts = [
        box((-front, -side, 0.3), (front, side, belt), Material.BODY),
        box((0.02 - front, 0.02 - side, belt), (front - 0.02, side - 0.02, top), Material.GLASS),
        box((-front, -side, top), (front - 0.05, side, height), Material.BODY),
        box(
            (-front + 0.5, -0.4 * width, belt), (front - 2.5, -0.2, 0.6 * height), Material.INTERIOR
        ),
        box((-front + 0.5, 0.2, belt), (front - 2.5, 0.4 * width, 0.6 * height), Material.INTERIOR),
        *wheels(length, width, 0.48, (0.22, 0.75)),
    ]
    return fit_to_box(union(parts), size)


def trailer(size: Size, generator: np.random.Generator) -> Shape:
    """Build a trailer: a closed or an open load on a frame, axles at the rear."""
    length, width, height = size
    bed = min(generator.uniform(0.9, 1.3), 0.45 * height)
    top = height if generator.random() < 0.7 else bed + 0.25
    front_wall = (length / 2 - 0.15, -width / 2, bed), (length / 2, width / 2, height)
    parts = [
        box((-length / 2, -width / 2, bed), (length / 2, width / 2, top), Material.BODY),
        box(*front_wall, Material.BODY),
        box((-length / 2, -0.4, bed - 0.3), (length / 2, 0.4, bed), Material.METAL),
        *wheels(length, width, min(0.48, 0.4 * bed + 0.1), (0.70, 0.80, 0.90)),
    ]
    return fit_to_box(union(parts), size)


def construction_vehicle(size: Size, generator: np.random.Generator) -> Shape:
    """Build an excavator: tracks, a body with a cabin, a boom with a bucket ahead."""
    length, width, height = size
    rear, turret = -length / 2, generator.uniform(0.0, 0.1) * length
    cabin_top = generator.uniform(0.75, 1.0) * height
    elbow = (0.25 * length, 0.0, generator.uniform(0.8, 1.0) * height - 0.15)
    bucket = (length / 2 - 0.3, 0.0, generator.uniform(0.1, 0.4) * height)
    cabin = [
        *slab(2, 0.45 * height, cabin_top),
        *slab(0, turret - 0.8, turret + 0.8),
        *slab(1, 0.0, 0.45 * width),
        profile((turret + 0.8, 0.6 * height), (turret + 0.5, cabin_top)),
    ]
    panes = [Material.BODY] * 2 + [Material.GLASS] * 5
    parts = [
        box((rear + 0.3, -width / 2, 0.0), (turret + 1.6, -width / 2 + 0.5, 0.8), Material.TIRE),
        box((rear + 0.3, width / 2 - 0.5, 0.0), (turret + 1.6, width / 2, 0.8), Material.TIRE),
        box((rear, -0.45 * width, 0.7), (turret + 0.8, 0.45 * width, 0.5 * height), Material.BODY),
        polyhedron(cabin, panes),
        cylinder((turret, 0.0, 0.45 * height), elbow, 0.18, Material.BODY),
        cylinder(elbow, bucket, 0.14, Material.BODY),
        box(
            (bucket[0] - 0.35, -0.5, bucket[2] - 0.3), (length / 2, 0.5, bucket[2]), Material.METAL
        ),
    ]
    return fit_to_box(union(parts), size)


def bicycle(size: Size, generator: np.random.Generator) -> Shape:
    """Build a bicycle without its rider."""
    length, width, height = size
    radius = 0.33 * generator.uniform(0.95, 1.05)
    axle, saddle, bar = length / 2 - radius, 0.92 * height, height
    parts = [
        cylinder((-axle, 0, radius), (0, 0, 0.55 * height), 0.025, Material.METAL),
        cylinder((-0.05, 0, 0.3), (-0.25, 0, saddle), 0.02, Material.METAL),
        cylinder((-0.15, 0, 0.6 * height), (0.6 * axle, 0, 0.75 * height), 0.025, Material.METAL),
        cylinder((axle, 0, radius), (0.6 * axle, 0, bar), 0.025, Material.METAL),
        cylinder((0.6 * axle, -width / 2, bar), (0.6 * axle, width / 2, bar), 0.02, Material.METAL),
        ellipsoid((-0.25, 0, saddle), (0.13, 0.08, 0.05), Material.BODY),
    ]
    for x in (-axle, axle):
        parts.append(cylinder((x, -0.02, radius), (x, 0.02, radius), radius, Material.SPOKES))
    return fit_to_box(union(parts), size)


def motorcycle(size: Size, generator: np.random.Generator) -> Shape:
    """Build a motorcycle or scooter without its rider."""
    return fit_to_box(union(_motorcycle(size, size[2], generator)), size)


def ridden_motorcycle(size: Size, generator: np.random.Generator) -> Shape:
    """Build a motorcycle with its rider."""
    length, _, height = size
    seat, shoulder = 0.48 * height, 0.80 * height
    lean = generator.uniform(0.05, 0.25)
    parts = _motorcycle(size, 0.68 * height, generator)
    parts += [
        ellipsoid((lean + 0.05, 0, 0.92 * height), (0.14, 0.13, 0.08 * height), Material.BODY),
        cylinder((-0.2, 0, seat), (lean, 0, shoulder), 0.19, Material.BODY),
    ]
    for sign in (1.0, -1.0):
        hand = (0.25 * length, 0.3 * sign, 0.65 * height)
        foot = (0.05, 0.2 * sign, 0.18 * height)
        parts.append(cylinder((lean, 0.2 * sign, shoulder), hand, 0.055, Material.BODY))
        parts.append(cylinder((-0.15, 0.12 * sign, seat), foot, 0.09, Material.BODY))
    return fit_to_box(union(parts), size)


def traffic_cone(size: Size, generator: np.random.Generator) -> Shape:
    """Build a cone of eight sides on a plate."""
    length, width, height = size
    radius, top = 0.4 * min(length, width), generator.uniform(0.03, 0.05)
    angles = np.arange(8) * np.pi / 4
    slope = (radius - top) / height
    around = [[np.cos(a), np.sin(a), slope, -radius] for a in angles]
    plate = (-length / 2, -width / 2, 0.0), (length / 2, width / 2, 0.04)
    parts = [
        polyhedron([*around, *slab(2, 0.0, height)], Material.BODY),
        box(*plate, Material.TIRE),
    ]
    return fit_to_box(union(parts), size)


def barrier(size: Size, generator: np.random.Generator) -> Shape:
    """Build a jersey barrier, or a board on two feet; its long side lies along y."""
    length, width, height = size
    if generator.random() < 0.6:
        rows = np.array(sides(length / 2, 0.0, 0.16 * length, height))[:, [1, 0, 2, 3]]
        faces = [*rows.tolist(), *slab(1, -width / 2, width / 2), *slab(2, 0.0, height)]
        return fit_to_box(polyhedron(faces, Material.CONCRETE), size)
    board = (-0.04, -width / 2, 0.35 * height), (0.04, width / 2, height)
    parts = [box(*board, Material.BODY)]
    for y in (-0.4 * width, 0.4 * width):
        parts.append(
            box((-length / 2, y - 0.05, 0.0), (length / 2, y + 0.05, 0.08), Material.METAL)
        )
        parts.append(box((-0.03, y - 0.03, 0.0), (0.03, y + 0.03, 0.4 * height), Material.METAL))
    return fit_to_box(union(parts), size)


def ego_vehicle() -> Shape:
    """Body and cabin of the car that carries the sensor, in its frame, rear axle at the origin."""
    body, cabin = ((-0.6, -0.86, 0.15), (3.4, 0.86, 0.8)), ((-0.2, -0.5, 0.7), (1.6, 0.5, 1.46))
    return union([box(*body, Material.BODY), box(*cabin, Material.BODY)])


BUILDERS: dict[str, Build] = {
    "car": vehicles.car,
    "truck": vehicles.truck,
    "bus": bus,
    "trailer": trailer,
    "construction_vehicle": construction_vehicle,
    "bicycle": bicycle,
    "motorcycle": motorcycle,
    "pedestrian": people.pedestrian,
    "traffic_cone": traffic_cone,
    "barrier": barrier,
}
RIDDEN: dict[str, Build] = {"bicycle": people.cyclist, "motorcycle": ridden_motorcycle}


def draw_object(
    name: str, generator: np.random.Generator, *, ridden: bool = False
) -> tuple[Shape, float]:
    """Draw the shape of an object and the reflectance of its paint."""
    size = draw_size(load_drive_statistics()[name], generator)
    if ridden:  # with the rider's height
        size[2] = generator.normal(1.75, 0.07)
    build = RIDDEN[name] if ridden else BUILDERS[name]
    tint = generator.uniform(0.25, 0.6) if name == "traffic_cone" else draw_tint(name, generator)
    return build(size, generator), float(tint)


def _motorcycle(size: Size, height: float, generator: np.random.Generator) -> list[Shape]:
    """Wheels, body, fork and handlebar of a motorcycle of this height."""
    length, width, _ = size
    radius = 0.28 * generator.uniform(0.9, 1.1)
    axle, bar = length / 2 - radius, (0.25 * length, 0.9 * height)
    parts = [
        ellipsoid((-0.1, 0, 0.55 * height), (0.3 * length, 0.16, 0.2 * height), Material.BODY),
        box((-0.25, -0.15, 0.2), (0.25, 0.15, 0.5 * height), Material.METAL),
        cylinder((axle, 0, radius), (bar[0], 0, bar[1]), 0.05, Material.METAL),
        cylinder((bar[0], -width / 2, bar[1]), (bar[0], width / 2, bar[1]), 0.025, Material.METAL),
        ellipsoid((bar[0] + 0.05, 0, bar[1] - 0.05), (0.1, 0.2, 0.15), Material.BODY),
    ]
    for x in (-axle, axle):
        parts.append(cylinder((x, -0.06, radius), (x, 0.06, radius), radius, Material.TIRE))
    return parts
