"""Objects of a drive and their paths; nothing overlaps at any time.

T sweeps; trajectories are x, y, z, yaw, global frame, ``(T, 4)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ebm3d.simulation.drives.roads import Terrain, distance_to_road, heights_at
from ebm3d.simulation.scene import is_occupied
from ebm3d.simulation.solids import Shape, move_rectangles

FloatArray = NDArray[np.float64]
MARGIN = 0.12  # m, between two rectangles
_EVERY = 5  # sweeps; rectangles are compared this often
_MOST = 2000  # objects of a drive


@dataclass(frozen=True, eq=False)
class Actor:
    """An object of a drive.

    Args:
        name: class name, or ``""`` for surroundings.
        shape: bottom center at its origin.
        size: length, width, height, ``(3,)``.
        tint: reflectance of its paint.
        trajectory: ``(T, 4)``.
        state: "parked", "ridden" or "".
    """

    name: str
    shape: Shape
    size: FloatArray
    tint: float
    trajectory: FloatArray
    state: str = ""


class Stage:
    """The objects so far and the places that they take."""

    def __init__(self, terrain: Terrain, num_steps: int) -> None:
        self.terrain = terrain
        self.num_steps = num_steps
        self.actors: list[Actor] = []
        self._taken = np.empty((len(range(0, num_steps, _EVERY)), _MOST, 5))
        self._num = 0

    def take(self, poses: FloatArray, footprint: FloatArray, curb: float | None) -> bool:
        """Reserve a rectangle (center x, y, length, width) at poses x, y, yaw, ``(T, 3)``.

        Nothing is reserved where another object stands at any time, or where a corner is not at
        least ``curb`` meters outside the roads.
        """
        poses = poses[::_EVERY]
        shift = move_rectangles(footprint[None, None, :2], np.zeros((1, 2)), poses[:, 2])[:, 0]
        rectangles = np.empty((len(poses), 5))
        rectangles[:, :2] = poses[:, :2] + shift
        rectangles[:, 2], rectangles[:, 3:] = poses[:, 2], footprint[2:]
        if curb is not None and not is_outside(rectangles[0], curb, self.terrain):
            return False
        if self._num == _MOST or collides(rectangles, self._taken, self._num, MARGIN):
            return False
        self._taken[:, self._num] = rectangles
        self._num += 1
        return True

    def add(
        self,
        name: str,
        shape: Shape,
        poses: FloatArray,
        tint: float,
        *,
        state: str = "",
        curb: float | None = None,
        footprint: FloatArray | None = None,
    ) -> bool:
        """Add an object at poses x, y, yaw, shape ``(3,)`` or ``(T, 3)``, if its place is free."""
        poses = np.broadcast_to(poses, (self.num_steps, 3))
        low, high = shape.extent
        if footprint is None:
            footprint = np.concatenate([(low + high)[:2] / 2, (high - low)[:2]])
        if not self.take(poses, footprint, curb):
            return False
        heights = heights_at(np.ascontiguousarray(poses[:, :2]), self.terrain)
        yaw = np.mod(poses[:, 2] + np.pi, 2 * np.pi) - np.pi
        trajectory = np.column_stack([poses[:, :2], heights, yaw])
        self.actors.append(Actor(name, shape, high - low, tint, trajectory, state))
        return True


@njit(cache=True)
def collides(rectangles: FloatArray, taken: FloatArray, num: int, margin: float) -> bool:
    """Whether rectangles ``(S, 5)`` meet one of ``taken[:, :num]`` at any of S times."""
    for step in range(len(rectangles)):
        if is_occupied(rectangles[step], taken[step, :num], margin):
            return True
    return False


@njit(cache=True)
def is_outside(rectangle: FloatArray, curb: float, terrain: Terrain) -> bool:
    """Whether center and corners of a rectangle lie more than ``curb`` meters outside the roads."""
    c, s = np.cos(rectangle[2]), np.sin(rectangle[2])
    for along, across in ((0.0, 0.0), (0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, -0.5)):
        u, v = along * rectangle[3], across * rectangle[4]
        x, y = rectangle[0] + u * c - v * s, rectangle[1] + u * s + v * c
        if distance_to_road(x, y, terrain) < curb:
            return False
    return True
