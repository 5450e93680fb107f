from __future__ import annotations

import numpy as np
import pytest

from ebm3d.simulation import people, vehicles
from ebm3d.simulation.materials import Material
from ebm3d.simulation.solids import (
    CYLINDER,
    POLYHEDRON,
    box,
    cylinder,
    ellipsoid,
    fit_to_box,
    place,
    polyhedron,
    polyhedron_bounds,
    union,
)
from tests.oracles.ray_casting import polyhedron_corners

BUILDERS = {
    "car": (vehicles.car, (4.0, 1.65, 1.52)),
    "van": (vehicles.van, (5.1, 1.9, 2.2)),
    "truck": (vehicles.truck, (9.5, 2.6, 3.3)),
    "pedestrian": (people.pedestrian, (0.8, 0.65, 1.75)),
    "cyclist": (people.cyclist, (1.75, 0.6, 1.73)),
}


def _surface(kind: int, rows: np.ndarray) -> np.ndarray:
    """Points that include, or come close to, the extreme points of one solid."""
    if kind == POLYHEDRON:
        return polyhedron_corners(rows)
    turn = np.linspace(0, 2 * np.pi, 721)
    if kind == CYLINDER:
        ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        unit = np.concatenate([np.insert(ring, 2, cap, axis=1) for cap in (-1.0, 1.0)])
    else:
        lift, around = np.meshgrid(np.linspace(-np.pi / 2, np.pi / 2, 361), turn)
        unit = np.stack(
            [np.cos(lift) * np.cos(around), np.cos(lift) * np.sin(around), np.sin(lift)], axis=-1
        ).reshape(-1, 3)
    return np.linalg.solve(rows[:, :3], (unit - rows[:, 3]).T).T


@pytest.mark.parametrize("name", BUILDERS)
def test_boxes_and_bounds_are_those_of_the_surface(name, rng):
    build, size = BUILDERS[name]
    for _ in range(3):
        length, width, height = wanted = np.array(size) * rng.uniform(0.9, 1.1, 3)
        shape = build(wanted, rng)
        ranges = zip(shape.kinds, shape.starts[:-1], shape.starts[1:], strict=True)
        points = [_surface(kind, shape.rows[start:end]) for kind, start, end in ranges]
        bounds = np.array([[p.min(axis=0), p.max(axis=0)] for p in points])
        np.testing.assert_allclose(shape.bounds, bounds, atol=2e-4)
        extent = [bounds[:, 0].min(axis=0), bounds[:, 1].max(axis=0)]
        expected = [[-length / 2, -width / 2, 0], [length / 2, width / 2, height]]
        np.testing.assert_allclose(extent, expected, atol=2e-4)


def test_the_same_box_holds_cars_of_different_shape():
    cabins = [
        vehicles.car((4.0, 1.65, 1.5), np.random.default_rng(seed)).bounds[1, :, 0].round(1)
        for seed in range(12)
    ]
    assert len({tuple(cabin) for cabin in cabins}) >= 6


def test_the_car_model_follows_the_size(rng):
    for size, common in (((3.3, 1.6, 1.5), {"hatchback"}), ((4.9, 1.8, 1.75), {"pickup", "suv"})):
        names = [vehicles.draw_car_model(size, rng).name for _ in range(200)]
        assert sum(name in common for name in names) > 120


def test_polyhedron_bounds_are_those_of_its_corners(rng):
    for _ in range(20):
        normals = rng.normal(size=(14, 3))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        faces = np.column_stack([normals, -rng.uniform(0.5, 2.0, 14)])
        corners = polyhedron_corners(faces)
        expected = [corners.min(axis=0), corners.max(axis=0)]
        for function in (polyhedron_bounds, polyhedron_bounds.py_func):
            np.testing.assert_allclose(function(faces), expected, atol=1e-9)


def test_placing_a_shape_moves_every_point_of_it(rng):
    shape = union(
        [
            box((-1, -2, 0), (1, 2, 3), Material.BRICK),
            ellipsoid((0.3, 0.1, 1.0), (0.5, 0.6, 0.7), Material.LEAVES),
            cylinder((0, 0, 0), (0.5, 0.2, 2.0), 0.3, Material.METAL),
        ]
    )
    x, y, z, yaw = 5.0, -3.0, -1.7, 0.8
    points = rng.normal(size=(50, 3))
    rotation = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    moved = points @ rotation.T + [x, y, z]
    result = place(shape, x, y, z, yaw)
    before = points @ shape.rows[:, :3].T + shape.rows[:, 3]
    after = moved @ result.rows[:, :3].T + result.rows[:, 3]
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_fitting_keeps_the_normals_of_faces_unit(rng):
    shape = fit_to_box(vehicles.car((4.0, 1.6, 1.5), rng), (6.0, 1.2, 2.0))
    face = np.repeat(shape.kinds == POLYHEDRON, np.diff(shape.starts))
    np.testing.assert_allclose(np.linalg.norm(shape.rows[face, :3], axis=1), 1.0)


@pytest.mark.parametrize(
    "faces",
    [
        [[1, 0, 0, -1], [-1, 0, 0, -1]],
        [[1, 0, 0, 1], [-1, 0, 0, 1], [0, 1, 0, -1], [0, -1, 0, -1], [0, 0, 1, -1], [0, 0, -1, -1]],
    ],
    ids=["unbounded", "empty"],
)
def test_faces_that_bound_no_volume_are_refused(faces):
    with pytest.raises(ValueError, match="finite volume"):
        polyhedron(faces, Material.BODY)
