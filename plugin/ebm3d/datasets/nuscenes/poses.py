"""Rotations as nuScenes' tables write them: unit quaternions (w, x, y, z)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
FARTHEST = 1e9  # m; no place is beyond, nor is an object as large


def rotation_matrices(quaternions: ArrayLike) -> FloatArray:
    """Rotation matrices ``(..., 3, 3)`` of quaternions (w, x, y, z), shape ``(..., 4)``.

    Quaternions are normalized first; a column of a matrix is the image of an axis.
    """
    q = np.asarray(quaternions, dtype=np.float64)
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    w, x, y, z = np.moveaxis(q, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def headings(quaternions: ArrayLike) -> FloatArray:
    """Yaw of the rotated x axis in the xy plane, radians in (-pi, pi], shape ``(...)``."""
    q = np.asarray(quaternions, dtype=np.float64)
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    w, x, y, z = np.moveaxis(q, -1, 0)
    return np.arctan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z))


def yaw_quaternions(yaws: ArrayLike) -> FloatArray:
    """Quaternions (w, x, y, z) of rotations by yaws about z, shape ``(..., 4)``."""
    half = np.asarray(yaws, dtype=np.float64) / 2
    zero = np.zeros_like(half)
    return np.stack([np.cos(half), zero, zero, np.sin(half)], axis=-1)
