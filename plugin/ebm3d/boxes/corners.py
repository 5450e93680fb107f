"""Corners of boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.boxes.device_constants import constant
from ebm3d.boxes.frames import rotate_about_z
from ebm3d.errors import check_boxes

# Signs of (u, v) counter-clockwise seen from above, starting front left.
_SIGNS_UV = ((0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5))


def bev_corners(boxes: Tensor) -> Tensor:
    """Return the four corners of each box seen from above.

    Args:
        boxes: ``(N, 7)``, LiDAR frame.

    Returns:
        ``(N, 4, 2)`` meters: front left, rear left, rear right, front right. Differentiable.

    Raises:
        ValueError: if ``boxes`` has another shape.
    """
    check_boxes(boxes)
    offsets = constant(_SIGNS_UV, boxes) * boxes[:, None, 3:5]
    return rotate_about_z(offsets, boxes[:, None, 6]) + boxes[:, None, :2]


def corners_3d(boxes: Tensor) -> Tensor:
    """Return the eight corners of each box.

    Args:
        boxes: ``(N, 7)``, LiDAR frame.

    Returns:
        ``(N, 8, 3)`` meters: the four of :func:`bev_corners` at the bottom, then at the top.

    Raises:
        ValueError: if ``boxes`` has another shape.
    """
    footprint = bev_corners(boxes)
    bottom = boxes[:, None, 2:3].expand(-1, 4, 1)
    top = bottom + boxes[:, None, 5:6]
    return torch.cat((torch.cat((footprint, bottom), -1), torch.cat((footprint, top), -1)), dim=1)
