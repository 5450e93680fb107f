"""Features of points in the frame of the evaluated box, by kernels on a CPU.

The features and the window are those of :mod:`ebm3d.pooling.point_features_torch`.

E evaluated boxes (N boxes with S variants each); Q points of all crops; R rows: pairs of an
evaluated box and a point in its window; F columns of the clouds.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from ebm3d.boxes.kernels import Array
from ebm3d.devices import Vector, constant
from ebm3d.pooling.point_crops import PointCrops
from ebm3d.pooling.point_features_torch import (
    METRIC_SCALE,
    NUM_GEOMETRIC,
    RELATIVE_LIMIT,
    SHARPNESS,
    basis_by_torch,
    feature_matrix,
)
from ebm3d.pooling.twins import apply, gradients


def point_features(
    crops: PointCrops, boxes: Tensor, margin: Vector
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Describe the points in the windows of boxes.

    Args:
        crops: points near N boxes.
        boxes: ``(N, S, 7)`` evaluated boxes, or ``(N, S, 9)``: a point is moved by the velocity
            times its lag.
        margin: of the window along, across, up, meters.

    Returns:
        Features ``(R, 10 + F - 3)``; window ``(R,)``; counts ``(E, 2)`` of points in the window and
        inside the box, NaN for a box that is not finite; the evaluated box of each row ``(R,)``,
        int64. The first three are differentiable in boxes, twice.
    """
    flat = boxes.flatten(0, 1)
    start = np.searchsorted(crops.owner.numpy(), np.arange(boxes.shape[0] + 1))
    points = crops.points.numpy(), crops.lag.numpy(), start
    arrays = *points, flat.detach().contiguous().numpy(), boxes.shape[1]
    rows = [torch.from_numpy(i) for i in select_kernel(*arrays, np.asarray(margin))]
    features, window, counts = apply(_PointFeatures, flat, crops.points, crops.lag, *rows, margin)
    return features, window, counts, rows[1]


class _PointFeatures(torch.autograd.Function):
    """The kernels below."""

    @staticmethod
    def forward(
        ctx: Any,
        boxes: Tensor,
        points: Tensor,
        lag: Tensor,
        point: Tensor,
        owner: Tensor,
        margin: Vector,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features, window and counts."""
        ctx.save_for_backward(boxes, points, lag, point, owner)
        ctx.margin = margin
        features = boxes.new_empty(len(owner), NUM_GEOMETRIC + points.shape[1] - 3)
        window, counts = boxes.new_empty(len(owner)), _zero_if_finite(boxes, 2)
        arrays = (t.detach().contiguous().numpy() for t in (boxes, points, lag, point, owner))
        outputs = (t.numpy() for t in (features, window, counts))
        features_kernel(*arrays, np.asarray(margin), *outputs)
        return features, window, counts

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the boxes."""
        boxes, points, lag, point, owner = ctx.saved_tensors
        if torch.is_grad_enabled():
            outputs = features_by_torch(points, lag, boxes, point, owner, ctx.margin)
            return (*gradients(outputs, (boxes,), grads, ctx.needs_input_grad), *[None] * 5)
        grad_boxes = _zero_if_finite(boxes, boxes.shape[1])
        tensors = boxes, points, lag, point, owner, *grads
        arrays = (t.detach().contiguous().numpy() for t in tensors)
        features_backward_kernel(*arrays, np.asarray(ctx.margin), grad_boxes.numpy())
        return (grad_boxes, *[None] * 5)


def _zero_if_finite(boxes: Tensor, columns: int) -> Tensor:
    """Zeros ``(E, columns)``, NaN for boxes ``(E, >= 7)`` that are not finite."""
    return (0 * boxes.detach().sum(dim=1, keepdim=True)).repeat(1, columns)


def features_by_torch(
    points: Tensor, lag: Tensor, boxes: Tensor, point: Tensor, owner: Tensor, margin: Vector
) -> tuple[Tensor, Tensor, Tensor]:
    """Features, window and counts of given rows, for torch to differentiate."""
    rows, times = points.index_select(0, point)[:, None], lag.index_select(0, point)[:, None]
    each = boxes.index_select(0, owner)[:, None]
    basis, window = basis_by_torch(each, rows[..., :3], rows[..., 3:], times, margin)
    basis, window = basis[:, 0, 0], window[:, 0, 0]
    num_features = NUM_GEOMETRIC + points.shape[1] - 3
    matrix = constant(feature_matrix(points.shape[1] - 3), boxes)[:, :num_features]
    in_window_inside = torch.cat((window, window * basis[:, -1:]), dim=1)
    counts = boxes.new_zeros(len(boxes), 2).index_add(0, owner, in_window_inside)
    return basis @ matrix, window[:, 0], counts


@numba.njit(cache=True, nogil=True)
def place_kernel(point: Array, lag: float, box: Array, out: Array) -> None:
    """Write u, v, height over the center, and the distances beyond the faces along u, v, up."""
    x, y = float(point[0]) - box[0], float(point[1]) - box[1]
    if len(box) > 7:
        x, y = x + lag * box[7], y + lag * box[8]
    cosine, sine = math.cos(box[6]), math.sin(box[6])
    out[0] = cosine * x + sine * y
    out[1] = cosine * y - sine * x
    out[2] = float(point[2]) - box[2] - 0.5 * box[5]
    for d in range(3):
        out[3 + d] = abs(out[d]) - 0.5 * box[3 + d]


@numba.njit(cache=True, nogil=True)
def select_kernel(
    points: Array, lag: Array, start: Array, boxes: Array, variants: int, margin: Array
) -> tuple[Array, Array]:
    """Point and evaluated box of every row; crop n is ``start[n]`` to ``start[n + 1]``."""
    size = (start[1:] - start[:-1]).sum() * variants
    point, owner = np.empty(size, np.int64), np.empty(size, np.int64)
    count, vx, vy = 0, 0.0, 0.0
    for e in range(len(boxes)):
        n = e // variants
        if boxes.shape[1] > 7:
            vx, vy = boxes[e, 7], boxes[e, 8]
        cosine, sine = math.cos(boxes[e, 6]), math.sin(boxes[e, 6])
        for q in range(start[n], start[n + 1]):
            up = float(points[q, 2]) - boxes[e, 2] - 0.5 * boxes[e, 5]
            x = float(points[q, 0]) - boxes[e, 0] + lag[q] * vx
            y = float(points[q, 1]) - boxes[e, 1] + lag[q] * vy
            if (
                abs(up) - 0.5 * boxes[e, 5] < margin[2]
                and abs(cosine * x + sine * y) - 0.5 * boxes[e, 3] < margin[0]
                and abs(cosine * y - sine * x) - 0.5 * boxes[e, 4] < margin[1]
            ):
                point[count], owner[count] = q, e
                count += 1
    return point[:count].copy(), owner[:count].copy()


@numba.njit(cache=True, nogil=True, error_model="numpy")
def features_kernel(
    boxes: Array,
    points: Array,
    lag: Array,
    point: Array,
    owner: Array,
    margin: Array,
    features: Array,
    window: Array,
    counts: Array,
) -> None:
    """Write features ``(R, 10 + F - 3)`` and window ``(R,)``; add up counts ``(E, 2)``."""
    place = np.empty(6)
    for r in range(len(owner)):
        q, e = point[r], owner[r]
        place_kernel(points[q], lag[q], boxes[e], place)
        weight, inside = 1.0, 1.0
        for d in range(3):
            ramp = 1 - max(place[3 + d], 0.0) / margin[d]
            weight *= ramp * ramp * (3 - 2 * ramp) if ramp > 0 else 0.0 * ramp
            inside /= 1 + math.exp(SHARPNESS * place[3 + d])
            relative = place[d] / (0.5 * boxes[e, 3 + d])
            features[r, d] = min(max(relative, -RELATIVE_LIMIT), RELATIVE_LIMIT)
            features[r, 7 + d] = METRIC_SCALE * place[d]
        half = 0.5 * boxes[e, 5]
        features[r, 3], features[r, 4] = METRIC_SCALE * place[3], METRIC_SCALE * place[4]
        features[r, 5] = -METRIC_SCALE * (place[2] + half)
        features[r, 6] = METRIC_SCALE * (place[2] - half)
        for c in range(3, points.shape[1]):
            features[r, NUM_GEOMETRIC - 3 + c] = points[q, c]
        window[r] = weight
        counts[e, 0] += weight
        counts[e, 1] += weight * inside


@numba.njit(cache=True, nogil=True, error_model="numpy")
def features_backward_kernel(
    boxes: Array,
    points: Array,
    lag: Array,
    point: Array,
    owner: Array,
    grad_features: Array,
    grad_window: Array,
    grad_counts: Array,
    margin: Array,
    grad_boxes: Array,
) -> None:
    """Add to ``grad_boxes``, shaped as ``boxes``, what :func:`features_kernel` hands back."""
    place, ramp, smooth, sigmoid = np.empty(6), np.empty(3), np.empty(3), np.empty(3)
    grad_place = np.empty(3)
    for r in range(len(owner)):
        q, e = point[r], owner[r]
        place_kernel(points[q], lag[q], boxes[e], place)
        for d in range(3):
            ramp[d] = max(1 - max(place[3 + d], 0.0) / margin[d], 0.0)
            smooth[d] = ramp[d] * ramp[d] * (3 - 2 * ramp[d])
            sigmoid[d] = 1 / (1 + math.exp(SHARPNESS * place[3 + d]))
        weight = smooth[0] * smooth[1] * smooth[2]
        inside = sigmoid[0] * sigmoid[1] * sigmoid[2]
        grad_weight = grad_window[r] + grad_counts[e, 0] + grad_counts[e, 1] * inside
        for d in range(3):
            half = 0.5 * boxes[e, 3 + d]
            grad_beyond = -SHARPNESS * (1 - sigmoid[d]) * inside * weight * grad_counts[e, 1]
            if place[3 + d] > 0:
                others = smooth[(d + 1) % 3] * smooth[(d + 2) % 3]
                grad_beyond -= grad_weight * others * 6 * ramp[d] * (1 - ramp[d]) / margin[d]
            if d < 2:
                grad_beyond += METRIC_SCALE * grad_features[r, 3 + d]
            grad_place[d] = METRIC_SCALE * grad_features[r, 7 + d] + grad_beyond * np.sign(place[d])
            grad_half = -grad_beyond
            if abs(place[d]) <= RELATIVE_LIMIT * half:
                grad_place[d] += grad_features[r, d] / half
                grad_half -= grad_features[r, d] * place[d] / (half * half)
            if d == 2:  # the distances below the bottom and above the top, and the moving center
                below, above = grad_features[r, 5], grad_features[r, 6]
                grad_place[2] += METRIC_SCALE * (above - below)
                grad_half -= METRIC_SCALE * (above + below) + grad_place[2]
            grad_boxes[e, 3 + d] += 0.5 * grad_half
        cosine, sine = math.cos(boxes[e, 6]), math.sin(boxes[e, 6])
        grad_x = cosine * grad_place[0] - sine * grad_place[1]
        grad_y = sine * grad_place[0] + cosine * grad_place[1]
        grad_boxes[e, 0] -= grad_x
        grad_boxes[e, 1] -= grad_y
        if boxes.shape[1] > 7:
            grad_boxes[e, 7] += lag[q] * grad_x
            grad_boxes[e, 8] += lag[q] * grad_y
        grad_boxes[e, 2] -= grad_place[2]
        grad_boxes[e, 6] += grad_place[0] * place[1] - grad_place[1] * place[0]
