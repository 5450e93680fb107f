"""Non-maximum suppression of axis-aligned and of rotated boxes.

On another device than a CPU a table of pairs, N bytes a box, goes to the host, which waits once:
as in mmcv's CUDA operators, for the number of kept boxes is needed anyway.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.adapters.operators.box_iou_rotated import (
    FloatArray,
    check_rotated_boxes,
    overlap_ratio,
    overlap_ratios,
    upright_boxes,
)
from ebm3d.adapters.operators.chunks import row_slices
from ebm3d.boxes.kernels import kernels_serve
from ebm3d.errors import shape_error

__all__ = ["nms", "nms_rotated"]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Suppress boxes whose IoU with a kept box of a higher score exceeds the threshold.

    Source: ``nms_cpu`` of mmcv 2.1.0, bit for bit in float32. Of equal scores the earlier row
    counts as the higher.

    Args:
        boxes: ``(x1, y1, x2, y2)``, shape ``(N, 4)``, float32 or float64.
        scores: shape ``(N,)``.
        iou_threshold: in [0, 1].
        offset: 0, or 1 for whole pixels: added to every width and height.

    Returns:
        Kept rows by falling score, int64, shape ``(K,)``.
    """
    order = scores.detach().sort(stable=True, dim=0, descending=True).indices
    ordered = boxes.detach()[order].contiguous()
    if kernels_serve(ordered):
        kind = ordered.numpy().dtype.type
        rows = torch.from_numpy(_suppress(ordered.numpy(), kind(iou_threshold), kind(offset)))
    else:
        rows = kept_rows(suppressions(ordered, iou_threshold, offset))
    return order[rows]


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: int,
) -> Tensor:
    """Suppress rotated boxes that overlap a kept box of a higher score too much.

    Source: ``nms_rotated_cpu_kernel`` and ``nms_rotated_cuda_kernel`` of mmcv 2.1.0. A box goes
    if its IoU with a kept one is at least the threshold on a CPU, more than it elsewhere. Labels
    do not separate boxes. All as in mmcv.

    Args:
        dets: boxes ``(N, 5)``, ``(x, y, w, h, angle)``, or with the label ``(N, 6)``.
        scores: shape ``(N,)``.
        order: rows of ``dets`` by falling score, shape ``(N,)``.
        dets_sorted: ``dets`` in that order.
        labels: not used.
        iou_threshold: in [0, 1].
        multi_label: whether ``dets`` carries labels.

    Returns:
        Kept rows of ``dets`` by falling score, int64, shape ``(K,)``.

    Raises:
        ValueError: for another shape or type.
    """
    boxes = dets_sorted.detach()
    boxes = boxes[:, :5] if multi_label and boxes.ndim == 2 else boxes
    check_rotated_boxes("dets", boxes)
    if scores.shape != (len(dets),):
        raise shape_error("scores", f"({len(dets)},), one for each of dets", scores)
    if kernels_serve(boxes):
        rows = torch.from_numpy(_suppress_rotated(upright_boxes(boxes), iou_threshold))
    else:
        rows = kept_rows(rotated_suppressions(boxes, iou_threshold))
    return order[rows]


def suppressions(boxes: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Whether box i would suppress box j, booleans, shape ``(N, N)``; see :func:`nms`."""
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(dim=1)
    table = torch.empty(len(boxes), len(boxes), dtype=torch.bool, device=boxes.device)
    for rows in row_slices(len(boxes), len(boxes)):
        low = torch.maximum(boxes[rows, None, :2], boxes[:, :2])
        high = torch.minimum(boxes[rows, None, 2:], boxes[:, 2:])
        common = (high - low + offset).clamp(min=0).prod(dim=2)
        table[rows] = common / (areas[rows, None] + areas - common) > iou_threshold
    return table


def rotated_suppressions(boxes: Tensor, iou_threshold: float) -> Tensor:
    """Whether box i would suppress box j > i, shape ``(N, N)``; see :func:`nms_rotated`."""
    exceeds = torch.ge if boxes.device.type == "cpu" else torch.gt
    table = torch.zeros(len(boxes), len(boxes), dtype=torch.bool, device=boxes.device)
    for rows in row_slices(len(boxes), len(boxes)):
        later = boxes[None, rows.start :]
        ious = overlap_ratios(boxes[rows, None], later, of_first=False)
        table[rows, rows.start :] = exceeds(ious, iou_threshold)
    return table


def kept_rows(suppresses: Tensor) -> Tensor:
    """Rows that no kept row before them suppresses, by the table of booleans ``(N, N)``."""
    rows = torch.from_numpy(_kept_rows(suppresses.cpu().numpy()))
    return rows.to(suppresses.device, non_blocking=True)


@numba.njit(cache=True)
def _kept_rows(suppresses: NDArray[np.bool_]) -> NDArray[np.int64]:
    """See ``kept_rows``; only columns beyond the diagonal count."""
    num = len(suppresses)
    is_kept = np.ones(num, dtype=np.bool_)
    for i in range(num):
        if is_kept[i]:
            for j in range(i + 1, num):
                is_kept[j] &= not suppresses[i, j]
    return np.flatnonzero(is_kept)


@numba.njit(cache=True, error_model="numpy")
def _suppress_rotated(boxes: FloatArray, iou_threshold: float) -> NDArray[np.int64]:
    """Kept rows of boxes by falling score; pairs with removed boxes are not computed."""
    num = len(boxes)
    rows = np.arange(num)
    num_kept = 0
    while num_kept < num:
        box = boxes[rows[num_kept]]
        num_kept += 1
        num_left = num_kept
        for j in range(num_kept, num):
            if not overlap_ratio(box, boxes[rows[j]], False) >= iou_threshold:
                rows[num_left] = rows[j]
                num_left += 1
        num = num_left
    return rows[:num_kept].copy()


@numba.njit(cache=True, error_model="numpy")
def _suppress(boxes: NDArray[Any], iou_threshold: Any, offset: Any) -> NDArray[np.int64]:
    """Kept rows of boxes by falling score; all arithmetic in the type of the boxes."""
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
