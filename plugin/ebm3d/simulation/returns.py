"""From surfaces to echoes: windows, detection, range noise, intensity.

The power of an echo, relative to that of a surface of reflectance 0.2 hit at a right angle at the
sensor's reach, is

    S = w * (rho / 0.2) * (g + (1 - g) cos(theta)) * (reach / r)^2

with reflectance rho, roughness g, incidence theta, range r, and w = 0.25 behind a window pane. It
is detected with probability S^3 / (1 + S^3), less the sensor's loss. Intensity leaves out the
range, for which the sensor compensates, depends on incidence less, and saturates:

    I = 0.85 X / (X + 0.25) - 0.10,   X = w rho (0.4 + 0.6 (g + (1 - g) cos(theta)))

with 15 % noise on X, clipped to [0, 0.99] in steps of 0.01: dark paint gives zero, asphalt about
0.2, as in KITTI's clouds. Grass stands up from the ground and shortens ranges.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebm3d.simulation.materials import MEAN_FREE_PATH, OPTICS, REFLECTANCE, ROUGHNESS, Material
from ebm3d.simulation.raycast import NOTHING, Rays, Sweep
from ebm3d.simulation.sensors import Sensor

FloatArray = NDArray[np.float64]
_REFERENCE = 0.2  # reflectance at which ``Sensor.reach`` holds
_STEEPNESS = 3.0
_BEHIND_PANE = 0.25
_INTENSITY_NOISE = 0.15
_GRASS_HEIGHT = 0.02  # m, standard deviation
_GRASS_GRAZING = 0.06  # cosine of incidence below which ranges are shortened no further
MEAN_FREE_PATHS = OPTICS[:, MEAN_FREE_PATH].copy()


class Echoes(NamedTuple):
    """The points of a sweep, beam after beam."""

    points: NDArray[np.float32]  # (N, 4), x, y, z in meters, LiDAR frame, intensity in [0, 1)
    owner: NDArray[np.int64]  # (N,), object of every point, or GROUND
    beam: NDArray[np.int64]  # (N,), index into ``Rays.elevations``


def visible_rays(sweep: Sweep) -> NDArray[np.int64]:
    """Count the rays that meet each object before anything else, shape ``(O,)``."""
    front = np.where(sweep.glass_distance < sweep.distance, sweep.glass_owner, sweep.owner)
    return np.bincount(front[front >= 0], minlength=len(sweep.alone))


def draw_echoes(
    sweep: Sweep, rays: Rays, sensor: Sensor, tints: FloatArray, generator: np.random.Generator
) -> Echoes:
    """Draw the echoes of a sweep; ``tints`` ``(O,)`` are the reflectances of objects' bodies."""
    shape = sweep.distance.shape
    pane = sweep.glass_distance < sweep.distance
    # Panes mirror: the echo returns where they face the sensor, a little everywhere else.
    mirrored = pane & (generator.random(shape) < 0.1 + 0.5 * sweep.glass_incidence**12)
    distance = np.where(mirrored, sweep.glass_distance, sweep.distance)
    owner = np.where(mirrored, sweep.glass_owner, sweep.owner)
    material = np.where(mirrored, Material.GLASS, sweep.material)
    incidence = np.where(mirrored, 1.0, sweep.incidence)
    weight = np.where(pane & ~mirrored, _BEHIND_PANE, 1.0)

    reflectance = OPTICS[material, REFLECTANCE]
    body = (material == Material.BODY) & (owner >= 0)
    reflectance[body] = tints[owner[body]]
    roughness = OPTICS[material, ROUGHNESS]
    facing = roughness + (1 - roughness) * incidence
    effective = weight * reflectance * facing
    met = owner != NOTHING
    measured = np.where(met, distance, 1.0)
    power = (effective / _REFERENCE * (sensor.reach / measured) ** 2) ** _STEEPNESS
    detected = generator.random(shape) < (1 - sensor.loss) * power / (1 + power)

    measured = measured + sensor.beam_offsets[: shape[0], None]
    measured += generator.normal(0, sensor.range_noise, shape)
    grass = _GRASS_HEIGHT * np.abs(generator.standard_normal(shape))
    grass /= np.maximum(incidence, _GRASS_GRAZING)
    measured -= np.where(material == Material.VERGE, grass, 0.0)
    measured = np.round(measured / sensor.range_step) * sensor.range_step
    brightness = weight * reflectance * (0.4 + 0.6 * facing)
    brightness *= np.maximum(1 + _INTENSITY_NOISE * generator.standard_normal(shape), 0.0)
    intensity = 0.85 * brightness / (brightness + 0.25) - 0.10
    intensity = np.round(np.clip(intensity, 0.0, 0.99), 2)
    kept = met & detected & (measured >= sensor.min_range) & (measured <= sensor.max_range)

    azimuth = rays.first_azimuth + rays.azimuth_step * np.arange(rays.num_columns)
    level = measured * np.cos(rays.elevations)[:, None]
    z = measured * np.sin(rays.elevations)[:, None]
    position = level * np.cos(azimuth), level * np.sin(azimuth), z
    points = np.stack([*position, intensity], axis=-1)
    return Echoes(points[kept].astype(np.float32), owner[kept], np.nonzero(kept)[0])
