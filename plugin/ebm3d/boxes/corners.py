"""Corners of boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.boxes.frames import rotate_about_z
from ebm3d.devices import constant
from ebm3d.errors import check_boxes

# Of length and width, counter-clockwise seen from above, from the front left.
_SIGNS_UV = ((0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5))


def bev_corners(boxes: Tensor) -> Tensor:
    """Return the corners of boxes ``(N, 7)`` seen from above, ``(N, 4, 2)`` meters.

    Front left, rear left, rear right, front right.
    """
    check_boxes(boxes)
    offsets = constant(_SIGNS_UV, boxes) * boxes[:, None, 3:5]
    return rotate_about_z(offsets, boxes[:, None, 6]) + boxes[:, None, :2]


def corners_3d(boxes: Tensor) -> Tensor:
    """Return the corners of boxes ``(N, 7)``, ``(N, 8, 3)`` meters.

    The four of :func:`bev_corners` at the bottom, then at the top.
    """
    footprint = bev_corners(boxes).repeat(1, 2, 1)
    bottom = boxes[:, None, 2:3].expand(-1, 4, 1)
    heights = torch.cat((bottom, bottom + boxes[:, None, 5:6]), dim=1)
    return torch.cat((footprint, heights), dim=-1)
