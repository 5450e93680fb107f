"""Sweeps and labels in the LiDAR frame of a key frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.nuscenes.poses import rotation_matrices
from ebm3d.datasets.nuscenes.tables import NuScenesTables

FloatArray = NDArray[np.float64]


def sweeps_of(tables: NuScenesTables, sample: int, max_sweeps: int) -> NDArray[np.int64]:
    """Rows of the last sweeps before a key frame, the newest first."""
    rows: list[int] = []
    row = tables.sweeps.previous[tables.samples.sweeps[sample]]
    while row >= 0 and len(rows) < max_sweeps:
        rows.append(row)
        row = tables.sweeps.previous[row]
    return np.array(rows, np.int64)


def sweep_transforms(
    tables: NuScenesTables, sample: int, rows: NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """Rotations ``(K, 3, 3)`` and translations ``(K, 3)`` from sweeps to the key frame.

    A point moves to ``points @ rotation.T + translation``.
    """
    to_global = _lidar_to_global(tables, rows)
    key = _lidar_to_global(tables, int(tables.samples.sweeps[sample]))
    rotations = key[:3, :3].T @ to_global[:, :3, :3]
    return rotations, (to_global[:, :3, 3] - key[:3, 3]) @ key[:3, :3]


def lidar_boxes(tables: NuScenesTables, sample: int) -> FloatArray:
    """Labels of a key frame, ``(B, 9)``: x, y, z of the center, l, w, h, yaw, vx, vy.

    LiDAR frame. Labels are upright in the global frame, the LiDAR is tilted: yaw is the angle from
    the LiDAR's x axis to the heading in the ground plane, and the vertical velocity is left out
    before and after the rotation, both as in the host's infos. NaN velocities are unknown.
    """
    rows, labels = tables.annotations.rows_of(sample), tables.annotations
    key = _lidar_to_global(tables, int(tables.samples.sweeps[sample]))
    rotation = key[:3, :3]
    rotations = rotation.T @ rotation_matrices(labels.rotations[rows])
    centers = (labels.translations[rows] - key[:3, 3]) @ rotation
    velocities = labels.velocities[rows][:, :2] @ rotation[:2, :2]
    yaws = np.arctan2(-rotations[:, 0, 1], rotations[:, 0, 0])
    return np.column_stack([centers, labels.sizes[rows][:, [1, 0, 2]], yaws, velocities])


def _lidar_to_global(tables: NuScenesTables, rows: NDArray[np.int64] | int) -> FloatArray:
    """Transforms from the LiDAR frame to the global frame, ``(..., 4, 4)``."""
    return tables.sweeps.ego_to_global(rows) @ tables.sweeps.lidar_to_ego(rows)
