"""Cameras of perspective pictures: behind what they show, as near as the picture allows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ebm3d.visualization.frame import FloatArray

FIELD_OF_VIEW = 36.0  # degrees, vertical
_TANGENT = float(np.tan(np.radians(FIELD_OF_VIEW / 2)))


class Camera(NamedTuple):
    """Position of the eye and the point it looks at, meters, LiDAR frame; z is up."""

    eye: FloatArray
    target: FloatArray


def direction_of(azimuth: float, pitch: float) -> FloatArray:
    """Return the unit vector of a view, ``pitch`` below the horizon; radians."""
    flat = np.cos(pitch)
    return np.array((flat * np.cos(azimuth), flat * np.sin(azimuth), -np.sin(pitch)))


def camera_axes(direction: FloatArray) -> FloatArray:
    """Return the unit vectors right, up and forward of a camera, ``(3, 3)``."""
    right = np.cross(direction, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    return np.stack((right, np.cross(right, direction), direction))


def fit_camera(content: FloatArray, direction: FloatArray, aspect: float) -> Camera:
    r"""Return the nearest camera of a direction that has all of ``content`` in its picture.

    A point (r, u, w) in camera axes is in the picture of an eye e if
    :math:`|r - e_r| \le a t (w - e_w)` and :math:`|u - e_u| \le t (w - e_w)`; each pair of bounds
    gives an upper bound of :math:`e_w`.

    Args:
        content: ``(K, 3)`` points, at least one.
        direction: ``(3,)`` unit vector, not vertical.
        aspect: width over height of the picture.
    """
    axes = camera_axes(direction)
    coordinates = content @ axes.T
    eye = np.empty(3)
    nearest = []
    for axis, tangent in ((0, _TANGENT * aspect), (1, _TANGENT)):
        low = (coordinates[:, axis] + tangent * coordinates[:, 2]).min()
        high = (coordinates[:, axis] - tangent * coordinates[:, 2]).max()
        eye[axis] = (low + high) / 2
        nearest.append((low - high) / (2 * tangent))
    eye[2] = min(nearest)
    position = eye @ axes
    return Camera(position, position + direction)


def project(points: FloatArray, camera: Camera, size: tuple[int, int]) -> FloatArray:
    """Return the (column, row) of points ``(K, 3)`` in a picture of (width, height) pixels."""
    right, up, forward = ((points - camera.eye) @ camera_axes(camera.target - camera.eye).T).T
    scale = size[1] / (2 * _TANGENT * forward)
    return np.stack((size[0] / 2 + scale * right, size[1] / 2 - scale * up), axis=-1)
