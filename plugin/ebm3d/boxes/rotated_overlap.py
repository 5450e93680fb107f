r"""Area of the intersection of rotated rectangles, in torch, on any device.

The twin of ``ebm3d.boxes.iou.intersection_area``, whose docstring derives the formula: the sum
over the four edges of the second rectangle of an integral that is continuous in both rectangles.
Here the cases of the integral are selections and not branches, so that all pairs take the same
steps: static shapes, no value is read on the host.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.errors import input_error, shape_error

# The slope of an edge narrower than this many times the smallest normal number might overflow.
_NO_WIDTH = 2.0**27


def rotated_overlap_areas(first: Tensor, second: Tensor) -> Tensor:
    """Area of the intersection of each rectangle with its partner.

    Exact up to rounding in the type of the input: for boxes of comparable size about 1e-15 of
    their areas in float64, 1e-6 in float32. Distance from the origin costs no accuracy.

    Args:
        first: rectangles ``(x, y, dx, dy, yaw)``, center and sizes, meters; yaw counter-clockwise
            in radians, of any size; finite, sizes at least 0. Shape ``(N, 5)``, or ``(..., 5)``.
        second: partners in the same frame, shape ``(N, 5)``, or one that broadcasts with the first:
            ``(N, 1, 5)`` and ``(1, M, 5)`` are all pairs.

    Returns:
        Areas, shape ``(N,)``, or the broadcast shape without its last axis; square meters.

    Raises:
        ValueError: if a shape, type or device does not fit.

    Note:
        Memory: about 60 numbers a pair; whoever compares many boxes does so in chunks.
    """
    _check(first, second)
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


def _check(first: Tensor, second: Tensor) -> None:
    """Raise unless both are rectangles of one floating-point type, on one device."""
    for name, value in (("first", first), ("second", second)):
        if value.ndim < 1 or value.shape[-1] != 5:
            raise shape_error(name, "(N, 5) with columns (x, y, dx, dy, yaw)", value)
        if not value.is_floating_point():
            raise input_error(name, "of a floating-point type", value.dtype)
    if first.dtype != second.dtype or first.device != second.device:
        expected = f"of the type and on the device of first ({first.dtype}, {first.device})"
        raise input_error("second", expected, f"{second.dtype}, {second.device}")


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

    Args:
        x0: corners, each the start of an edge that ends at the next one, shape (..., 4).
        y0: see ``x0``.
        half_x: half the extents of the clipping rectangle, shape (..., 1).
        half_y: see ``half_x``.

    Returns:
        The integrals, negative where the edge runs towards smaller x, shape (..., 4).
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
