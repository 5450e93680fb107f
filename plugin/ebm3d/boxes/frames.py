"""Between the LiDAR frame and the frame of a box (u along the heading, v to its left, w up)."""

from __future__ import annotations

import torch
from torch import Tensor


def points_to_box_frame(points: Tensor, boxes: Tensor) -> Tensor:
    """Express points in the frame of a box.

    Args:
        points: ``(..., P, 3)`` meters, LiDAR frame.
        boxes: ``(..., 7)``; leading axes broadcast against those of ``points`` before ``P``.

    Returns:
        ``(..., P, 3)`` meters: u and v from the center, w from the bottom face.
    """
    offset = points[..., :3] - boxes[..., None, :3]
    cos, sin = torch.cos(boxes[..., None, 6]), torch.sin(boxes[..., None, 6])
    u = cos * offset[..., 0] + sin * offset[..., 1]
    v = cos * offset[..., 1] - sin * offset[..., 0]
    return torch.stack((u, v, offset[..., 2]), dim=-1)


def rotate_about_z(vectors: Tensor, yaw: Tensor) -> Tensor:
    """Rotate the first two components of vectors ``(..., D)`` counter-clockwise.

    Args:
        vectors: D >= 2; further components pass unchanged.
        yaw: radians, broadcastable to ``(...)``; that of a box leads from its frame to the LiDAR's.
    """
    cos, sin = torch.cos(yaw)[..., None], torch.sin(yaw)[..., None]
    x, y = vectors[..., :1], vectors[..., 1:2]
    return torch.cat((cos * x - sin * y, sin * x + cos * y, vectors[..., 2:]), dim=-1)
