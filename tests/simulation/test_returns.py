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
    values = (distance, 0, int(material), incidence, glass, 1, glass_incidence)
    return Sweep(
        *(np.full((1, NUM), float(v) if i in (0, 4) else v) for i, v in enumerate(values)),
        alone=np.array([NUM, NUM]),
    )


def _echoes(sweep, tint=0.3, sensor=SENSOR, seed=0):
    rays = Rays(np.zeros(1), -0.5, 1.0 / NUM, NUM, 6 * NUM, 80.0)
    generator = np.random.default_rng(seed)
    return draw_echoes(sweep, rays, sensor, np.array([tint, 0.5]), generator)


def _ranges(echoes):
    return np.linalg.norm(echoes.points[:, :3].astype(float), axis=1)


@pytest.mark.parametrize(
    ("distance", "tint", "cosine"), [(30, 0.05, 1.0), (50, 0.3, 0.3), (60, 0.3, 1.0)]
)
def test_echoes_are_detected_as_often_as_their_power_says(distance, tint, cosine):
    """S = rho / 0.2 (g + (1 - g) cos) (reach / r)^2, detected with S^3 / (1 + S^3)."""
    roughness = OPTICS[Material.BODY, ROUGHNESS]
    power = tint / 0.2 * (roughness + (1 - roughness) * cosine) * (SENSOR.reach / distance) ** 2
    expected = (1 - SENSOR.loss) * power**3 / (1 + power**3)
    share = len(_echoes(_sweep(distance, incidence=cosine), tint).points) / NUM
    # 5 standard errors of a share: fails once in two million.
    assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / NUM)


def test_ranges_have_the_sensor_s_noise_step_and_beam_offsets():
    sensor = replace(SENSOR, beam_noise=0.0)
    ranges = _ranges(_echoes(_sweep(20.0, material=Material.METAL), sensor=sensor))
    error, spread = ranges - 20.0, sensor.range_noise
    assert abs(error.mean()) < 5 * spread / np.sqrt(len(error))
    assert abs(error.std() - spread) < 5 * spread / np.sqrt(2 * len(error)) + sensor.range_step / 5
    steps = ranges / sensor.range_step
    np.testing.assert_allclose(steps, np.round(steps), atol=2e-2)
    errors = [_ranges(_echoes(_sweep(20.0), seed=seed)).mean() - 20.0 for seed in (1, 2)]
    np.testing.assert_allclose(errors, SENSOR.beam_offsets[0], atol=1e-3)


@pytest.mark.parametrize(
    ("glass", "incidence", "low", "high"),
    [(8.0, 0.3, 0.07, 0.15), (8.0, 1.0, 0.5, 0.7), (12, 1, 0, 0)],
)
def test_panes_mirror_more_often_the_more_they_face_the_sensor(glass, incidence, low, high):
    """A tenth of the rays aslant, more than half at a right angle, none behind a wall."""
    echoes = _echoes(_sweep(10.0, Material.BRICK, glass=glass, glass_incidence=incidence))
    mirrored = (_ranges(echoes) < 9).mean()
    assert low <= mirrored <= high
    assert (echoes.owner == 1).mean() == mirrored


def test_intensity_follows_the_formula_in_the_mean():
    tint, cosine = 0.3, 0.6
    echoes = _echoes(_sweep(10.0, incidence=cosine), tint)
    roughness = OPTICS[Material.BODY, ROUGHNESS]
    brightness = tint * (0.4 + 0.6 * (roughness + (1 - roughness) * cosine))
    expected = 0.85 * brightness / (brightness + 0.25) - 0.10
    assert echoes.points[:, 3].mean() == pytest.approx(expected, abs=0.01)
    assert np.median(_echoes(_sweep(10.0), tint=0.03).points[:, 3]) <= 0.02


def test_only_bodies_take_the_tint():
    brick = _echoes(_sweep(10.0, Material.BRICK), tint=0.01).points[:, 3].mean()
    same = _echoes(_sweep(10.0), tint=OPTICS[Material.BRICK, REFLECTANCE]).points[:, 3].mean()
    assert brick == pytest.approx(same, abs=0.02)


def test_the_sky_and_ranges_out_of_reach_give_no_echo():
    sensor = replace(SENSOR, reach=1000.0)
    sky = _sweep(np.inf)._replace(owner=np.full((1, NUM), NOTHING))
    for sweep in (sky, _sweep(1.0), _sweep(85.0)):
        assert _echoes(sweep, sensor=sensor).points.shape == (0, 4)


def test_visible_rays_count_the_first_surface_be_it_glass():
    np.testing.assert_array_equal(visible_rays(_sweep(10.0, glass=8.0)), [0, NUM])


@pytest.mark.parametrize(
    ("name", "beams", "columns"), [("64-beam", 64, 2000), ("32-beam", 32, 1000)]
)
def test_a_full_sweep_has_the_beams_and_azimuths_of_its_sensor(name, beams, columns):
    sensor = find_sensor(name)
    assert (len(sensor.elevations_deg), sensor.num_columns, sensor.height) == (beams, columns, 1.73)
    assert (np.diff(sensor.elevations_deg) < 0).all()
    points = simulate_frame(3, name, "full").points.astype(float)
    elevation = np.rad2deg(np.arcsin(points[:, 2] / np.linalg.norm(points[:, :3], axis=1)))
    distances = np.abs(elevation[:, None] - sensor.elevations_deg)
    assert distances.min(axis=1).max() < 1e-3
    assert len(np.unique(distances.argmin(axis=1))) >= 0.8 * beams
    azimuth = np.rad2deg(np.arctan2(points[:, 1], points[:, 0]))
    assert np.histogram(azimuth, bins=36, range=(-180, 180))[0].min() > 0


def test_an_unknown_sensor_is_refused_by_name():
    with pytest.raises(ValueError, match="sensor must be one of 64-beam, 32-beam"):
        find_sensor("16-beam")
