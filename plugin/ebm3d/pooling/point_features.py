"""Points in the frame of the evaluated box: their features, and how much each of them counts.

E evaluated boxes (N boxes with S variants each); Q points of all crops; R rows: pairs of an
evaluated box and a point in its window; F columns of the clouds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.boxes.frames import points_to_box_frame
from ebm3d.boxes.kernels import kernels_serve
from ebm3d.pooling.point_crops import PointCrops
from ebm3d.pooling.twins import apply, gradients

NUM_GEOMETRIC = 10
METRIC_SCALE = 2.0  # distances enter in units of half a meter
RELATIVE_LIMIT = 3.0  # coordinates relative to the half sizes enter up to here
SHARPNESS = 10.0  # per meter: how sharply a face divides inside from outside


def point_features(
    crops: PointCrops, boxes: Tensor, margin: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Describe points near boxes.

    The window of a point is :math:`\prod_d s(1 - \max(b_d, 0) / m_d)` with
    :math:`s(r) = r^2 (3 - 2 r)` for r in (0, 1] and 0 below, where b is the distance beyond the
    faces along, across and up, and m the margin. Points out of the window do not count at all, and
    are left out on a CPU. Source: docs/method.md, M-5.

    Args:
        crops: points near N boxes.
        boxes: ``(N, S, 7)`` evaluated boxes; E = N * S of them.
        margin: meters along, across, up.

    Returns:
        Features ``(R, 10 + F - 3)``: coordinates relative to the half sizes, distances beyond the
        faces along, across, below and above, coordinates from the center, and the features of the
        point; window ``(R,)``; counts ``(E, 2)`` of points in the window and inside the box; the
        evaluated box of each row ``(R,)``, int64. The first three are differentiable in boxes.
    """
    flat = boxes.reshape(-1, 7)
    variants = boxes.shape[1]
    if not kernels_serve(flat, crops.points):
        point = torch.arange(len(crops.points), device=flat.device).repeat_interleave(variants)
        variant = torch.arange(variants, device=flat.device).repeat(len(crops.points))
        owner = crops.owner[point] * variants + variant
        return (*features_by_torch(crops.points, flat, point, owner, margin), owner)
    detached = flat.detach().contiguous()
    start = np.searchsorted(crops.owner.numpy(), np.arange(boxes.shape[0] + 1))
    arrays = (crops.points.numpy(), start, detached.numpy(), variants, np.asarray(margin))
    point, owner = (torch.from_numpy(index) for index in select_kernel(*arrays))
    features, window, counts = apply(
        _PointFeatures, flat, crops.points, point, owner, tuple(margin)
    )
    return features, window, counts, owner


def features_by_torch(
    points: Tensor, boxes: Tensor, point: Tensor, owner: Tensor, margin: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for given rows, by operations torch differentiates any number of times."""
    rows, own = points.index_select(0, point), boxes.index_select(0, owner)
    local = points_to_box_frame(rows[:, None, :3], own)[:, 0]
    half = 0.5 * own[:, 3:6]
    centered = torch.cat((local[:, :2], local[:, 2:] - half[:, 2:]), dim=1)
    beyond = centered.abs() - half
    metric = torch.cat((beyond[:, :2], -local[:, 2:], local[:, 2:] - own[:, 5:6], centered), dim=1)
    relative = (centered / half).clamp(-RELATIVE_LIMIT, RELATIVE_LIMIT)
    features = torch.cat((relative, METRIC_SCALE * metric, rows[:, 3:]), dim=1)
    ramp = (1 - beyond.clamp_min(0) / beyond.new_tensor(margin)).clamp_min(0)
    window = _product(ramp * ramp * (3 - 2 * ramp))
    # The sigmoid alone has no end: it would count points by where the crop was cut.
    inside = window * _product(torch.sigmoid(-SHARPNESS * beyond))
    counts = boxes.new_zeros(len(boxes), 2).index_add(0, owner, torch.stack((window, inside), 1))
    return features, window, counts


def _product(factors: Tensor) -> Tensor:
    """Product over the three columns; unlike ``prod`` cheap to differentiate where one is zero."""
    return factors[:, 0] * factors[:, 1] * factors[:, 2]


class _PointFeatures(torch.autograd.Function):
    """The kernels below, for arrays in main memory."""

    @staticmethod
    def forward(
        ctx: Any,
        boxes: Tensor,
        points: Tensor,
        point: Tensor,
        owner: Tensor,
        margin: tuple[float, ...],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features, window and counts."""
        ctx.save_for_backward(boxes, points, point, owner)
        ctx.margin = margin
        features = boxes.new_empty(len(owner), NUM_GEOMETRIC + points.shape[1] - 3)
        window, counts = boxes.new_empty(len(owner)), boxes.new_zeros(len(boxes), 2)
        given = (t.detach().contiguous().numpy() for t in (boxes, points, point, owner))
        features_kernel(
            *given, np.asarray(margin), features.numpy(), window.numpy(), counts.numpy()
        )
        return features, window, counts

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the boxes."""
        boxes, points, point, owner = ctx.saved_tensors
        if torch.is_grad_enabled():
            outputs = features_by_torch(points, boxes, point, owner, ctx.margin)
            return (*gradients(outputs, (boxes,), grads, ctx.needs_input_grad), *[None] * 4)
        grad_boxes = torch.zeros_like(boxes)
        given = (t.detach().contiguous().numpy() for t in (boxes, points, point, owner, *grads))
        features_backward_kernel(*given, np.asarray(ctx.margin), grad_boxes.numpy())
        return (grad_boxes, *[None] * 4)


@numba.njit(cache=True, nogil=True)
def place_kernel(point: NDArray[Any], box: NDArray[Any], out: NDArray[np.float64]) -> None:
    """Write u, v, height over the center, and the distances beyond the faces along u, v, up."""
    x, y = float(point[0]) - box[0], float(point[1]) - box[1]
    cosine, sine = math.cos(box[6]), math.sin(box[6])
    out[0] = cosine * x + sine * y
    out[1] = cosine * y - sine * x
    out[2] = float(point[2]) - box[2] - 0.5 * box[5]
    for d in range(3):
        out[3 + d] = abs(out[d]) - 0.5 * box[3 + d]


@numba.njit(cache=True, nogil=True)
def select_kernel(
    points: NDArray[Any],
    start: NDArray[np.int64],
    boxes: NDArray[Any],
    variants: int,
    margin: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Point and evaluated box of every row; crop n is ``start[n]`` to ``start[n + 1]``."""
    size = (start[1:] - start[:-1]).sum() * variants
    point, owner = np.empty(size, np.int64), np.empty(size, np.int64)
    count = 0
    for e in range(len(boxes)):
        n = e // variants
        cosine, sine = math.cos(boxes[e, 6]), math.sin(boxes[e, 6])
        for q in range(start[n], start[n + 1]):
            up = float(points[q, 2]) - boxes[e, 2] - 0.5 * boxes[e, 5]
            x, y = float(points[q, 0]) - boxes[e, 0], float(points[q, 1]) - boxes[e, 1]
            # Not the negation of "within": a box that is not finite must keep its points, so that
            # its features are not finite either.
            if (
                abs(up) - 0.5 * boxes[e, 5] >= margin[2]
                or abs(cosine * x + sine * y) - 0.5 * boxes[e, 3] >= margin[0]
                or abs(cosine * y - sine * x) - 0.5 * boxes[e, 4] >= margin[1]
            ):
                continue
            point[count], owner[count] = q, e
            count += 1
    return point[:count].copy(), owner[:count].copy()


@numba.njit(cache=True, nogil=True, error_model="numpy")
def features_kernel(
    boxes: NDArray[Any],
    points: NDArray[Any],
    point: NDArray[np.int64],
    owner: NDArray[np.int64],
    margin: NDArray[np.float64],
    features: NDArray[Any],
    window: NDArray[Any],
    counts: NDArray[Any],
) -> None:
    """Write features ``(R, 10 + F - 3)`` and window ``(R,)``; add up counts ``(E, 2)``."""
    place = np.empty(6)
    for r in range(len(owner)):
        q, e = point[r], owner[r]
        place_kernel(points[q], boxes[e], place)
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
    boxes: NDArray[Any],
    points: NDArray[Any],
    point: NDArray[np.int64],
    owner: NDArray[np.int64],
    grad_features: NDArray[Any],
    grad_window: NDArray[Any],
    grad_counts: NDArray[Any],
    margin: NDArray[np.float64],
    grad_boxes: NDArray[Any],
) -> None:
    """Add to ``grad_boxes`` ``(E, 7)`` what :func:`features_kernel` hands back."""
    place, ramp, smooth, sigmoid = np.empty(6), np.empty(3), np.empty(3), np.empty(3)
    grad_place = np.empty(3)
    for r in range(len(owner)):
        q, e = point[r], owner[r]
        place_kernel(points[q], boxes[e], place)
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
        grad_boxes[e, 0] -= cosine * grad_place[0] - sine * grad_place[1]
        grad_boxes[e, 1] -= sine * grad_place[0] + cosine * grad_place[1]
        grad_boxes[e, 2] -= grad_place[2]
        grad_boxes[e, 6] += grad_place[0] * place[1] - grad_place[1] * place[0]
