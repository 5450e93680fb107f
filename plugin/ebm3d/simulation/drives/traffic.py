"""Vehicles that follow lanes: the intelligent driver model, and a traffic light.

Source: Treiber, Hennecke, Helbing, "Congested traffic states in empirical observations and
microscopic simulations", 2000, Eq. (1) to (3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
STEP = 0.05  # s, between two sweeps
WARM_UP = 6.0  # s, before the first sweep
_ACCELERATION, _DECELERATION = 1.5, 2.0  # m/s^2
_HEADWAY, _GAP = 1.3, 2.0  # s, m
_HARDEST = 6.0  # m/s^2


@dataclass(frozen=True)
class Light:
    """A traffic light: vehicles stop before ``position`` (m) while it is red, from, to (s)."""

    position: float
    red: tuple[tuple[float, float], ...]


def drive_lane(
    positions: FloatArray,
    lengths: FloatArray,
    desired: FloatArray,
    num_steps: int,
    light: Light | None,
) -> FloatArray:
    """Drive the vehicles of a lane; positions of their centers, shape ``(num_steps, V)``.

    Args:
        positions: along the lane at the beginning of the warm-up, first vehicle first, ``(V,)``.
        lengths: of vehicles, meters, ``(V,)``.
        desired: speeds, m/s, ``(V,)``.
        num_steps: sweeps, from time zero on.
        light: the only one of the lane.
    """
    position, speed = positions.copy(), desired.copy()
    warm_up = round(WARM_UP / STEP)
    result = np.empty((num_steps, len(position)))
    for step in range(-warm_up, num_steps):
        if step >= 0:
            result[step] = position
        front, rear = position + lengths / 2, position - lengths / 2
        gap = np.concatenate([[np.inf], rear[:-1] - front[1:]])
        ahead = np.concatenate([[0.0], speed[:-1]])
        if light is not None and any(a <= step * STEP < b for a, b in light.red):
            room = light.position - front
            waits = (room > speed**2 / (2 * _HARDEST)) & (room < gap)
            gap, ahead = np.where(waits, room + 1.0, gap), np.where(waits, 0.0, ahead)
        wanted = _GAP + speed * _HEADWAY
        wanted += speed * (speed - ahead) / (2 * np.sqrt(_ACCELERATION * _DECELERATION))
        force = 1 - (speed / desired) ** 4 - (np.maximum(wanted, 0.0) / np.maximum(gap, 0.1)) ** 2
        before = speed
        speed = np.maximum(speed + STEP * np.maximum(_ACCELERATION * force, -_HARDEST), 0.0)
        speed[speed < 0.02] = 0.0
        position = position + STEP * (before + speed) / 2
    return result
