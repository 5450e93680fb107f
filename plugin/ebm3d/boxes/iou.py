r"""Exact intersection over union of rotated boxes, in float64.

The area of two rectangles' intersection is computed in the frame of the first, where that one is
``[-a, a] x [-b, b]``. A vertical line at ``x`` cuts the second one, a convex polygon with edges
``y_e(x)``, in a segment whose part inside the first has the length
``clamp(top, -b, b) - clamp(bottom, -b, b)``. The area is therefore a sum over the four directed
edges of the second rectangle,

.. math:: A = -\sum_e \int_{clamp(x_0, -a, a)}^{clamp(x_1, -a, a)} clamp(y_e(x), -b, b)\, dx

for counter-clockwise corners. Each term is continuous in the boxes: no vertex is classified as
inside or outside and no vertices are sorted, which is where polygon clippers fail for identical,
touching and nearly parallel boxes. Positions enter as differences and the relative yaw is rounded
once, so that distance from the origin costs no accuracy.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ebm3d.boxes.kernels import kernels_serve, threads_for
from ebm3d.boxes.rotated_overlap import iou_in_torch
from ebm3d.errors import check_boxes, check_floating_boxes, input_error

FloatArray = NDArray[np.float64]
Boxes = TypeVar("Boxes", Tensor, FloatArray)

# Of overlapping boxes, to the right power of ten.
_SECONDS_PER_PAIR = 1e-7
# The slope of a narrower edge might overflow; its integral is nothing beside the areas of boxes.
_NO_WIDTH = 1e-280


def iou_bev(boxes: Boxes, others: Boxes, *, aligned: bool = False) -> Boxes:
    """Intersection over union of the boxes' outlines seen from above.

    Exact up to rounding: about 1e-15 for boxes of comparable size.

    Args:
        boxes: ``(N, 7)``, an array, or a tensor of any device; z and dz are not used.
        others: ``(M, 7)``, or ``(N, 7)`` if ``aligned``; an array or a tensor as ``boxes``.
        aligned: compare row ``i`` with row ``i`` instead of every box with every other.

    Returns:
        IoU in [0, 1], ``(N, M)``, or ``(N,)`` if ``aligned``; 0 for two boxes without area. A
        float64 array, or a tensor of the type and device of ``boxes``, without a gradient.

    Raises:
        ValueError: for another shape, an array and a tensor, or tensors of two devices; in main
            memory also for a value that is not finite, or a negative size.
    """
    iou: Boxes = _compute(boxes, others, aligned, volumes=False)
    return iou


def iou_3d(boxes: Boxes, others: Boxes, *, aligned: bool = False) -> Boxes:
    """Intersection over union of the boxes' volumes; otherwise as :func:`iou_bev`."""
    iou: Boxes = _compute(boxes, others, aligned, volumes=True)
    return iou


def _compute(boxes: Any, others: Any, aligned: bool, volumes: bool) -> Any:
    """IoU of arrays, or of tensors."""
    if not isinstance(boxes, Tensor) and not isinstance(others, Tensor):
        return _by_kernel(boxes, others, aligned, volumes)
    check_floating_boxes(boxes, "boxes")
    check_floating_boxes(others, "others")
    if others.device != boxes.device:
        raise input_error("others", f"on {boxes.device} as boxes", f"on {others.device}")
    first, second = boxes.detach().double(), others.detach().double()
    if kernels_serve(first, second):
        iou = torch.from_numpy(_by_kernel(first.numpy(), second.numpy(), aligned, volumes))
    else:
        _check_number(first, second, aligned)
        iou = iou_in_torch(first, second, aligned, volumes)
    return iou.to(boxes.dtype)


def _by_kernel(boxes: ArrayLike, others: ArrayLike, aligned: bool, volumes: bool) -> FloatArray:
    """Check the values of both arguments and compute, on one thread or all."""
    first, second = _checked("boxes", boxes), _checked("others", others)
    _check_number(first, second, aligned)
    num_pairs = len(first) if aligned else len(first) * len(second)
    kernel = _aligned_iou if aligned else _pairwise_iou
    with threads_for(num_pairs * _SECONDS_PER_PAIR):
        iou: FloatArray = kernel(first, second, volumes)
    return iou


def _check_number(boxes: Any, others: Any, aligned: bool) -> None:
    """Raise unless boxes to be compared row by row are as many."""
    if aligned and len(boxes) != len(others):
        expected = f"as long as boxes ({len(boxes)} rows) where aligned=True"
        raise input_error("others", expected, f"{len(others)} rows")


def _checked(name: str, values: ArrayLike) -> FloatArray:
    """Boxes as a contiguous float64 array, finite, of sizes at least 0."""
    boxes = np.ascontiguousarray(values, dtype=np.float64)
    if boxes.size == 0 and boxes.ndim <= 2:
        return np.zeros((0, 7))
    check_boxes(boxes, name)
    valid = np.isfinite(boxes)
    valid[:, 3:6] &= boxes[:, 3:6] >= 0
    if not valid.all():
        row, column = np.argwhere(~valid)[0]
        got = f"{name}[{row}, {column}] = {boxes[row, column]}"
        raise input_error(name, "finite, of sizes of at least 0", got)
    return boxes


@njit(cache=True, error_model="numpy")
def clamped_edge_integral(
    x0: float, y0: float, x1: float, y1: float, half_x: float, half_y: float
) -> float:
    """Integrate ``clamp(y, -half_y, half_y)`` along an edge, over x within ``[-half_x, half_x]``.

    Negative where the edge runs towards smaller x.
    """
    left = min(max(x0, -half_x), half_x)
    right = min(max(x1, -half_x), half_x)
    width = right - left
    if abs(width) < _NO_WIDTH:
        return 0.0
    slope = (y1 - y0) / (x1 - x0)
    # From the nearer end, so that an end that is not clipped keeps its y exactly.
    low = y0 + (left - x0) * slope if left != x1 else y1
    high = y1 + (right - x1) * slope if right != x0 else y0
    if low > high:
        low, high = high, low
    if low >= half_y:
        return half_y * width
    if high <= -half_y:
        return -half_y * width
    if low >= -half_y and high <= half_y:
        return 0.5 * (low + high) * width
    rise = high - low
    below = max(-half_y - low, 0.0) / rise
    above = max(high - half_y, 0.0) / rise
    middle = 0.5 * (max(low, -half_y) + min(high, half_y))
    return (half_y * (above - below) + middle * (1.0 - above - below)) * width


@njit(cache=True, error_model="numpy")
def intersection_area(box: FloatArray, other: FloatArray) -> float:
    """Area of the intersection of two boxes' ``(7,)`` outlines seen from above, square meters."""
    delta_x, delta_y = other[0] - box[0], other[1] - box[1]
    reach = 0.5 * (math.hypot(box[3], box[4]) + math.hypot(other[3], other[4]))
    if delta_x * delta_x + delta_y * delta_y > reach * reach * (1.0 + 1e-12):
        return 0.0
    cos_yaw, sin_yaw = math.cos(box[6]), math.sin(box[6])
    center_x = cos_yaw * delta_x + sin_yaw * delta_y
    center_y = cos_yaw * delta_y - sin_yaw * delta_x
    # The difference of the yaws and its rounding error (Knuth's two-sum), to first order in the
    # latter: yaws of thousands of turns stay exact.
    turn = other[6] - box[6]
    back = turn - other[6]
    error = (other[6] - (turn - back)) + (-box[6] - back)
    cos_turn, sin_turn = math.cos(turn), math.sin(turn)
    cos_turn, sin_turn = cos_turn - error * sin_turn, sin_turn + error * cos_turn
    along_x, along_y = 0.5 * other[3] * cos_turn, 0.5 * other[3] * sin_turn
    across_x, across_y = -0.5 * other[4] * sin_turn, 0.5 * other[4] * cos_turn
    half_x, half_y = 0.5 * box[3], 0.5 * box[4]
    x0, y0 = center_x + (along_x + across_x), center_y + (along_y + across_y)
    x1, y1 = center_x - (along_x - across_x), center_y - (along_y - across_y)
    x2, y2 = center_x - (along_x + across_x), center_y - (along_y + across_y)
    x3, y3 = center_x + (along_x - across_x), center_y + (along_y - across_y)
    area = -(
        clamped_edge_integral(x0, y0, x1, y1, half_x, half_y)
        + clamped_edge_integral(x1, y1, x2, y2, half_x, half_y)
        + clamped_edge_integral(x2, y2, x3, y3, half_x, half_y)
        + clamped_edge_integral(x3, y3, x0, y0, half_x, half_y)
    )
    return min(max(area, 0.0), box[3] * box[4], other[3] * other[4])


@njit(cache=True, error_model="numpy")
def common_height(box: FloatArray, other: FloatArray) -> float:
    """Overlap of two boxes' ``(7,)`` vertical extents, meters."""
    lift = other[2] - box[2]
    return max(min(box[5], lift + other[5]) - max(lift, 0.0), 0.0)


@njit(cache=True, error_model="numpy")
def pair_iou(box: FloatArray, other: FloatArray, volumes: bool) -> float:
    """IoU of two boxes ``(7,)``, of their volumes or their outlines seen from above."""
    height = common_height(box, other) if volumes else 1.0
    if height == 0.0:
        return 0.0
    common = intersection_area(box, other) * height
    size = box[3] * box[4] * (box[5] if volumes else 1.0)
    other_size = other[3] * other[4] * (other[5] if volumes else 1.0)
    union = size + other_size - common
    return min(common / union, 1.0) if union > 0.0 else 0.0


@njit(cache=True, parallel=True, error_model="numpy")
def _pairwise_iou(boxes: FloatArray, others: FloatArray, volumes: bool) -> FloatArray:
    """IoU of every box with every other, shape (N, M)."""
    iou = np.empty((len(boxes), len(others)))
    for i in prange(len(boxes)):
        for j in range(len(others)):
            iou[i, j] = pair_iou(boxes[i], others[j], volumes)
    return iou


@njit(cache=True, parallel=True, error_model="numpy")
def _aligned_iou(boxes: FloatArray, others: FloatArray, volumes: bool) -> FloatArray:
    """IoU of box i with other i, shape (N,)."""
    iou = np.empty(len(boxes))
    for i in prange(len(boxes)):
        iou[i] = pair_iou(boxes[i], others[i], volumes)
    return iou
