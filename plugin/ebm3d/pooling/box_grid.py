"""Positions of a grid that moves with a box, in the coordinates of a map.

N boxes with S variants each, E = N * S; G grid points.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ebm3d.devices import constant
from ebm3d.pooling.twins import apply, gradients

_Pair = tuple[float, float]
# The sines of these plus the yaw are the axes of the box: along (x, y), then across (x, y).
_ANGLES = (math.pi / 2, 0.0, math.pi, math.pi / 2)


def grid_positions(boxes: Tensor, template: Tensor, scale: _Pair, origin: _Pair) -> Tensor:
    """Place a grid on boxes.

    Args:
        boxes: ``(N, S, 7)``.
        template: ``(G, 3)`` along and across in lengths and widths of the box, and one.
        scale: units of the map per meter, in x and in y.
        origin: the map's coordinates of (0, 0).

    Returns:
        ``(N, S, G, 2)``, differentiable in boxes, twice; gradients in closed form.
    """
    positions: Tensor = apply(_GridPositions, boxes.flatten(0, 1), template, scale, origin)
    return positions.view(*boxes.shape[:2], len(template), 2)


def _by_torch(
    boxes: Tensor, template: Tensor, scale: _Pair, origin: _Pair
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positions ``(E, G, 2)``; angles, their sines, and sizes in units of the map ``(E, 4)``."""
    rows = [[0.0] * 8 for _ in range(7)]
    rows[6][:4] = [1.0] * 4
    rows[3][4:6] = rows[4][6:8] = scale
    matrix = constant(tuple(map(tuple, rows)), boxes)
    columns = torch.addmm(constant((*_ANGLES, *(0.0,) * 4), boxes), boxes, matrix)
    angles, sizes = columns.split(4, dim=1)
    sines = torch.sin(angles)
    # Not by the product: under TF32, which users may allow, it would round 70 m to 3 cm.
    center = torch.addcmul(constant(origin, boxes), boxes[:, :2], constant(scale, boxes))
    offsets = template[:, :2].expand(len(boxes), -1, -1)
    axes = (sines * sizes).view(-1, 2, 2)
    return torch.baddbmm(center[:, None], offsets, axes), angles, sines, sizes


class _GridPositions(torch.autograd.Function):
    """:func:`_by_torch` with its gradient in closed form."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, template: Tensor, scale: _Pair, origin: _Pair) -> Tensor:
        """Positions."""
        positions, *parts = _by_torch(boxes, template, scale, origin)
        ctx.save_for_backward(boxes, template, *parts)
        ctx.scale, ctx.origin = scale, origin
        return positions

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None]:
        """The gradient of the boxes."""
        boxes, template, angles, sines, sizes = ctx.saved_tensors
        if torch.is_grad_enabled():
            positions = _by_torch(boxes, template, ctx.scale, ctx.origin)[0]
            return gradients(positions, (boxes,), grad, ctx.needs_input_grad)[0], None, None, None
        moments = (template.mT.expand(len(boxes), -1, -1) @ grad).flatten(1)
        grad_axes, grad_center = moments.split((4, 2), dim=1)
        grad_angles = grad_axes * sizes * torch.cos(angles)
        by_parameter = torch.cat((grad_center, grad_axes * sines, grad_angles), dim=1)
        x, y = ctx.scale
        rows = [[0.0] * 7 for _ in range(10)]
        rows[0][0], rows[1][1] = x, y
        rows[2][3], rows[3][3], rows[4][4], rows[5][4] = x, y, x, y
        for row in rows[6:]:
            row[6] = 1.0
        return by_parameter @ constant(tuple(map(tuple, rows)), boxes), None, None, None
