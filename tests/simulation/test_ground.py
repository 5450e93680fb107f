from __future__ import annotations

import numpy as np
import pytest

from ebm3d.simulation import ground as ground_module
from ebm3d.simulation.ground import (
    Ground,
    cast_ground,
    draw_ground,
    ground_height,
    ground_incidence,
    is_road,
)

TABLE = np.arange(-125, 125.05, 0.1)


def _plane(slope_along: float, slope_across: float, heading: float = 0.0) -> Ground:
    along, across = slope_along * TABLE - 1.73, slope_across * TABLE
    return Ground(along, across, np.cos(heading), np.sin(heading), -4.0, 4.0)


def _direction(azimuth_deg: float, elevation_deg: float) -> tuple[float, float, float]:
    azimuth, elevation = np.deg2rad([azimuth_deg, elevation_deg])
    level = np.cos(elevation)
    return level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)


@pytest.mark.parametrize("heading", [0.0, 0.4])
@pytest.mark.parametrize("azimuth", [-30.0, 10.0, 100.0])
@pytest.mark.parametrize("elevation", [-2.5, -8.0, -24.0])
def test_a_ray_meets_a_sloping_plane_where_algebra_says(heading, azimuth, elevation):
    ground = _plane(0.01, -0.02, heading)
    dx, dy, dz = _direction(azimuth, elevation)
    along = dx * np.cos(heading) + dy * np.sin(heading)
    across = -dx * np.sin(heading) + dy * np.cos(heading)
    expected = 1.73 / (0.01 * along - 0.02 * across - dz)
    assert cast_ground(dx, dy, dz, 100.0, ground) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("elevation", "max_range"), [(1, 120.0), (-5, 15.0)])
def test_rays_to_the_sky_or_beyond_the_range_meet_nothing(elevation, max_range):
    assert cast_ground(*_direction(0, elevation), max_range, _plane(0.0, 0.0)) == np.inf


def test_a_ray_ends_on_the_first_ground_it_meets(rng):
    """Against a march in steps of a millimeter, on drawn grounds with waves and curbs."""
    for _ in range(12):
        ground = draw_ground(rng.normal(0, 0.2), -3.0, 5.0, 1.73, rng)
        dx, dy, dz = _direction(rng.uniform(-40, 40), rng.uniform(-20, -3))
        distance = cast_ground(dx, dy, dz, 90.0, ground)
        steps = np.arange(0.5, min(distance, 90.0) + 0.2, 1e-3)
        s = steps * (dx * ground.heading_cos + dy * ground.heading_sin)
        across = steps * (-dx * ground.heading_sin + dy * ground.heading_cos)
        height = np.interp(s, TABLE, ground.along) + np.interp(across, TABLE, ground.across)
        below = np.flatnonzero(steps * dz <= height)
        assert distance == pytest.approx(steps[below[0]], abs=4e-3)


def test_streets_are_slightly_uneven_and_the_sensor_stands_at_its_height(rng):
    grounds = [draw_ground(0.0, -4.0, 5.0, 1.73, rng) for _ in range(200)]
    np.testing.assert_allclose([ground_height(0.0, 0.0, ground) for ground in grounds], -1.73)
    assert 0.1 < np.std([ground_height(30.0, 0.0, ground) for ground in grounds]) < 1.0


def test_a_curb_separates_the_road_from_the_verge():
    ground = _plane(0, 0, heading=0.3)
    left = np.array([-np.sin(0.3), np.cos(0.3)])
    assert [bool(is_road(*(at * left), ground)) for at in (3.9, 4.1, -4.1)] == [True, False, False]


def test_incidence_on_a_plane_is_the_cosine_to_its_normal():
    direction = np.array(_direction(20, -10))
    normal = np.array([-0.05, 0.1, 1.0]) / np.sqrt(1.0125)
    cosine = ground_incidence(5.0, 1.0, *direction, _plane(0.05, -0.1))
    assert cosine == pytest.approx(abs(direction @ normal), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ground_height", (7.3, -2.1)),
        ("is_road", (7.3, -2.1)),
        ("cast_ground", (*_direction(10, -6), 80.0)),
        ("cast_ground", (*_direction(10, -6), 8.0)),
        ("ground_incidence", (7.3, -2.1, *_direction(10, -6))),
    ],
)
def test_jitted_functions_are_their_python_sources(name, arguments, rng):
    ground = draw_ground(0.1, -3.0, 5.0, 1.73, rng)
    function = getattr(ground_module, name)
    expected = function.py_func(*arguments, ground)
    assert function(*arguments, ground) == pytest.approx(expected, rel=1e-12)


def test_outside_the_tables_the_ground_goes_on_level():
    assert ground_height(500.0, 0.0, _plane(0.01, 0.0)) == pytest.approx(1.25 - 1.73, abs=2e-3)
