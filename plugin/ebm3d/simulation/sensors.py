"""Spinning LiDAR sensors, by the numbers of their data sheets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ebm3d.errors import input_error


@dataclass(frozen=True, eq=False)
class Sensor:
    """A spinning LiDAR whose beams all start at the origin of the LiDAR frame.

    Args:
        name: as users write it.
        elevations_deg: of the beams, highest first, shape ``(B,)``.
        azimuth_step_deg: between two columns; divides 360.
        height: over the ground, meters.
        max_range: meters; farther echoes are not reported.
        min_range: meters; nor closer ones.
        range_noise: standard deviation of one range, meters.
        beam_noise: standard deviation of the constant offset of one beam's ranges, meters.
        range_step: resolution of the range, meters.
        reach: meters at which reflectance 0.2 at a right angle is detected half of the time.
        loss: share of pulses lost for no reason of the surface.
    """

    name: str
    elevations_deg: NDArray[np.float64]
    azimuth_step_deg: float
    height: float = 1.73
    max_range: float = 80.0
    min_range: float = 1.5
    range_noise: float = 0.015
    beam_noise: float = 0.012
    range_step: float = 0.002
    reach: float = 70.0
    loss: float = 0.03

    @cached_property
    def beam_offsets(self) -> NDArray[np.float64]:
        """Constant range offset of every beam, the same in all frames, meters, shape ``(B,)``."""
        num_beams = len(self.elevations_deg)
        return np.random.default_rng(num_beams).normal(0, self.beam_noise, num_beams)

    @property
    def num_columns(self) -> int:
        """Number of azimuths in 360 degrees."""
        return round(360 / self.azimuth_step_deg)


# HDL-64E: 32 beams 1/3 degree apart from +2 to -8.33 degrees, 32 beams 1/2 degree apart down to
# -24.33 degrees; 0.18 degrees is the median step between azimuths in KITTI's scans.
# HDL-32E: 32 beams 4/3 degrees apart from +10.67 to -30.67 degrees.
SENSORS = {
    "64-beam": Sensor(
        "64-beam",
        np.concatenate([2.0 - np.arange(32) / 3, -8.8333 - np.arange(32) / 2]),
        azimuth_step_deg=0.18,
    ),
    "32-beam": Sensor(
        "32-beam", 10.6667 - np.arange(32) * 4 / 3, azimuth_step_deg=0.36, reach=65.0
    ),
}


def find_sensor(sensor: str | Sensor) -> Sensor:
    """Return a sensor by its name, or the sensor itself.

    Raises:
        ValueError: if no sensor has this name.
    """
    if isinstance(sensor, Sensor):
        return sensor
    if sensor not in SENSORS:
        raise input_error("sensor", f"one of {', '.join(SENSORS)}", repr(sensor))
    return SENSORS[sensor]
