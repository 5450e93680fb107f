"""Intersection over union of boxes as tensors, on their device.

The twin of the kernels in :mod:`ebm3d.boxes.iou`, in torch: static shapes, no value is read.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.boxes.rotated_overlap import rotated_overlap_areas
from ebm3d.errors import check_floating_boxes, input_error

_MAX_PAIRS = 2**20  # at a time: half a gigabyte
_RECTANGLE = [0, 1, 3, 4, 6]  # x, y, dx, dy, yaw


def check_tensors(boxes: Tensor, others: Tensor) -> None:
    """Raise unless both are floating-point boxes ``(., 7)`` on one device.

    Raises:
        ValueError: naming the one that is not.
    """
    check_floating_boxes(boxes, "boxes")
    check_floating_boxes(others, "others")
    if others.device != boxes.device:
        remedy = "move one of them"
        raise input_error("others", f"on {boxes.device} as boxes", f"on {others.device}", remedy)


def iou_in_torch(boxes: Tensor, others: Tensor, aligned: bool, volumes: bool) -> Tensor:
    """IoU of areas or volumes, float64.

    Args:
        boxes: ``(N, 7)``, float64, finite, sizes at least 0.
        others: ``(M, 7)``; ``(N, 7)`` if ``aligned``.
        aligned: compare row ``i`` with row ``i`` instead of every box with every other.
        volumes: compare volumes instead of outlines seen from above.

    Returns:
        ``(N, M)``, or ``(N,)`` if ``aligned``.
    """
    rows = max(1, _MAX_PAIRS if aligned else _MAX_PAIRS // max(len(others), 1))
    if aligned:
        pairs = zip(boxes.split(rows), others.split(rows), strict=True)
        return torch.cat([_iou(box, other, volumes) for box, other in pairs])
    return torch.cat([_iou(part[:, None], others, volumes) for part in boxes.split(rows)])


def _iou(boxes: Tensor, others: Tensor, volumes: bool) -> Tensor:
    """IoU ``(...)`` of boxes ``(..., 7)`` that broadcast."""
    common = rotated_overlap_areas(_rectangles(boxes), _rectangles(others))
    size, other_size = boxes[..., 3] * boxes[..., 4], others[..., 3] * others[..., 4]
    if volumes:
        lift = others[..., 2] - boxes[..., 2]
        top = torch.minimum(boxes[..., 5], lift + others[..., 5])
        common = common * (top - lift.clamp_min(0)).clamp_min(0)
        size, other_size = size * boxes[..., 5], other_size * others[..., 5]
    union = size + other_size - common
    return torch.where(union > 0, common / union, 0.0).clamp_max(1)


def _rectangles(boxes: Tensor) -> Tensor:
    """Outlines seen from above, ``(..., 5)``."""
    return torch.stack([boxes[..., column] for column in _RECTANGLE], dim=-1)
