r"""A basis of the features of padded crops in the frame of each evaluated box.

The features and the window are those of :mod:`ebm3d.pooling.point_features`; what is linear in
them is left to the first layer, :func:`ebm3d.pooling.padded_pool.fold_first_layer`. Few large
operations, static shapes, no value read on the host; gradients in closed form, and by torch where a
graph of them is wanted.

N boxes with S variants each; K points of a crop; F columns of the clouds; D = 11 + F columns of the
basis: coordinates relative to the half sizes (3), their absolute values in meters (3), coordinates
in meters (3), one, half sizes (3), features of the point (F - 3), share inside the box.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ebm3d.devices import constant
from ebm3d.pooling.point_features import RELATIVE_LIMIT, SHARPNESS
from ebm3d.pooling.twins import apply, gradients

# The window of a coordinate is r^2 (3 - 2 r) = t + _CUBIC t q with q = sqrt(3) r and t = q^2.
_ROOT = math.sqrt(3.0)
_CUBIC = -2.0 / (3.0 * _ROOT)
# Of q, so that the logarithm of the window has a slope everywhere: out of it a point counts 1e-30.
_LEAST = 1e-15

_Matrix = tuple[tuple[float, ...], ...]


def weighted_features(
    boxes: Tensor, xyz: Tensor, extra: Tensor, margin: tuple[float, ...]
) -> Tensor:
    """Basis of the features of each point, times its window.

    Args:
        boxes: ``(N, S, 7)``.
        xyz: ``(N, K, 3)`` points near each box, meters.
        extra: ``(N, K, F - 3)`` their features.
        margin: of the window along, across, up, meters.

    Returns:
        ``(N, S, K, D)``, differentiable in boxes, twice.
    """
    result: Tensor = apply(_WeightedFeatures, boxes, xyz, extra, margin)
    return result


class _WeightedFeatures(torch.autograd.Function):
    """:func:`_basis_by_torch` with its gradient in closed form."""

    @staticmethod
    def forward(
        ctx: Any, boxes: Tensor, xyz: Tensor, extra: Tensor, margin: tuple[float, ...]
    ) -> Tensor:
        """Basis times window."""
        metric, distance, half, turn, ratio, arguments = _place(boxes, xyz, margin)
        ramp = arguments[..., 0, :].clamp(_LEAST, _ROOT)
        square = ramp * ramp
        factors = torch.empty_like(arguments)
        torch.addcmul(square, square, ramp, value=_CUBIC, out=factors[..., 0, :])
        torch.sigmoid(arguments[..., 1, :], out=factors[..., 1, :])
        window_inside = factors.prod(dim=-1)
        basis = _join(ratio, distance, metric, half, extra, window_inside[..., 1:])
        ctx.save_for_backward(
            boxes, xyz, extra, metric, half, turn, ratio, ramp, square, factors, window_inside,
            basis,
        )  # fmt: skip
        ctx.margin = margin
        return basis * window_inside[..., :1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None]:
        """The gradient of the boxes."""
        boxes, xyz, extra, metric, half, turn, ratio, ramp, square, *rest = ctx.saved_tensors
        factors, products, basis = rest
        if torch.is_grad_enabled():
            weighted = _basis_by_torch(boxes, xyz, extra, ctx.margin)
            found = gradients(weighted, (boxes,), grad, ctx.needs_input_grad)
            return found[0], None, None, None
        grad_window = (grad * basis).sum(dim=-1, keepdim=True)
        grad = grad * products[..., :1]
        grad_products = torch.cat((grad_window, grad[..., -1:]), dim=-1) * products
        # d log(factor) / d argument: of the window half of (2 q + 3 _CUBIC t) / factor, zero at
        # both ends; of the sigmoid one less it.
        slopes = torch.empty_like(factors)
        numerator = torch.add(ramp, square, alpha=1.5 * _CUBIC)
        torch.div(numerator, factors[..., 0, :], out=slopes[..., 0, :])
        torch.sub(1.0, factors[..., 1, :], out=slopes[..., 1, :])
        grad_arguments = (slopes * grad_products[..., None]).flatten(-2)
        by_window = constant(_argument_of_distance(ctx.margin), boxes)
        grad_absolute = torch.addmm(
            grad[..., 3:6].reshape(-1, 3), grad_arguments.flatten(0, -2), by_window
        ).view_as(ratio)
        grad_ratio = torch.ops.aten.hardtanh_backward(
            grad[..., :3], ratio, -RELATIVE_LIMIT, RELATIVE_LIMIT
        )
        grad_ratio = grad_ratio / half[:, :, None]
        grad_metric = torch.addcmul(grad[..., 6:9], grad_absolute, metric.sgn()) + grad_ratio
        moments = metric.flatten(0, 1).mT @ grad_metric.flatten(0, 1)
        torque = moments[:, 1, :1] - moments[:, 0, 1:2]
        parts = grad_arguments, grad[..., 10:13], grad_ratio * ratio, grad_metric
        sums = torch.cat(parts, dim=-1).sum(dim=2).flatten(0, 1)
        center = (turn @ sums[:, 12:, None])[..., 0]
        by_parameter = torch.cat((center, torque, sums[:, :12]), dim=1)
        grad_boxes = by_parameter @ constant(_to_boxes(ctx.margin), boxes)
        return grad_boxes.view_as(boxes), None, None, None


def _place(boxes: Tensor, xyz: Tensor, margin: tuple[float, ...]) -> tuple[Tensor, ...]:
    """What everything else is made of.

    Returns:
        Coordinates along, across and up from the center of the box ``(N, S, K, 3)``; their absolute
        values; half sizes ``(N, S, 3)``; the rotation ``(N * S, 3, 3)``; coordinates in half sizes
        ``(N, S, K, 3)``; arguments of the window and of the sigmoid ``(N, S, K, 2, 3)``.
    """
    matrix, shift = _linear_in_sizes(margin)
    sizes, yaw = boxes[..., 3:6].flatten(0, 1), boxes[..., 6:].flatten(0, 1)
    columns = torch.addmm(constant(shift, boxes), sizes, constant(matrix, boxes))
    half, limits, lift = columns.split((3, 6, 3), dim=1)
    rows, rest = (constant(part, boxes) for part in _ROTATION)
    turn = torch.addmm(rest, torch.cos(yaw + constant(_ANGLES, boxes)), rows).view(-1, 3, 3)
    # Not by a product: under TF32, which users may allow, it would round 70 m to 3 cm.
    offsets = xyz[:, None] - boxes[:, :, None, :3]
    metric = torch.baddbmm(lift[:, None], offsets.flatten(0, 1), turn).view_as(offsets)
    distance = metric.abs()
    half = half.view(*boxes.shape[:2], 3)
    limits = limits.view(*boxes.shape[:2], 1, 2, 3)
    arguments = torch.addcmul(limits, distance[..., None, :], constant(_slopes(margin), boxes))
    return metric, distance, half, turn, metric / half[:, :, None], arguments


def _join(
    ratio: Tensor,
    distance: Tensor,
    metric: Tensor,
    half: Tensor,
    extra: Tensor,
    inside: Tensor,
) -> Tensor:
    """Columns of the basis ``(N, S, K, D)``."""
    shape = ratio.shape[:3]
    half = half[:, :, None].expand(*shape, 3)
    extra = extra[:, None].expand(*shape, extra.shape[-1])
    one = constant((1.0,), ratio).expand(*shape, 1)
    ratio = ratio.clamp(-RELATIVE_LIMIT, RELATIVE_LIMIT)
    return torch.cat((ratio, distance, metric, one, half, extra, inside), dim=-1)


def _basis_by_torch(boxes: Tensor, xyz: Tensor, extra: Tensor, margin: tuple[float, ...]) -> Tensor:
    """Basis times window, by operations that torch differentiates any number of times."""
    metric, distance, half, _, ratio, arguments = _place(boxes, xyz, margin)
    ramp = arguments[..., 0, :].clamp(_LEAST, _ROOT)
    window = _product(ramp * ramp * (1.0 + _CUBIC * ramp))
    share = _product(torch.sigmoid(arguments[..., 1, :]))
    return window * _join(ratio, distance, metric, half, extra, share)


def _product(factors: Tensor) -> Tensor:
    """Product over three columns; unlike ``prod`` cheap to differentiate where one is zero."""
    return factors[..., :1] * factors[..., 1:2] * factors[..., 2:]


# Constants: nested tuples, which are copied to a device once.

_ANGLES = (0.0, -math.pi / 2)  # plus the yaw, their cosines are its cosine and sine
# From these to the rows of the rotation into the frame of the box, and what it has besides.
_ROTATION: tuple[_Matrix, tuple[float, ...]] = (
    (
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0),
        (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    ),
    (*(0.0,) * 8, 1.0),
)


def _slopes(margin: tuple[float, ...]) -> _Matrix:
    """Of the arguments of window and sigmoid in the absolute coordinate, ``(2, 3)``."""
    return tuple(-_ROOT / m for m in margin), (-SHARPNESS,) * 3


def _linear_in_sizes(margin: tuple[float, ...]) -> tuple[_Matrix, tuple[float, ...]]:
    """Matrix ``(3, 12)`` and shift ``(12,)``: half sizes, limits, from the bottom to the center."""
    rows = [[0.0] * 12 for _ in range(3)]
    for d in range(3):
        rows[d][d] = 0.5
        rows[d][3 + d], rows[d][6 + d] = 0.5 * _ROOT / margin[d], 0.5 * SHARPNESS
    rows[2][11] = -0.5
    return tuple(map(tuple, rows)), (*(0.0,) * 3, *(_ROOT,) * 3, *(0.0,) * 6)


def _argument_of_distance(margin: tuple[float, ...]) -> _Matrix:
    """From gradients of the arguments, half of the window's, to that of distances, ``(6, 3)``."""
    rows = [[0.0] * 3 for _ in range(6)]
    for d in range(3):
        rows[d][d], rows[3 + d][d] = -2.0 * _ROOT / margin[d], -SHARPNESS
    return tuple(map(tuple, rows))


def _to_boxes(margin: tuple[float, ...]) -> _Matrix:
    """From gradients of what a box does to its own, ``(16, 7)``.

    Rows: minus those of the center (3); the torque; sums of the arguments' (6, half of the
    window's), of the half sizes' (3), and of the relative coordinates' times these (3).
    """
    rows = [[0.0] * 7 for _ in range(16)]
    rows[0][0] = rows[1][1] = rows[2][2] = -1.0
    rows[2][5] = -0.5
    rows[3][6] = 1.0
    for d in range(3):
        rows[4 + d][3 + d], rows[7 + d][3 + d] = _ROOT / margin[d], 0.5 * SHARPNESS
        rows[10 + d][3 + d], rows[13 + d][3 + d] = 0.5, -0.5
    return tuple(map(tuple, rows))
