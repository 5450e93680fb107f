"""Sweeps and boxes in the LiDAR frame of a key frame, and in the global frame."""

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
    to_global = lidar_to_global(tables, rows)
    key = lidar_to_global(tables, int(tables.samples.sweeps[sample]))
    rotations = key[:3, :3].T @ to_global[:, :3, :3]
    return rotations, (to_global[:, :3, 3] - key[:3, 3]) @ key[:3, :3]


def lidar_boxes(tables: NuScenesTables, sample: int) -> FloatArray:
    """Labels of a key frame, ``(B, 9)``: x, y, z of the center, l, w, h, yaw, vx, vy.

    LiDAR frame. Labels are upright in the global frame, the LiDAR is tilted: yaw is the angle from
    the LiDAR's x axis to the heading in the ground plane, and the vertical velocity is left out
    before and after the rotation, both as in the host's infos. NaN velocities are unknown.
    """
    rows, labels = tables.annotations.rows_of(sample), tables.annotations
    key = lidar_to_global(tables, int(tables.samples.sweeps[sample]))
    rotation = key[:3, :3]
    rotations = rotation.T @ rotation_matrices(labels.rotations[rows])
    centers = (labels.translations[rows] - key[:3, 3]) @ rotation
    velocities = labels.velocities[rows][:, :2] @ rotation[:2, :2]
    yaws = np.arctan2(-rotations[:, 0, 1], rotations[:, 0, 0])
    return np.column_stack([centers, labels.sizes[rows][:, [1, 0, 2]], yaws, velocities])


def global_boxes(boxes: FloatArray, transforms: FloatArray) -> tuple[FloatArray, ...]:
    """Transform boxes of the LiDAR frame, z at the bottom, to the global frame.

    Args:
        boxes: ``(N, 7)`` or ``(N, 9)`` with velocities.
        transforms: from LiDAR to global, ``(4, 4)`` or ``(N, 4, 4)``.

    Returns:
        Centers ``(N, 3)``, yaws ``(N,)`` and velocities ``(N, 2)``, NaN without.
    """
    rotation, translation = transforms[..., :3, :3], transforms[..., :3, 3]
    middle = boxes[:, :3] + np.outer(boxes[:, 5] / 2, [0, 0, 1])
    center = (rotation @ middle[..., None])[..., 0] + translation
    zero = np.zeros(len(boxes))
    heading = np.column_stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6]), zero])
    heading = (rotation @ heading[..., None])[..., 0]
    velocity = np.full((len(boxes), 2), np.nan)
    if boxes.shape[1] > 7:
        flat = np.column_stack([boxes[:, 7:9], zero])
        velocity = (rotation @ flat[..., None])[:, :2, 0]
    return center, np.arctan2(heading[:, 1], heading[:, 0]), velocity


def boxes_from_global(
    center: FloatArray,
    sizes: FloatArray,
    yaw: FloatArray,
    velocity: FloatArray,
    transforms: FloatArray,
) -> FloatArray:
    """Transform boxes of the global frame to the LiDAR frame, z at the bottom, ``(N, 9)``.

    Args:
        center: ``(N, 3)``.
        sizes: length, width, height, ``(N, 3)``.
        yaw: ``(N,)``.
        velocity: ``(N, 2)``; vertical ones are taken as 0.
        transforms: from LiDAR to global, ``(4, 4)`` or ``(N, 4, 4)``.
    """
    inverse = np.swapaxes(transforms[..., :3, :3], -1, -2)
    zero = np.zeros(len(center))
    vectors = (
        center - transforms[..., :3, 3],
        np.column_stack([np.cos(yaw), np.sin(yaw), zero]),
        np.column_stack([velocity, zero]),
    )
    middle, heading, speed = ((inverse @ vector[..., None])[..., 0] for vector in vectors)
    bottom: FloatArray = middle - np.outer(sizes[:, 2] / 2, [0, 0, 1])
    angle = np.arctan2(heading[:, 1], heading[:, 0])
    return np.column_stack([bottom, sizes, angle, speed[:, :2]])


def lidar_to_global(tables: NuScenesTables, rows: NDArray[np.int64] | int) -> FloatArray:
    """Transforms from the LiDAR frame to the global frame, ``(..., 4, 4)``."""
    return tables.sweeps.ego_to_global(rows) @ tables.sweeps.lidar_to_ego(rows)
