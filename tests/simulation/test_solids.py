from __future__ import annotations

import numpy as np
import pytest

from ebm3d.simulation import people, vehicles
from ebm3d.simulation.materials import Material
from ebm3d.simulation.solids import (
    CYLINDER,
    ELLIPSOID,
    POLYHEDRON,
    Shape,
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


def _extent(shape: Shape) -> np.ndarray:
    """Bounding box of a shape from points of its surface."""
    points = [
        _surface(kind, shape.rows[start:end])
        for kind, start, end in zip(shape.kinds, shape.starts, shape.starts[1:], strict=False)
    ]
    return np.stack([np.concatenate(points).min(axis=0), np.concatenate(points).max(axis=0)])


@pytest.mark.parametrize("name", BUILDERS)
def test_the_label_box_is_the_bounding_box_of_the_shape(name, rng):
    build, size = BUILDERS[name]
    for _ in range(3):
        wanted = np.array(size) * rng.uniform(0.9, 1.1, 3)
        extent = _extent(build(wanted, rng))
        expected = [[-wanted[0] / 2, -wanted[1] / 2, 0], [wanted[0] / 2, wanted[1] / 2, wanted[2]]]
        np.testing.assert_allclose(extent, expected, atol=2e-4)


@pytest.mark.parametrize("name", BUILDERS)
def test_the_bounds_of_every_solid_are_those_of_its_surface(name, rng):
    build, size = BUILDERS[name]
    shape = build(size, rng)
    for i, kind in enumerate(shape.kinds):
        points = _surface(kind, shape.rows[shape.starts[i] : shape.starts[i + 1]])
        bounds = np.stack([points.min(axis=0), points.max(axis=0)])
        np.testing.assert_allclose(shape.bounds[i], bounds, atol=2e-4)


def test_no_car_fills_its_box(rng):
    """Share of the box inside the shape: below that of a cuboid, above that of a wire frame."""
    shape = vehicles.car((4.0, 1.65, 1.5), rng)
    low, high = shape.extent
    points = rng.uniform(low, high, size=(4000, 3))
    inside = np.zeros(len(points), dtype=bool)
    for i, kind in enumerate(shape.kinds):
        rows = shape.rows[shape.starts[i] : shape.starts[i + 1]]
        u = points @ rows[:, :3].T + rows[:, 3]
        if kind == POLYHEDRON:
            inside |= (u <= 0).all(axis=1)
        else:
            inside |= ((u[:, :2] ** 2).sum(axis=1) <= 1) & (np.abs(u[:, 2]) <= 1)
    assert 0.5 < inside.mean() < 0.85


def test_the_same_box_holds_cars_of_different_shape():
    roofs = set()
    for seed in range(12):
        shape = vehicles.car((4.0, 1.65, 1.5), np.random.default_rng(seed))
        cabin = shape.bounds[1]
        roofs.add((round(float(cabin[0, 0]), 1), round(float(cabin[1, 0]), 1)))
    assert len(roofs) >= 6


@pytest.mark.parametrize("low", [False, True])
def test_the_car_model_follows_the_size(low):
    generator = np.random.default_rng(1)
    size = (3.3, 1.6, 1.5) if low else (4.9, 1.8, 1.75)
    names = [vehicles.draw_car_model(size, generator).name for _ in range(200)]
    assert (names.count("hatchback") > 120) == low
    assert (names.count("pickup") + names.count("suv") > 120) == (not low)


def test_polyhedron_bounds_are_those_of_its_corners(rng):
    for _ in range(20):
        normals = rng.normal(size=(14, 3))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        faces = np.column_stack([normals, -rng.uniform(0.5, 2.0, 14)])
        corners = polyhedron_corners(faces)
        expected = [corners.min(axis=0), corners.max(axis=0)]
        np.testing.assert_allclose(polyhedron_bounds(faces), expected, atol=1e-9)
        np.testing.assert_array_equal(polyhedron_bounds(faces), polyhedron_bounds.py_func(faces))


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
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    moved = points @ turn.T + [x, y, z]
    placed = place(shape, x, y, z, yaw)
    before = points @ shape.rows[:, :3].T + shape.rows[:, 3]
    after = moved @ placed.rows[:, :3].T + placed.rows[:, 3]
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_fitting_keeps_the_normals_of_faces_unit(rng):
    shape = fit_to_box(vehicles.car((4.0, 1.6, 1.5), rng), (6.0, 1.2, 2.0))
    face = np.repeat(shape.kinds == POLYHEDRON, np.diff(shape.starts))
    np.testing.assert_allclose(np.linalg.norm(shape.rows[face, :3], axis=1), 1.0)


def test_a_cylinder_ends_at_its_end_faces():
    shape = cylinder((0, 0, 1), (0, 0, 4), 0.5, Material.METAL)
    assert shape.kinds[0] == CYLINDER
    np.testing.assert_allclose(shape.extent, [[-0.5, -0.5, 1], [0.5, 0.5, 4]], atol=1e-12)


def test_an_ellipsoid_ends_at_its_radii():
    shape = ellipsoid((1, 2, 3), (0.5, 1.0, 1.5), Material.LEAVES)
    assert shape.kinds[0] == ELLIPSOID
    np.testing.assert_allclose(shape.extent, [[0.5, 1, 1.5], [1.5, 3, 4.5]], atol=1e-12)


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
