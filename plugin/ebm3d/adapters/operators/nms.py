"""Non-maximum suppression of axis-aligned boxes."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.adapters.operators.box_iou_rotated import row_blocks
from ebm3d.adapters.operators.suppression import kept_rows
from ebm3d.boxes.kernels import kernels_serve


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """The boxes that no kept box of a higher score overlaps too much.

    Source: ``nms_cpu`` of mmcv 2.1.0, bit for bit in float32. A box goes if its IoU with a kept
    one is more than the threshold; of equal scores the earlier row counts as the higher.

    Args:
        boxes: ``(x1, y1, x2, y2)``, shape ``(N, 4)``, float32 or float64.
        scores: shape ``(N,)``.
        iou_threshold: in [0, 1].
        offset: 0, or 1 for whole pixels: added to every width and height.

    Returns:
        Rows that stay, by falling score, int64, shape ``(K,)``.

    Note:
        On another device than a CPU the host waits once, for ``K``; memory is N bytes a box.
    """
    order = scores.detach().sort(stable=True, dim=0, descending=True).indices
    ordered = boxes.detach()[order].contiguous()
    if kernels_serve(ordered):
        kind = ordered.numpy().dtype.type
        rows = torch.from_numpy(_suppress(ordered.numpy(), kind(iou_threshold), kind(offset)))
    else:
        rows = kept_rows(suppressions(ordered, iou_threshold, offset))
    return order[rows]


def suppressions(boxes: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Whether box i overlaps box j by more than the threshold, in torch, shape ``(N, N)``.

    Args:
        boxes: shape ``(N, 4)``.
        iou_threshold: in [0, 1].
        offset: see ``nms``.

    Returns:
        Booleans.
    """
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(dim=1)
    table = torch.empty(len(boxes), len(boxes), dtype=torch.bool, device=boxes.device)
    for start, stop in row_blocks(len(boxes), len(boxes)):
        rows = boxes[start:stop, None]
        low = torch.maximum(rows[..., :2], boxes[None, :, :2])
        high = torch.minimum(rows[..., 2:], boxes[None, :, 2:])
        common = (high - low + offset).clamp(min=0).prod(dim=2)
        table[start:stop] = common / (areas[start:stop, None] + areas - common) > iou_threshold
    return table


@numba.njit(cache=True, error_model="numpy")
def _suppress(boxes: NDArray[Any], iou_threshold: Any, offset: Any) -> NDArray[np.int64]:
    """Rows that stay, of boxes by falling score; all arithmetic in the type of the boxes."""
    num = len(boxes)
    nothing = offset - offset
    rows = np.arange(num)
    num_kept = 0
    while num_kept < num:
        box = boxes[rows[num_kept]]
        area = (box[2] - box[0] + offset) * (box[3] - box[1] + offset)
        num_kept += 1
        num_left = num_kept
        for j in range(num_kept, num):
            other = boxes[rows[j]]
            width = max(nothing, min(box[2], other[2]) - max(box[0], other[0]) + offset)
            height = max(nothing, min(box[3], other[3]) - max(box[1], other[1]) + offset)
            common = width * height
            other_area = (other[2] - other[0] + offset) * (other[3] - other[1] + offset)
            if not common / (area + other_area - common) > iou_threshold:
                rows[num_left] = rows[j]
                num_left += 1
        num = num_left
    return rows[:num_kept].copy()
