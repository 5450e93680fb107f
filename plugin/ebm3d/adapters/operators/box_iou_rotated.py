"""Intersection over union of rotated boxes in a plane.

Glossary: N and M boxes ``(x, y, w, h, angle)``: center, sizes along and across, radians.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.boxes.iou import intersection_area
from ebm3d.boxes.kernels import kernels_serve, threads_for
from ebm3d.boxes.rotated_overlap import rotated_overlap_areas
from ebm3d.errors import input_error, shape_error

FloatArray = NDArray[np.float64]

SMALLEST_AREA = 1e-14
"""Square meters: boxes of less overlap with nothing, as in mmcv."""

_SECONDS_PER_PAIR = 1e-7
_PAIRS_AT_ONCE = 1 << 18  # 60 numbers each: 126 MB


def box_iou_rotated(
    boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool
) -> None:
    """Write the IoU of rotated boxes, or the part of the first box that is common to both.

    Source: ``single_box_iou_rotated`` of mmcv 2.1.0, whose rule for tiny boxes is kept. mmcv
    clips polygons in float32; here the area is exact, in float64 (``ebm3d.boxes.iou``). They
    differ by up to 1e-6, and by far more where mmcv sorts the corners of a common polygon wrongly,
    which happens to boxes that nearly coincide.

    Args:
        boxes1: floating point, finite, shape ``(N, 5)``; angles turn from x to y.
        boxes2: shape ``(M, 5)``; ``(N, 5)`` if ``aligned``.
        ious: filled; shape ``(N * M,)`` in rows of ``boxes1``, or ``(N,)`` if ``aligned``.
        mode_flag: 0 for the intersection over the union, 1 over the area of the first box.
        aligned: compare row ``i`` with row ``i``.

    Raises:
        ValueError: for another shape or type.
    """
    check_rotated_boxes("boxes1", boxes1)
    check_rotated_boxes("boxes2", boxes2)
    if aligned and len(boxes1) != len(boxes2):
        expected = f"({len(boxes1)}, 5), as many as boxes1 where aligned=True"
        raise shape_error("boxes2", expected, boxes2, "pass aligned=False for pairs")
    boxes1, boxes2 = boxes1.detach(), boxes2.detach()
    num_pairs = len(boxes1) if aligned else len(boxes1) * len(boxes2)
    if num_pairs == 0:
        return
    if kernels_serve(boxes1, boxes2):
        kernel = _aligned if aligned else _pairwise
        with threads_for(num_pairs * _SECONDS_PER_PAIR):
            found = kernel(upright_boxes(boxes1), upright_boxes(boxes2), mode_flag == 1)
        ious.copy_(torch.from_numpy(found).view_as(ious))
    elif aligned:
        for start, stop in row_blocks(len(boxes1), 1):
            part = slice(start, stop)
            ious[part] = overlap_ratios(boxes1[part], boxes2[part], mode_flag == 1)
    else:
        table = ious.view(len(boxes1), len(boxes2))
        for start, stop in row_blocks(len(boxes1), len(boxes2)):
            rows = boxes1[start:stop, None]
            table[start:stop] = overlap_ratios(rows, boxes2[None], mode_flag == 1)


def check_rotated_boxes(name: str, boxes: Tensor) -> None:
    """Raise unless these are rotated boxes in a plane; values are not looked at."""
    if boxes.ndim != 2 or boxes.shape[1] != 5:
        raise shape_error(name, "(N, 5) with columns (x, y, w, h, angle)", boxes)
    if not boxes.is_floating_point():
        raise input_error(name, "of a floating-point type", boxes.dtype, f"pass {name}.float()")


def overlap_ratios(boxes: Tensor, others: Tensor, of_first: bool) -> Tensor:
    """IoU in torch, or the common part of the first box, float64.

    Args:
        boxes: shape ``(..., 5)``.
        others: a shape that broadcasts with the first.
        of_first: divide by the area of the first box.

    Returns:
        Ratios, the broadcast shape without its last axis.
    """
    boxes, others = boxes.double(), others.double()
    common = rotated_overlap_areas(boxes, others)
    area, other_area = boxes[..., 2] * boxes[..., 3], others[..., 2] * others[..., 3]
    has_area = (area >= SMALLEST_AREA) & (other_area >= SMALLEST_AREA)
    whole = area.expand_as(common) if of_first else area + other_area - common
    return torch.where(has_area, common / torch.where(has_area, whole, 1.0), 0.0)


def row_blocks(num_rows: int, num_columns: int) -> list[tuple[int, int]]:
    """Ranges of rows whose pairs with all columns fit into memory."""
    step = max(_PAIRS_AT_ONCE // max(num_columns, 1), 1)
    return [(start, min(start + step, num_rows)) for start in range(0, num_rows, step)]


def upright_boxes(boxes: Tensor) -> FloatArray:
    """Boxes ``(x, y, 0, w, h, 0, angle)``, float64, shape ``(N, 7)``, of CPU boxes ``(N, 5)``."""
    upright = np.zeros((len(boxes), 7))
    upright[:, [0, 1, 3, 4, 6]] = boxes[:, :5].numpy()
    return upright


@numba.njit(cache=True, error_model="numpy")
def overlap_ratio(box: FloatArray, other: FloatArray, of_first: bool) -> float:
    """IoU of two boxes ``(7,)``, or the common part of the first."""
    area = box[3] * box[4]
    other_area = other[3] * other[4]
    if area < SMALLEST_AREA or other_area < SMALLEST_AREA:
        return 0.0
    common = intersection_area(box, other)
    return common / (area if of_first else area + other_area - common)


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _pairwise(boxes: FloatArray, others: FloatArray, of_first: bool) -> FloatArray:
    """Ratios of every box with every other, shape (N, M)."""
    ratios = np.empty((len(boxes), len(others)))
    for i in prange(len(boxes)):
        for j in range(len(others)):
            ratios[i, j] = overlap_ratio(boxes[i], others[j], of_first)
    return ratios


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _aligned(boxes: FloatArray, others: FloatArray, of_first: bool) -> FloatArray:
    """Ratios of box i with other i, shape (N,)."""
    ratios = np.empty(len(boxes))
    for i in prange(len(boxes)):
        ratios[i] = overlap_ratio(boxes[i], others[i], of_first)
    return ratios
