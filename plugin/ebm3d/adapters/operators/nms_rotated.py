"""Non-maximum suppression of rotated boxes."""

from __future__ import annotations

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
    row_blocks,
    upright_boxes,
)
from ebm3d.adapters.operators.suppression import kept_rows
from ebm3d.boxes.kernels import kernels_serve
from ebm3d.errors import shape_error


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: int,
) -> Tensor:
    """The boxes that no kept box of a higher score overlaps too much.

    Source: ``nms_rotated_cpu_kernel`` and ``nms_rotated_cuda_kernel`` of mmcv 2.1.0. A box goes
    if its IoU with a kept one is at least the threshold on a CPU, more than it elsewhere, as in
    mmcv; the IoU is that of ``box_iou_rotated``. Labels do not separate boxes: neither of mmcv's
    kernels compares them, and whoever wants classes apart calls once for each, as mmdet3d does.

    Args:
        dets: boxes ``(x, y, w, h, angle)``, with the label if ``multi_label``, shape ``(N, 5)``
            or ``(N, 6)``.
        scores: shape ``(N,)``.
        order: rows of ``dets`` by falling score, shape ``(N,)``.
        dets_sorted: ``dets`` in that order.
        labels: shape ``(N,)``, or empty.
        iou_threshold: in [0, 1].
        multi_label: whether ``dets`` carries labels.

    Returns:
        Rows of ``dets`` that stay, by falling score, int64, shape ``(K,)``.

    Raises:
        ValueError: for another shape or type.

    Note:
        On another device than a CPU the host waits once, for ``K``; memory is N bytes a box.
    """
    boxes = dets_sorted.detach()
    boxes = boxes[:, :5] if multi_label and boxes.ndim == 2 else boxes
    check_rotated_boxes("dets", boxes)
    if scores.shape != (len(dets),):
        raise shape_error("scores", f"({len(dets)},), one for each of dets", scores)
    if kernels_serve(boxes):
        rows = torch.from_numpy(_suppress(upright_boxes(boxes), iou_threshold))
    else:
        rows = kept_rows(rotated_suppressions(boxes, iou_threshold))
    return order[rows]


def rotated_suppressions(boxes: Tensor, iou_threshold: float) -> Tensor:
    """Whether box i overlaps box j > i too much, in torch.

    Args:
        boxes: shape ``(N, 5)``.
        iou_threshold: in [0, 1].

    Returns:
        Booleans, shape ``(N, N)``; what stands below the diagonal means nothing.
    """
    exceeds = torch.ge if boxes.device.type == "cpu" else torch.gt
    table = torch.zeros(len(boxes), len(boxes), dtype=torch.bool, device=boxes.device)
    for start, stop in row_blocks(len(boxes), len(boxes)):
        ious = overlap_ratios(boxes[start:stop, None], boxes[None, start:], of_first=False)
        table[start:stop, start:] = exceeds(ious, iou_threshold)
    return table


@numba.njit(cache=True, error_model="numpy")
def _suppress(boxes: FloatArray, iou_threshold: float) -> NDArray[np.int64]:
    """Rows that stay, of boxes by falling score; overlaps of removed boxes are not computed."""
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
