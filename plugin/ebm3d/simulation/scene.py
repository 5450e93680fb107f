"""A scene: the ground and the objects on it, without overlap.

Positions in the frame of the road: s along it, lateral to its left, origin below the sensor, in m.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import cos, pi, sin

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ebm3d.simulation.ground import Ground, ground_heights
from ebm3d.simulation.raycast import Solids
from ebm3d.simulation.solids import Shape, move_rectangles, place, union

FloatArray = NDArray[np.float64]
EGO_VEHICLE = (-0.8, 0.0, 0.0, 5.2, 2.2)  # rectangle x, y, yaw, length, width that stays free
_MARGIN = 0.25  # m between two rectangles


@dataclass(frozen=True, eq=False)
class SceneObject:
    """Something that stands on the ground.

    Args:
        name: class name, or ``""`` for surroundings.
        shape: bottom center at its origin.
        pose: x, y, z, yaw in the LiDAR frame, shape ``(4,)``.
        size: length, width, height of the bounding box, shape ``(3,)``.
        tint: reflectance of its ``Material.BODY`` surfaces.
    """

    name: str
    shape: Shape
    pose: FloatArray
    size: FloatArray
    tint: float

    @property
    def box(self) -> FloatArray:
        """The tight box ``(x, y, z, dx, dy, dz, yaw)``, shape ``(7,)``."""
        return np.concatenate([self.pose[:3], self.size, self.pose[3:]])


@dataclass(frozen=True, eq=False)
class Scene:
    """A ground and the objects on it."""

    ground: Ground
    objects: list[SceneObject]

    def solids(self) -> Solids:
        """Gather the solids of all objects in the LiDAR frame."""
        shape = union([place(o.shape, *o.pose) for o in self.objects])
        counts = [len(o.shape.kinds) for o in self.objects]
        poses = np.repeat([o.pose for o in self.objects], counts, axis=0)
        bounds = shape.bounds
        corners = np.stack([bounds[:, [0, 1, 1, 0], 0], bounds[:, [0, 0, 1, 1], 1]], axis=2)
        footprints = move_rectangles(corners, poses[:, :2], poses[:, 3])
        return Solids(
            owner=np.repeat(np.arange(len(counts)), counts),
            kinds=shape.kinds,
            starts=shape.starts,
            rows=shape.rows,
            materials=shape.materials,
            footprints=np.ascontiguousarray(footprints),
            heights=bounds[:, :, 2] + poses[:, 2, None],
        )


@dataclass(eq=False)
class SceneBuilder:
    """A scene in the making: the ground, its objects, and the rectangles they cover."""

    ground: Ground
    heading: float
    generator: np.random.Generator
    side: float = 1.0  # 1 ahead of the sensor, -1 behind it
    objects: list[SceneObject] = field(default_factory=list)
    occupied: list[tuple[float, ...]] = field(default_factory=lambda: [EGO_VEHICLE])

    def add(
        self, name: str, shape: Shape, s: float, lateral: float, turn: float, tint: float
    ) -> bool:
        """Place a shape at (s, lateral), rotated against the road, unless something is there."""
        s = s * self.side
        c, d = cos(self.heading), sin(self.heading)
        x, y = s * c - lateral * d, s * d + lateral * c
        yaw = (self.heading + turn + pi) % (2 * pi) - pi
        low, high = shape.extent
        (u, v, _), size = (low + high) / 2, high - low
        center = x + u * cos(yaw) - v * sin(yaw), y + u * sin(yaw) + v * cos(yaw)
        rectangle = (*center, yaw, size[0], size[1])
        if is_occupied(np.array(rectangle), np.array(self.occupied), _MARGIN):
            return False
        z = float(ground_heights(np.array([[x, y]]), self.ground)[0])
        self.occupied.append(rectangle)
        self.objects.append(SceneObject(name, shape, np.array([x, y, z, yaw]), size, tint))
        return True


@njit(cache=True)
def is_occupied(rectangle: FloatArray, occupied: FloatArray, margin: float) -> bool:
    """Whether a rectangle comes closer than ``margin`` to one of ``occupied`` (separating axes).

    Rectangles are x, y, yaw, length, width, shapes ``(5,)`` and ``(K, 5)``.
    """
    for k in range(len(occupied)):
        dx, dy = occupied[k, 0] - rectangle[0], occupied[k, 1] - rectangle[1]
        difference = occupied[k, 2] - rectangle[2]
        c, s = abs(np.cos(difference)), abs(np.sin(difference))
        separated = False
        for first, second in ((rectangle, occupied[k]), (occupied[k], rectangle)):
            yaw = first[2]
            u = abs(dx * np.cos(yaw) + dy * np.sin(yaw))
            v = abs(-dx * np.sin(yaw) + dy * np.cos(yaw))
            separated |= u > (first[3] + second[3] * c + second[4] * s) / 2 + margin
            separated |= v > (first[4] + second[3] * s + second[4] * c) / 2 + margin
        if not separated:
            return True
    return False
