"""Points in boxes, as mmcv counts them: unlike in KITTI, the sides do not belong to the box.

Glossary: B scenes; P points; N boxes ``(x, y, z, dx, dy, dz, yaw)``, ``z`` at the bottom center.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.adapters.operators.chunks import row_slices

__all__ = [
    "points_in_boxes_all_forward",
    "points_in_boxes_cpu_forward",
    "points_in_boxes_part_forward",
]

PAIRS_AT_ONCE = 1 << 22


def points_in_boxes_cpu_forward(
    boxes_tensor: Tensor, pts_tensor: Tensor, pts_indices_tensor: Tensor
) -> None:
    """Write whether each point lies in each box, for one scene on a CPU.

    Source: ``check_pt_in_box3d_cpu`` of mmcv 2.1.0, in float32 like it: a point is inside if
    ``|z - center| <= dz / 2``, ``|x| < dx / 2`` and ``|y| < dy / 2`` in the frame of the box.

    Args:
        boxes_tensor: float32, shape ``(N, 7)``.
        pts_tensor: float32, shape ``(P, 3)``.
        pts_indices_tensor: filled with 1 or 0, int32, shape ``(N, P)``.
    """
    x, y, z = pts_tensor.detach().t().contiguous().numpy()
    _mark(boxes_tensor.detach().numpy(), x, y, z, pts_indices_tensor.numpy())


def points_in_boxes_part_forward(
    boxes_tensor: Tensor, pts_tensor: Tensor, box_idx_of_points_tensor: Tensor
) -> None:
    """Write the first of the boxes ``(B, N, 7)`` that each point ``(B, P, 3)`` lies in, or -1.

    Filled: ``box_idx_of_points_tensor``, int32, shape ``(B, P)``.
    """
    num = boxes_tensor.shape[1]
    index = torch.arange(num, dtype=torch.int32, device=boxes_tensor.device)
    first = torch.full_like(box_idx_of_points_tensor, num)
    for part in row_slices(num, pts_tensor[..., 0].numel(), PAIRS_AT_ONCE):
        inside = inside_boxes(pts_tensor, boxes_tensor[:, part])
        first = torch.minimum(first, torch.where(inside, index[part], num).amin(dim=2))
    box_idx_of_points_tensor.copy_(torch.where(first < num, first, -1))


def points_in_boxes_all_forward(
    boxes_tensor: Tensor, pts_tensor: Tensor, box_idx_of_points_tensor: Tensor
) -> None:
    """Write whether each point ``(B, P, 3)`` lies in each box ``(B, N, 7)``.

    Filled: ``box_idx_of_points_tensor`` with 1 or 0, int32, shape ``(B, P, N)``.
    """
    for part in row_slices(boxes_tensor.shape[1], pts_tensor[..., 0].numel(), PAIRS_AT_ONCE):
        box_idx_of_points_tensor[..., part] = inside_boxes(pts_tensor, boxes_tensor[:, part])


def inside_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether points ``(B, P, 3)`` lie in boxes ``(B, N, 7)``, in torch, shape ``(B, P, N)``."""
    x, y, z, dx, dy, dz, yaw = boxes.unsqueeze(1).unbind(-1)
    # The functions in float64, rounded once, are the same on every processor.
    cosine, sine = yaw.double().cos().to(yaw.dtype), yaw.double().sin().to(yaw.dtype)
    shift_x, shift_y = points[..., 0:1] - x, points[..., 1:2] - y
    along = shift_x * cosine + shift_y * sine
    across = shift_y * cosine - shift_x * sine
    height = points[..., 2:3] - (z + dz / 2)
    return (height.abs() <= dz / 2) & (along.abs() < dx / 2) & (across.abs() < dy / 2)


@numba.njit(cache=True, error_model="numpy")
def _mark(
    boxes: NDArray[np.float32],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
    marks: NDArray[np.int32],
) -> None:
    """Fill ``marks`` (N, P), box by box; no branch, so that the loop over points is vectorized."""
    half = np.float32(0.5)
    for n in range(len(boxes)):
        half_x, half_y, half_z = half * boxes[n, 3], half * boxes[n, 4], half * boxes[n, 5]
        center = boxes[n, 2] + half_z
        cosine = np.float32(math.cos(np.float64(boxes[n, 6])))
        sine = np.float32(math.sin(np.float64(boxes[n, 6])))
        for p in range(len(x)):
            shift_x, shift_y = x[p] - boxes[n, 0], y[p] - boxes[n, 1]
            along = shift_x * cosine + shift_y * sine
            across = shift_y * cosine - shift_x * sine
            inside = abs(z[p] - center) <= half_z
            marks[n, p] = inside & (abs(along) < half_x) & (abs(across) < half_y)
