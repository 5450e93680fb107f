"""Intersection of rotated rectangles, and IoU of boxes, in torch on any device.

The twin of the kernels in :mod:`ebm3d.boxes.iou`, which derives the formula. The cases of the
integral are selections and not branches: static shapes, and no value is read on the host.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.errors import shape_error

_MAX_PAIRS = 2**20  # at a time: half a gigabyte
_RECTANGLE = [0, 1, 3, 4, 6]  # x, y, dx, dy, yaw
# The slope of an edge narrower than this many times the smallest normal number might overflow.
_NO_WIDTH = 2.0**27


def iou_in_torch(boxes: Tensor, others: Tensor, aligned: bool, volumes: bool) -> Tensor:
    """IoU of areas or volumes.

    Args:
        boxes: ``(N, 7)``, finite, sizes at least 0.
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


def rotated_overlap_areas(first: Tensor, second: Tensor) -> Tensor:
    """Area of the intersection of rotated rectangles, square meters.

    Exact up to rounding: for boxes of comparable size about 1e-15 of their areas in float64, 1e-6
    in float32. Distance from the origin costs no accuracy. Memory: about 60 numbers a pair.

    Args:
        first: ``(..., 5)``: center x, y and sizes dx, dy in meters, yaw in radians; finite, sizes
            at least 0.
        second: ``(..., 5)``, broadcasts with ``first``.

    Raises:
        ValueError: for another number of columns.
    """
    for name, value in (("first", first), ("second", second)):
        if value.ndim < 1 or value.shape[-1] != 5:
            raise shape_error(name, "(..., 5) with columns (x, y, dx, dy, yaw)", value)
    x, y, dx, dy, yaw = first.unbind(-1)
    other_x, other_y, other_dx, other_dy, other_yaw = second.unbind(-1)
    delta_x, delta_y = other_x - x, other_y - y
    cos_yaw, sin_yaw = yaw.cos(), yaw.sin()
    center_x = cos_yaw * delta_x + sin_yaw * delta_y
    center_y = cos_yaw * delta_y - sin_yaw * delta_x
    cos_turn, sin_turn = _cos_sin_of_difference(other_yaw, yaw)
    half_dx, half_dy = 0.5 * other_dx, 0.5 * other_dy
    corner_x = _corners(center_x, half_dx * cos_turn, -half_dy * sin_turn)
    corner_y = _corners(center_y, half_dx * sin_turn, half_dy * cos_turn)
    area = -_clamped_edge_integrals(
        corner_x, corner_y, (0.5 * dx).unsqueeze(-1), (0.5 * dy).unsqueeze(-1)
    ).sum(-1)
    reach = 0.5 * (torch.hypot(dx, dy) + torch.hypot(other_dx, other_dy))
    near = delta_x.square() + delta_y.square() <= reach.square() * (1.0 + 1e-12)
    smaller = torch.minimum(dx * dy, other_dx * other_dy)
    return torch.where(near, torch.minimum(area.clamp(min=0.0), smaller), 0.0)


def _cos_sin_of_difference(yaw: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of ``yaw - reference``, without the rounding of the difference.

    The rounding error (Knuth's two-sum) enters to first order: yaws of many turns stay exact.
    """
    turn = yaw - reference
    back = turn - yaw
    error = (yaw - (turn - back)) + (-reference - back)
    cosine, sine = turn.cos(), turn.sin()
    return cosine - error * sine, sine + error * cosine


def _corners(center: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """One coordinate of the corners, counter-clockwise, shape (..., 4)."""
    diagonal, other_diagonal = along + across, along - across
    offsets = (diagonal, -other_diagonal, -diagonal, other_diagonal)
    return center.unsqueeze(-1) + torch.stack(offsets, dim=-1)


def _clamped_edge_integrals(x0: Tensor, y0: Tensor, half_x: Tensor, half_y: Tensor) -> Tensor:
    """Integrate ``clamp(y, -half_y, half_y)`` over x within ``[-half_x, half_x]`` along each edge.

    Corners ``(..., 4)``, each the start of an edge that ends at the next one; half extents
    ``(..., 1)``. The integrals ``(..., 4)`` are negative where an edge runs towards smaller x.
    """
    x1, y1 = x0.roll(-1, dims=-1), y0.roll(-1, dims=-1)
    left = torch.minimum(torch.maximum(x0, -half_x), half_x)
    right = torch.minimum(torch.maximum(x1, -half_x), half_x)
    width = right - left
    has_width = width.abs() >= _NO_WIDTH * torch.finfo(width.dtype).tiny
    slope = (y1 - y0) / torch.where(has_width, x1 - x0, 1.0)
    # From the nearer end, so that an end that is not clipped keeps its y exactly.
    start = torch.where(left == x1, y1, y0 + (left - x0) * slope)
    end = torch.where(right == x0, y0, y1 + (right - x1) * slope)
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    rise = high - low
    whole = torch.where(rise > 0.0, rise, 1.0)
    below = torch.minimum((-half_y - low).clamp(min=0.0), rise) / whole
    above = torch.minimum((high - half_y).clamp(min=0.0), rise) / whole
    clamped_low = torch.minimum(torch.maximum(low, -half_y), half_y)
    clamped_high = torch.minimum(torch.maximum(high, -half_y), half_y)
    middle = 0.5 * (clamped_low + clamped_high)
    mean = half_y * (above - below) + middle * (1.0 - above - below)
    return torch.where(has_width, mean * width, 0.0)
