from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from ebm3d.simulation import intersections, raycast, vehicles
from ebm3d.simulation.ground import draw_ground
from ebm3d.simulation.intersections import intersect
from ebm3d.simulation.materials import Material
from ebm3d.simulation.raycast import GROUND, NOTHING, Rays, Sweep, bounding_rectangle
from ebm3d.simulation.returns import MEAN_FREE_PATHS, visible_rays
from ebm3d.simulation.scene import Scene, SceneObject
from ebm3d.simulation.solids import CYLINDER, ELLIPSOID, POLYHEDRON, box, cylinder, ellipsoid, place
from tests.oracles.ray_casting import (
    polyhedron_corners,
    ray_box,
    ray_cylinder,
    ray_ellipsoid,
    ray_polyhedron,
)

RAYS = Rays(np.deg2rad(np.linspace(4, -25, 40)), -np.pi + 0.001, np.deg2rad(1.0), 360, 360, 80.0)
FLAT = draw_ground(0.0, -4.0, 4.0, 1.73, np.random.default_rng(0))
LOW, HIGH = np.array([2.0, -1.5, -1.0]), np.array([5.0, 2.0, 0.7])
CENTER, RADII = np.array([4.0, 0.5, 0.2]), np.array([1.0, 2.0, 0.6])
START, END = np.array([3.0, -1.0, -0.5]), np.array([5.0, 1.2, 0.8])


def _directions(rng, num=300):
    directions = rng.normal(size=(num, 3)) * [1, 0.5, 0.3] + [1.5, 0, 0]
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _object(shape, x, y, yaw=0.0, z=-1.7):
    low, high = shape.extent
    return SceneObject("", shape, np.array([x, y, z, yaw]), high - low, 0.3)


def _cast(objects):
    scatter = np.full((len(RAYS.elevations), RAYS.num_columns), 0.5)
    solids = Scene(FLAT, objects).solids()
    return raycast.cast_sweep(solids, len(objects), FLAT, MEAN_FREE_PATHS, RAYS, scatter)


@pytest.mark.parametrize("name", ["box", "ellipsoid", "cylinder", "car body"])
def test_solids_are_hit_where_the_oracle_says(name, rng):
    car = place(vehicles.car((4.2, 1.7, 1.5), rng), 5.0, 0.3, -0.7, 0.4)
    body = car.rows[: car.starts[1]]
    shape, oracle, *geometry = {
        "box": (box(LOW, HIGH, Material.BODY), ray_box, LOW, HIGH),
        "ellipsoid": (ellipsoid(CENTER, RADII, Material.LEAVES), ray_ellipsoid, CENTER, RADII),
        "cylinder": (cylinder(START, END, 0.6, Material.METAL), ray_cylinder, START, END, 0.6),
        "car body": (car, ray_polyhedron, polyhedron_corners(body)),
    }[name]
    kind, rows = shape.kinds[0], shape.rows[: shape.starts[1]]
    python = intersections._intersect_polyhedron.py_func
    if kind != POLYHEDRON:
        python = partial(intersections._intersect_curved.py_func, kind)
    num_hits = 0
    for direction in _directions(rng, 200):
        entry, leave = oracle(*geometry, direction)
        got = intersect(kind, rows, direction)
        np.testing.assert_allclose(got, python(rows, direction), atol=1e-12)
        if entry > leave or leave - entry < 1e-7:
            assert got[1] - got[0] < 1e-6
        else:
            np.testing.assert_allclose(got[:2], (entry, leave), rtol=1e-9, atol=1e-9)
            num_hits += 1
    assert 20 < num_hits < 200


def test_incidence_is_the_cosine_to_the_normal(rng):
    center = np.array([5.0, 0.0, 0.0])
    sphere = ellipsoid(center, (1, 1, 1), Material.LEAVES)
    for direction in _directions(rng):
        entry, leave, _, _, cosine, _ = intersect(ELLIPSOID, sphere.rows, direction)
        if entry < leave:
            normal = entry * direction - center
            assert cosine == pytest.approx(abs(normal @ direction), abs=1e-9)
    barrel = cylinder((3, 0, 0), (5, 0, 0), 1.0, Material.METAL)
    direction = np.array([1.0, 0.1, 0.0]) / np.sqrt(1.01)
    entry, _, _, _, cosine, _ = intersect(CYLINDER, barrel.rows, direction)
    assert entry == pytest.approx(3 * np.sqrt(1.01))
    assert cosine == pytest.approx(direction[0])


def test_a_ray_along_a_face_outside_misses():
    rows = box((2, 1, -1), (4, 2, 1), Material.BODY).rows
    entry, leave, *_ = intersect(POLYHEDRON, rows, np.array([1.0, 0.0, 0.0]))
    assert entry > leave


def test_culling_changes_nothing(rng):
    """Every ray against every solid, without rectangles, gives the same first echo."""
    objects = [
        _object(vehicles.car((4, 1.6, 1.5), rng), 8, 3, 0.5),
        _object(vehicles.van((5, 1.9, 2.2), rng), -9, -2, 2.5),
        _object(box((-9, -0.2, 0), (9, 0.2, 2), Material.BRICK), -3, 6, 0.2),
        _object(cylinder((0, 0, 0), (0, 0, 5), 0.2, Material.METAL), -6, 0.01),
        _object(ellipsoid((0, 0, 1), (1, 1, 1), Material.METAL), 2, -4),
    ]
    sweep = _cast(objects)
    solids = Scene(FLAT, objects).solids()
    nearest = np.full(sweep.distance.shape, np.inf)
    for beam, elevation in enumerate(RAYS.elevations):
        for column in range(0, RAYS.num_columns, 3):
            azimuth = RAYS.first_azimuth + column * RAYS.azimuth_step
            level = np.cos(elevation)
            direction = [level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)]
            for p, kind in enumerate(solids.kinds):
                rows = solids.rows[solids.starts[p] : solids.starts[p + 1]]
                entry, leave, *_ = intersect(kind, rows, np.array(direction))
                if 0 < entry < leave:
                    nearest[beam, column] = min(nearest[beam, column], entry)
    met = np.minimum(sweep.distance, sweep.glass_distance)
    met[(sweep.owner == GROUND) & (sweep.glass_distance > sweep.distance)] = np.inf
    hit = np.isfinite(met)
    hit[:, np.arange(RAYS.num_columns) % 3 > 0] = False
    np.testing.assert_allclose(met[hit], nearest[hit], rtol=1e-12)
    assert hit.sum() > 500
    missed = np.isfinite(nearest) & ~hit
    # What the sweep lacks lies behind the ground.
    assert (sweep.distance[missed] <= nearest[missed]).all()


def test_the_rectangle_bounds_every_point_of_the_prism(rng):
    for _ in range(50):
        center = rng.uniform(-20, 20, 2)
        turn, half = rng.uniform(0, np.pi), rng.uniform(0.1, 4, 2)
        signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        footprint = signs * half @ rotation.T + center
        low, high = np.sort(rng.uniform(-2, 3, 2))
        bounds = bounding_rectangle(footprint, low, high)
        np.testing.assert_allclose(bounds, bounding_rectangle.py_func(footprint, low, high))
        az_low, az_high, el_low, el_high = bounds
        inner = rng.uniform(-1, 1, (200, 2)) * half @ rotation.T + center
        elevation = np.arctan2(rng.uniform(low, high, 200), np.hypot(*inner.T))
        middle = (az_low + az_high) / 2
        azimuth = np.arctan2(inner[:, 1], inner[:, 0])
        azimuth = np.mod(azimuth - middle + np.pi, 2 * np.pi) - np.pi + middle
        assert (np.abs(azimuth - middle) <= (az_high - az_low) / 2 + 1e-9).all()
        assert (elevation >= el_low - 1e-9).all()
        assert (elevation <= el_high + 1e-9).all()


def test_a_solid_around_the_sensor_is_seen_from_everywhere_and_lets_rays_pass():
    footprint = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    for function in (bounding_rectangle, bounding_rectangle.py_func):
        assert function(footprint, -1, 1)[:2] == (-np.pi, np.pi)
    sweep = _cast([_object(box((-1, -1, 0), (1, 1, 3), Material.BRICK), 0, 0)])
    assert not (sweep.owner == 0).any()


def test_the_jitted_sweep_is_its_python_source(rng):
    rays = Rays(np.deg2rad([-1.0, -4.0, -8.0]), -0.3, 0.02, 30, 314, 80.0)
    solids = Scene(FLAT, [_object(vehicles.car((4, 1.6, 1.5), rng), 9, 0, 0.5)]).solids()
    scatter = np.full((3, 30), 0.5)
    jitted = raycast.cast_sweep(solids, 1, FLAT, MEAN_FREE_PATHS, rays, scatter)
    values = (np.inf, NOTHING, 4, 0.0, np.inf, NOTHING, 0.0)
    python = Sweep(*(np.full((3, 30), v) for v in values), alone=np.zeros(1, dtype=np.int64))
    raycast.cast_solids.py_func(solids, MEAN_FREE_PATHS, rays, scatter, python)
    on_car = jitted.owner == 0
    np.testing.assert_allclose(jitted.distance[on_car], python.distance[on_car])
    np.testing.assert_allclose(jitted.glass_distance, python.glass_distance)
    np.testing.assert_array_equal(jitted.alone, python.alone)
    assert on_car.sum() > 10


def test_occlusion_grows_with_the_occluder(rng):
    car = _object(vehicles.car((4, 1.6, 1.5), rng), 20, 0, 1.2)
    sweeps = [_cast([car])]
    for half in (0.1, 0.4, 0.8, 1.6):
        pillar = box((-0.3, -half, 0), (0.3, half, 3), Material.BRICK)
        sweeps.append(_cast([car, _object(pillar, 10, 0)]))
    visible = [visible_rays(sweep)[0] for sweep in sweeps]
    assert visible == sorted(visible, reverse=True)
    assert visible[0] > visible[-1] == 0
    assert {sweep.alone[0] for sweep in sweeps} == {visible[0]}


def test_a_pane_is_noted_with_the_surface_behind_it():
    faces = box((-0.01, -3, 0), (0.01, 3, 3), Material.GLASS)
    wall = box((-0.2, -3, 0), (0.2, 3, 3), Material.BRICK)
    sweep = _cast([_object(faces, 10, 0), _object(wall, 20, 0)])
    behind = (sweep.glass_owner == 0) & (sweep.owner == 1)
    assert behind.sum() > 20
    assert (sweep.distance[behind] > sweep.glass_distance[behind]).all()
    assert (sweep.material[behind] == Material.BRICK).all()


def test_leaves_take_rays_at_exponential_depth(rng):
    """Depth below the surface of a deep cloud of leaves has the mean free path as its mean."""
    rays = Rays(np.zeros(1), -0.2, 0.4 / 4000, 4000, 62832, 80.0)
    cloud = box((0, -20, -5), (60, 20, 5), Material.LEAVES)
    solids = Scene(FLAT, [_object(cloud, 10, 0, z=0.0)]).solids()
    scatter = rng.random((1, 4000))
    sweep = raycast.cast_sweep(solids, 1, FLAT, MEAN_FREE_PATHS, rays, scatter)
    azimuth = rays.first_azimuth + rays.azimuth_step * np.arange(4000)
    depth = sweep.distance[0] - 10 / np.cos(azimuth)
    mean = MEAN_FREE_PATHS[Material.LEAVES]
    # 5 standard errors of the mean of 4000 exponential numbers: fails once in two million.
    assert abs(depth.mean() - mean) < 5 * mean / np.sqrt(4000)
