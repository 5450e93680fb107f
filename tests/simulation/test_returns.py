from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ebm3d.simulation import SENSORS, simulate_frame
from ebm3d.simulation.materials import OPTICS, REFLECTANCE, ROUGHNESS, Material
from ebm3d.simulation.raycast import NOTHING, Rays, Sweep
from ebm3d.simulation.returns import draw_echoes, visible_rays
from ebm3d.simulation.sensors import find_sensor

SENSOR = SENSORS["64-beam"]
NUM = 20_000


def _sweep(distance, material=Material.BODY, incidence=1.0, glass=np.inf, glass_incidence=1.0):
    """One beam of NUM rays that all meet the same surface of object 0."""
    full = lambda value: np.full((1, NUM), value)  # noqa: E731
    return Sweep(
        full(float(distance)),
        full(0),
        full(int(material)),
        full(float(incidence)),
        full(float(glass)),
        full(1 if np.isfinite(glass) else NOTHING),
        full(float(glass_incidence)),
        np.array([NUM, NUM]),
    )


def _echoes(sweep, tint=0.3, sensor=SENSOR, seed=0):
    rays = Rays(np.zeros(1), -0.5, 1.0 / NUM, NUM, 6 * NUM, 80.0)
    generator = np.random.default_rng(seed)
    return draw_echoes(sweep, rays, sensor, np.array([tint, 0.5]), generator)


def _ranges(echoes):
    return np.linalg.norm(echoes.points[:, :3].astype(float), axis=1)


@pytest.mark.parametrize(("distance", "tint", "cosine"), [(30, 0.05, 1.0), (50, 0.3, 0.3)])
def test_echoes_are_detected_as_often_as_their_power_says(distance, tint, cosine):
    """S = rho / 0.2 (g + (1 - g) cos) (reach / r)^2, detected with S^3 / (1 + S^3)."""
    roughness = OPTICS[Material.BODY, ROUGHNESS]
    power = tint / 0.2 * (roughness + (1 - roughness) * cosine) * (SENSOR.reach / distance) ** 2
    expected = (1 - SENSOR.loss) * power**3 / (1 + power**3)
    share = len(_echoes(_sweep(distance, incidence=cosine), tint).points) / NUM
    # 5 standard errors of a share: fails once in two million.
    assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / NUM)


@pytest.mark.parametrize(
    ("easier", "harder"),
    [
        ((30, 0.3, 1.0), (60, 0.3, 1.0)),
        ((40, 0.3, 1.0), (40, 0.03, 1.0)),
        ((50, 0.2, 1.0), (50, 0.2, 0.1)),
    ],
    ids=["range", "dark paint", "incidence"],
)
def test_drop_out_grows_with(easier, harder):
    kept = [
        len(_echoes(_sweep(r, incidence=cosine), tint).points)
        for r, tint, cosine in (easier, harder)
    ]
    assert kept[0] > 1.1 * kept[1]


def test_range_noise_has_the_sensor_s_spread():
    sensor = replace(SENSOR, beam_noise=0.0)
    error = _ranges(_echoes(_sweep(20.0, material=Material.METAL), sensor=sensor)) - 20.0
    spread = sensor.range_noise
    assert abs(error.mean()) < 5 * spread / np.sqrt(len(error))
    assert abs(error.std() - spread) < 5 * spread / np.sqrt(2 * len(error)) + sensor.range_step / 5


def test_beams_keep_their_offsets_from_frame_to_frame():
    errors = [_ranges(_echoes(_sweep(20.0), seed=seed)).mean() - 20.0 for seed in (1, 2)]
    np.testing.assert_allclose(errors, SENSOR.beam_offsets[0], atol=1e-3)


def test_ranges_come_in_the_sensor_s_steps():
    steps = _ranges(_echoes(_sweep(20.0))) / SENSOR.range_step
    np.testing.assert_allclose(steps, np.round(steps), atol=2e-2)


def test_most_rays_pass_a_pane_that_they_meet_aslant():
    """A tenth is mirrored; of the rest, all come back at this distance but for the loss."""
    echoes = _echoes(_sweep(10.0, Material.BRICK, glass=8.0, glass_incidence=0.3))
    passed = (_ranges(echoes) > 9).mean()
    assert 0.85 < passed < 0.93


def test_a_pane_that_faces_the_sensor_mirrors_more_often():
    facing = _echoes(_sweep(10.0, Material.BRICK, glass=8.0, glass_incidence=1.0))
    assert 0.5 < (_ranges(facing) < 9).mean() < 0.7


def test_a_pane_behind_a_wall_is_not_there():
    echoes = _echoes(_sweep(10.0, Material.BRICK, glass=12.0))
    assert (_ranges(echoes) < 11).all()
    assert (echoes.owner == 0).all()


def test_intensity_follows_the_formula_in_the_mean():
    tint, cosine = 0.3, 0.6
    echoes = _echoes(_sweep(10.0, incidence=cosine), tint)
    roughness = OPTICS[Material.BODY, ROUGHNESS]
    brightness = tint * (0.4 + 0.6 * (roughness + (1 - roughness) * cosine))
    expected = 0.85 * brightness / (brightness + 0.25) - 0.10
    assert echoes.points[:, 3].mean() == pytest.approx(expected, abs=0.01)


def test_dark_paint_has_almost_no_intensity():
    assert np.median(_echoes(_sweep(10.0), tint=0.03).points[:, 3]) <= 0.02


def test_only_bodies_take_the_tint():
    brick = _echoes(_sweep(10.0, Material.BRICK), tint=0.01).points[:, 3].mean()
    same = _echoes(_sweep(10.0), tint=OPTICS[Material.BRICK, REFLECTANCE]).points[:, 3].mean()
    assert brick == pytest.approx(same, abs=0.02)


def test_a_sky_gives_no_echo():
    sweep = _sweep(np.inf)._replace(owner=np.full((1, NUM), NOTHING))
    assert _echoes(sweep).points.shape == (0, 4)


@pytest.mark.parametrize("distance", [1.0, 85.0])
def test_echoes_outside_the_sensor_s_range_are_lost(distance):
    sensor = replace(SENSOR, reach=1000.0)
    assert len(_echoes(_sweep(distance), sensor=sensor).points) == 0


def test_visible_rays_count_the_first_surface_be_it_glass():
    sweep = _sweep(10.0, glass=8.0)
    np.testing.assert_array_equal(visible_rays(sweep), [0, NUM])


@pytest.mark.parametrize(
    ("name", "beams", "columns"), [("64-beam", 64, 2000), ("32-beam", 32, 1000)]
)
def test_a_sensor_has_its_beams_and_columns(name, beams, columns):
    sensor = find_sensor(name)
    assert (sensor.num_beams, sensor.num_columns) == (beams, columns)
    assert (np.diff(sensor.elevations_deg) < 0).all()


@pytest.mark.parametrize("name", list(SENSORS))
def test_a_full_turn_has_no_more_elevations_than_beams(name):
    points = simulate_frame(3, name, "full").points.astype(float)
    elevation = np.rad2deg(np.arcsin(points[:, 2] / np.linalg.norm(points[:, :3], axis=1)))
    beams = find_sensor(name).elevations_deg
    nearest = np.abs(elevation[:, None] - beams).min(axis=1)
    assert nearest.max() < 1e-3
    assert len(np.unique(np.abs(elevation[:, None] - beams).argmin(axis=1))) >= 0.8 * len(beams)
    azimuth = np.rad2deg(np.arctan2(points[:, 1], points[:, 0]))
    assert np.histogram(azimuth, bins=36, range=(-180, 180))[0].min() > 0


def test_the_64_beam_sensor_is_mounted_as_in_kitti():
    sensor = find_sensor("64-beam")
    assert sensor.height == 1.73
    assert (sensor.elevations_deg[0], round(sensor.elevations_deg[-1], 2)) == (2.0, -24.33)


def test_an_unknown_sensor_is_refused_by_name():
    with pytest.raises(ValueError, match="sensor must be one of 64-beam, 32-beam"):
        find_sensor("16-beam")
