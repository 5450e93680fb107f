"""Intersection over union of rotated boxes in a plane.

Boxes are ``(x, y, w, h, angle)``: center, sizes along and across, radians from x to y.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.adapters.operators.chunks import row_slices
from ebm3d.boxes.iou import intersection_area
from ebm3d.boxes.kernels import kernels_serve, threads_for
from ebm3d.boxes.rotated_overlap import rotated_overlap_areas
from ebm3d.errors import input_error, shape_error

__all__ = ["box_iou_rotated"]

FloatArray = NDArray[np.float64]

SMALLEST_AREA = 1e-14  # m^2: smaller boxes overlap nothing, as in mmcv
_SECONDS_PER_PAIR = 1e-7


def box_iou_rotated(
    boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool
) -> None:
    """Write the IoU of rotated boxes, or the fraction of the first box in the second (IoF).

    Source: ``single_box_iou_rotated`` of mmcv 2.1.0, which clips polygons in float32; the area here
    is exact, in float64. They differ by 1e-6, and by far more where mmcv misorders the corners of
    the common polygon of boxes that nearly coincide.

    Args:
        boxes1: floating point, finite, shape ``(N, 5)``.
        boxes2: shape ``(M, 5)``; ``(N, 5)`` if ``aligned``.
        ious: filled; shape ``(N * M,)`` in rows of ``boxes1``, or ``(N,)`` if ``aligned``.
        mode_flag: 0 for IoU, 1 for IoF.
        aligned: compare row ``i`` with row ``i``.

    Raises:
        ValueError: for another shape or type.
    """
    check_rotated_boxes("boxes1", boxes1)
    check_rotated_boxes("boxes2", boxes2)
    if aligned and len(boxes1) != len(boxes2):
        expected = f"({len(boxes1)}, 5), as many as boxes1 where aligned=True"
        raise shape_error("boxes2", expected, boxes2, "pass aligned=False for pairs")
    if ious.numel() == 0:
        return
    boxes1, boxes2, of_first = boxes1.detach(), boxes2.detach(), mode_flag == 1
    if kernels_serve(boxes1, boxes2):
        with threads_for(ious.numel() * _SECONDS_PER_PAIR):
            ratios = _ratios(upright_boxes(boxes1), upright_boxes(boxes2), of_first, aligned)
        ious.copy_(torch.from_numpy(ratios).view_as(ious))
        return
    table = ious.view(len(boxes1), -1)
    for rows in row_slices(*table.shape):
        others = boxes2[rows, None] if aligned else boxes2[None]
        table[rows] = overlap_ratios(boxes1[rows, None], others, of_first)


def check_rotated_boxes(name: str, boxes: Tensor) -> None:
    """Raise unless these are rotated boxes ``(N, 5)``; values are not looked at."""
    if boxes.ndim != 2 or boxes.shape[1] != 5:
        raise shape_error(name, "(N, 5) with columns (x, y, w, h, angle)", boxes)
    if not boxes.is_floating_point():
        raise input_error(name, "of a floating-point type", boxes.dtype, f"pass {name}.float()")


def overlap_ratios(boxes: Tensor, others: Tensor, of_first: bool) -> Tensor:
    """IoU or IoF in torch, float64, of boxes ``(..., 5)`` that broadcast."""
    boxes, others = boxes.double(), others.double()
    common = rotated_overlap_areas(boxes, others)
    area, other_area = boxes[..., 2] * boxes[..., 3], others[..., 2] * others[..., 3]
    has_area = (area >= SMALLEST_AREA) & (other_area >= SMALLEST_AREA)
    whole = area.expand_as(common) if of_first else area + other_area - common
    return torch.where(has_area, common / torch.where(has_area, whole, 1.0), 0.0)


def upright_boxes(boxes: Tensor) -> FloatArray:
    """Boxes ``(x, y, 0, w, h, 0, angle)`` in float64, shape ``(N, 7)``, of CPU boxes ``(N, 5)``."""
    upright = np.zeros((len(boxes), 7))
    upright[:, [0, 1, 3, 4, 6]] = boxes.numpy()
    return upright


@numba.njit(cache=True, error_model="numpy")
def overlap_ratio(box: FloatArray, other: FloatArray, of_first: bool) -> float:
    """IoU or IoF of two boxes ``(7,)``."""
    area, other_area = box[3] * box[4], other[3] * other[4]
    if area < SMALLEST_AREA or other_area < SMALLEST_AREA:
        return 0.0
    common = intersection_area(box, other)
    return common / (area if of_first else area + other_area - common)


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _ratios(boxes: FloatArray, others: FloatArray, of_first: bool, aligned: bool) -> FloatArray:
    """Ratios of all pairs, shape ``(N, M)``, or of box i with other i, shape ``(N, 1)``."""
    num_columns = 1 if aligned else len(others)
    ratios = np.empty((len(boxes), num_columns))
    for i in prange(len(boxes)):
        for j in range(num_columns):
            other = others[i] if aligned else others[j]
            ratios[i, j] = overlap_ratio(boxes[i], other, of_first)
    return ratios
