r"""Features of points in the frame of the evaluated box, in torch: where z and height enter f.

What a point network sees of a point are coordinates relative to the half sizes (3), distances
beyond the faces along, across, below and above (4), coordinates from the center of the box (3), and
the features of the point. All of it is linear in a *basis*, and so is left to the first layer
(:func:`feature_matrix`). The window of a point is :math:`\prod_d s(1 - \max(b_d, 0) / m_d)` with
:math:`s(r) = r^2 (3 - 2 r)` for r in (0, 1] and 0 below, where b is the distance beyond the faces
along, across and up, and m the margin. Source: docs/method.md, M-5.

Few large operations, static shapes, no value read on the host; gradients in closed form, and by
torch where a graph of them is wanted. The kernels of :mod:`ebm3d.pooling.point_features` leave
points out of the window out; here they count at most 1e-30.

N boxes with S variants each; K points of a crop; F columns of the clouds; D = 11 + F columns of the
basis: coordinates relative to the half sizes (3), their absolute values in meters (3), coordinates
in meters (3), one, half sizes (3), features of the point (F - 3), share inside the box.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ebm3d.devices import Matrix, Vector, constant
from ebm3d.pooling.twins import apply, gradients, sparse_matrix

NUM_GEOMETRIC = 10
METRIC_SCALE = 2.0  # distances enter in units of half a meter
RELATIVE_LIMIT = 3.0  # coordinates relative to the half sizes enter up to here
SHARPNESS = 10.0  # per meter: how sharply a face divides inside from outside

# The window of a coordinate is r^2 (3 - 2 r) = t + _CUBIC t q with q = sqrt(3) r and t = q^2.
_ROOT = math.sqrt(3.0)
_CUBIC = -2.0 / (3.0 * _ROOT)
# Of q, so that the logarithm of the window has a slope everywhere: out of it a point counts 1e-30.
_LEAST = 1e-15


def weighted_basis(
    boxes: Tensor, xyz: Tensor, extra: Tensor, lag: Tensor, margin: Vector
) -> Tensor:
    """Basis of the features of each point, times its window.

    Args:
        boxes: ``(N, S, 7)``, or ``(N, S, 9)``: a point is moved by the velocity times its lag.
        xyz: ``(N, K, 3)`` points near each box, meters.
        extra: ``(N, K, F - 3)`` their features.
        lag: ``(N, K)``, seconds.
        margin: of the window along, across, up, meters.

    Returns:
        ``(N, S, K, D)``, differentiable in boxes, twice.
    """
    result: Tensor = apply(_WeightedBasis, boxes, xyz, extra, lag, margin)
    return result


class _WeightedBasis(torch.autograd.Function):
    """:func:`basis_by_torch`, its factors multiplied, with its gradient in closed form."""

    @staticmethod
    def forward(
        ctx: Any, boxes: Tensor, xyz: Tensor, extra: Tensor, lag: Tensor, margin: Vector
    ) -> Tensor:
        metric, distance, half, turn, ratio, arguments = _place(boxes, xyz, lag, margin)
        ramp = arguments[..., 0, :].clamp(_LEAST, _ROOT)
        square = ramp * ramp
        factors = torch.empty_like(arguments)
        torch.addcmul(square, square, ramp, value=_CUBIC, out=factors[..., 0, :])
        torch.sigmoid(arguments[..., 1, :], out=factors[..., 1, :])
        window_inside = factors.prod(dim=-1)
        basis = _join(ratio, distance, metric, half, extra, window_inside[..., 1:])
        ctx.save_for_backward(
            boxes, xyz, extra, lag, metric, half, turn, ratio, ramp, square, factors,
            window_inside, basis,
        )  # fmt: skip
        ctx.margin = margin
        return basis * window_inside[..., :1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        boxes, xyz, extra, lag, metric, half, turn, ratio, ramp, square, *rest = ctx.saved_tensors
        factors, products, basis = rest
        if torch.is_grad_enabled():
            basis, window = basis_by_torch(boxes, xyz, extra, lag, ctx.margin)
            grads = gradients(basis * window, (boxes,), grad, ctx.needs_input_grad)
            return grads[0], None, None, None, None
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
        if boxes.shape[-1] > 7:
            moved = (grad_metric * lag[:, None, :, None]).sum(dim=2).flatten(0, 1)
            grad_velocity = (turn @ moved[..., None])[:, :2, 0]
            grad_boxes = torch.cat((grad_boxes, grad_velocity), dim=1)
        return grad_boxes.view_as(boxes), None, None, None, None


def basis_by_torch(
    boxes: Tensor, xyz: Tensor, extra: Tensor, lag: Tensor, margin: Vector
) -> tuple[Tensor, Tensor]:
    """Basis ``(N, S, K, D)`` and window ``(N, S, K, 1)``, for torch to differentiate."""
    metric, distance, half, _, ratio, arguments = _place(boxes, xyz, lag, margin)
    ramp = arguments[..., 0, :].clamp(_LEAST, _ROOT)
    window = _product(ramp * ramp * (1.0 + _CUBIC * ramp))
    share = _product(torch.sigmoid(arguments[..., 1, :]))
    return _join(ratio, distance, metric, half, extra, share), window


def _product(factors: Tensor) -> Tensor:
    """Product over three columns; unlike ``prod`` cheap to differentiate where one is zero."""
    return factors[..., :1] * factors[..., 1:2] * factors[..., 2:]


def _place(boxes: Tensor, xyz: Tensor, lag: Tensor, margin: Vector) -> tuple[Tensor, ...]:
    """What everything else is made of; NaN for a box of which any number is not finite.

    Returns:
        Coordinates along, across and up from the center of the box ``(N, S, K, 3)``; their absolute
        values; half sizes ``(N, S, 3)``; the rotation ``(N * S, 3, 3)``; coordinates in half sizes
        ``(N, S, K, 3)``; arguments of the window and of the sigmoid ``(N, S, K, 2, 3)``.
    """
    matrix, shift = _linear_in_sizes_and_yaw(margin)
    columns = torch.addmm(
        constant(shift, boxes), boxes[..., 3:7].flatten(0, 1), constant(matrix, boxes)
    )
    half, limits, lift, angles = columns.split((3, 6, 3, 2), dim=1)
    rows, rest = (constant(part, boxes) for part in _ROTATION)
    turn = torch.addmm(rest, torch.cos(angles), rows).view(-1, 3, 3)
    # Not by a product: under TF32, which users may allow, it would round 70 m to 3 cm.
    offsets = xyz[:, None] - boxes[:, :, None, :3]
    if boxes.shape[-1] > 7:
        offsets = offsets + lag[:, None, :, None] * pad(boxes[..., 7:9], (0, 1))[:, :, None]
    metric = torch.baddbmm(lift[:, None], offsets.flatten(0, 1), turn).view_as(offsets)
    distance = metric.abs()
    half = half.view(*boxes.shape[:2], 3)
    limits = limits.view(*boxes.shape[:2], 1, 2, 3)
    slopes = constant((tuple(-_ROOT / m for m in margin), (-SHARPNESS,) * 3), boxes)
    arguments = torch.addcmul(limits, distance[..., None, :], slopes)
    return metric, distance, half, turn, metric / half[:, :, None], arguments


def _join(
    ratio: Tensor, distance: Tensor, metric: Tensor, half: Tensor, extra: Tensor, share: Tensor
) -> Tensor:
    """Columns of the basis ``(N, S, K, D)``."""
    shape = ratio.shape[:3]
    half = half[:, :, None].expand(*shape, 3)
    extra = extra[:, None].expand(*shape, extra.shape[-1])
    one = constant((1.0,), ratio).expand(*shape, 1)
    ratio = ratio.clamp(-RELATIVE_LIMIT, RELATIVE_LIMIT)
    return torch.cat((ratio, distance, metric, one, half, extra, share), dim=-1)


# Constants: nested tuples, which are copied to a device once.

# From cosine and sine of the yaw to the rows of the rotation into the frame of the box, and what it
# has besides.
_ROTATION: tuple[Matrix, Vector] = (
    sparse_matrix(2, 9, {(0, 0): 1.0, (0, 4): 1.0, (1, 1): -1.0, (1, 3): 1.0}),
    (*(0.0,) * 8, 1.0),
)


def feature_matrix(num_extra: int) -> Matrix:
    """Rows: columns of the basis; columns: the features ``10 + F - 3``, then one for the bias."""
    scale, bias = METRIC_SCALE, NUM_GEOMETRIC + num_extra
    entries = {
        **{(d, d): 1.0 for d in range(3)},
        **{(6 + d, 7 + d): scale for d in range(3)},
        **{(3 + d, 3 + d): scale for d in range(2)},  # beyond along and across: |c| - half size
        **{(10 + d, 3 + d): -scale for d in range(2)},
        **{(8, 5): -scale, (12, 5): -scale},  # below: -c - half height
        **{(8, 6): scale, (12, 6): -scale},  # above: c - half height
        **{(13 + e, NUM_GEOMETRIC + e): 1.0 for e in range(num_extra)},
        (9, bias): 1.0,
    }
    return sparse_matrix(14 + num_extra, bias + 1, entries)


def _linear_in_sizes_and_yaw(margin: Vector) -> tuple[Matrix, Vector]:
    """Matrix ``(4, 14)`` and shift ``(14,)``: half sizes, limits, bottom to center, angles.

    The cosines of the angles are cosine and sine of the yaw.
    """
    entries = {(2, 11): -0.5, (3, 12): 1.0, (3, 13): 1.0}
    for d in range(3):
        entries[d, d] = 0.5
        entries[d, 3 + d], entries[d, 6 + d] = 0.5 * _ROOT / margin[d], 0.5 * SHARPNESS
    shift = *(0.0,) * 3, *(_ROOT,) * 3, *(0.0,) * 7, -math.pi / 2
    return sparse_matrix(4, 14, entries), shift


def _argument_of_distance(margin: Vector) -> Matrix:
    """From gradients of the arguments, half of the window's, to that of distances, ``(6, 3)``."""
    window = {(d, d): -2.0 * _ROOT / margin[d] for d in range(3)}
    return sparse_matrix(6, 3, window | {(3 + d, d): -SHARPNESS for d in range(3)})


def _to_boxes(margin: Vector) -> Matrix:
    """From gradients of what a box determines to that of the box, ``(16, 7)``.

    Rows: minus those of the center (3); the torque; sums of the arguments' (6, half of the
    window's), of the half sizes' (3), and of the relative coordinates' times these (3).
    """
    entries = {(0, 0): -1.0, (1, 1): -1.0, (2, 2): -1.0, (2, 5): -0.5, (3, 6): 1.0}
    for d in range(3):
        entries[4 + d, 3 + d], entries[7 + d, 3 + d] = _ROOT / margin[d], 0.5 * SHARPNESS
        entries[10 + d, 3 + d], entries[13 + d, 3 + d] = 0.5, -0.5
    return sparse_matrix(16, 7, entries)
