"""Between the LiDAR frame and a box's own frame (u along the heading, v to its left, w up)."""

from __future__ import annotations

import torch
from torch import Tensor


def points_to_box_frame(points: Tensor, boxes: Tensor) -> Tensor:
    """Express points in the frame of a box.

    Args:
        points: ``(..., P, 3)`` meters, LiDAR frame.
        boxes: ``(..., 7)``; leading axes broadcast against those of ``points`` before ``P``.

    Returns:
        ``(..., P, 3)`` meters: u along the heading and v to its left, both from the box center;
        w upward from the bottom face. Differentiable in both arguments.
    """
    offset = points[..., :3] - boxes[..., None, :3]
    cos, sin = torch.cos(boxes[..., None, 6]), torch.sin(boxes[..., None, 6])
    u = cos * offset[..., 0] + sin * offset[..., 1]
    v = cos * offset[..., 1] - sin * offset[..., 0]
    return torch.stack((u, v, offset[..., 2]), dim=-1)


def rotate_about_z(vectors: Tensor, yaw: Tensor) -> Tensor:
    """Turn the first two components of vectors counter-clockwise.

    Args:
        vectors: ``(..., D)`` with D >= 2; components beyond the second pass unchanged.
        yaw: radians, broadcastable to ``(...)``.

    Returns:
        ``(..., D)``. With ``yaw`` a box's heading: from the box frame to the LiDAR frame.
    """
    cos, sin = torch.cos(yaw)[..., None], torch.sin(yaw)[..., None]
    x, y = vectors[..., :1], vectors[..., 1:2]
    return torch.cat((cos * x - sin * y, sin * x + cos * y, vectors[..., 2:]), dim=-1)
