"""The camera beside the simulated LiDAR: KITTI's, with axes exactly parallel to the LiDAR's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.kitti_calibration import KittiCalibration
from ebm3d.simulation.solids import move_rectangles
from ebm3d.simulation.statistics import load_statistics

FloatArray = NDArray[np.float64]
IMAGE_SIZE = (1242, 375)  # pixels, width and height; KITTI's most common image
NEAR = 0.1  # m; boxes are cut off this close to the image plane
_EDGES = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3], [1, 2, 3, 0, 5, 6, 7, 4, 4, 5, 6, 7]])
_BASELINE_1, _BASELINE_3 = 0.54, 0.47  # m; of KITTI's stereo cameras against camera 0


def kitti_camera() -> KittiCalibration:
    """Calibration of every frame: medians of KITTI's files, but level, with exact rotations.

    So boxes with a yaw only are tight in the LiDAR's and in the camera's frame.
    """
    camera = load_statistics().camera
    focal, u, v = camera["focal"], camera["center_u"], camera["center_v"]

    def projection(offset: float) -> FloatArray:
        return np.array([[focal, 0, u, offset], [0, focal, v, 0], [0, 0, 1, 0]])

    rotation = np.array([[0, -1.0, 0], [0, 0, -1], [1, 0, 0]])
    position = np.array([camera["x"], camera["y"], camera["z"]])
    return KittiCalibration(
        P0=projection(-0.0),
        P1=projection(-focal * _BASELINE_1),
        P2=projection(camera["p2_offset"]),
        P3=projection(-focal * _BASELINE_3),
        R0_rect=np.eye(3),
        Tr_velo_to_cam=np.column_stack([rotation, -(rotation @ position)]),
    )


def box_corners(boxes: FloatArray) -> FloatArray:
    """Corners of boxes ``(N, 7)``, LiDAR frame: four below, four above, shape ``(N, 8, 3)``."""
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
    xy = move_rectangles(signs * boxes[:, None, 3:5], boxes[:, :2], boxes[:, 6])
    z = boxes[:, 2, None] + np.repeat([0.0, 1.0], 4) * boxes[:, 5, None]
    return np.concatenate([np.concatenate([xy, xy], axis=1), z[..., None]], axis=2)


def image_boxes(boxes: FloatArray, calibration: KittiCalibration) -> tuple[FloatArray, FloatArray]:
    """2D boxes ``(N, 4)`` of LiDAR boxes ``(N, 7)``, and their truncation ``(N,)``.

    2D boxes are left, top, right, bottom clipped to the image, pixels; truncation is the share of
    the unclipped area outside. Zeros and 1 where nothing is seen. Edges are cut ``NEAR`` in front
    of the camera, so that a box beside the car is bounded too.
    """
    matrix = calibration.lidar_to_image_matrix
    corners = box_corners(boxes) @ matrix[:, :3].T + matrix[:, 3]
    clipped, truncated = np.zeros((len(boxes), 4)), np.ones(len(boxes))
    border = np.array([IMAGE_SIZE[0] - 1.0, IMAGE_SIZE[1] - 1.0])
    for i, corner in enumerate(corners):
        start, end = corner[_EDGES]
        crossing = (start[:, 2] - NEAR) * (end[:, 2] - NEAR) < 0
        a, b = start[crossing], end[crossing]
        share = ((NEAR - a[:, 2]) / (b[:, 2] - a[:, 2]))[:, None]
        seen = np.concatenate([corner[corner[:, 2] >= NEAR], a + share * (b - a)])
        if not len(seen):
            continue
        pixels = seen[:, :2] / seen[:, 2:]
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        inner_low, inner_high = np.clip(low, 0, border), np.clip(high, 0, border)
        area = np.prod(high - low)
        if area > 0:
            clipped[i] = *inner_low, *inner_high
            truncated[i] = 1 - np.prod(inner_high - inner_low) / area
    return clipped, truncated
