"""Mean and maximum of point features in the window, of padded crops.

N boxes with S variants each; K points of a crop; F columns of the clouds; H and C channels of the
two layers; D columns of the basis of :mod:`ebm3d.pooling.point_features_torch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ebm3d.devices import Vector, constant
from ebm3d.pooling.point_crops import PaddedCrops
from ebm3d.pooling.point_features_torch import NUM_GEOMETRIC, feature_matrix, weighted_basis
from ebm3d.pooling.twins import apply, gradients, sparse_matrix


@dataclass(frozen=True)
class PaddedContext:
    """What :func:`pool_padded` needs of points and layers, made once for all boxes and steps.

    Attributes:
        xyz: ``(N, K, 3)`` the points, meters.
        extra: ``(N, K, F - 3)`` their features.
        lag: ``(N, K)`` seconds.
        weight: ``(N, 1, 1)`` points of the cloud that each stands for, and one over it.
        inverse_weight: ``(N, 1, 1)``.
        first: ``(D, H + 2)`` of :func:`fold_first_layer`.
        second: ``(H + 2, C + 2)`` of :func:`fold_second_layer`.
        margin: of the window along, across, up, meters.
    """

    xyz: Tensor
    extra: Tensor
    lag: Tensor
    weight: Tensor
    inverse_weight: Tensor
    first: Tensor
    second: Tensor
    margin: Vector

    @classmethod
    def of(
        cls, crops: PaddedCrops, first: nn.Linear, second: nn.Linear, margin: Vector
    ) -> PaddedContext:
        """Fold the layers, whose parameters get gradients, and lay the points out."""
        weight = crops.weight[:, None, None]
        return cls(
            crops.points[..., :3],
            crops.points[..., 3:],
            crops.lag,
            weight,
            weight.reciprocal(),
            fold_first_layer(first.weight, first.bias),
            fold_second_layer(second.weight, second.bias),
            margin,
        )


def pool_padded(context: PaddedContext, boxes: Tensor) -> Tensor:
    """Mean and maximum of the point features in the window, and logarithms of the counts.

    Args:
        context: points near N boxes, and the layers.
        boxes: ``(N, S, 7)`` or ``(N, S, 9)``.

    Returns:
        ``(N, S, 2 C + 2)``, differentiable in boxes and layers, twice. The first point of a crop
        that reaches a maximum gets its gradient.
    """
    hidden = weighted_basis(boxes, context.xyz, context.extra, context.lag, context.margin)
    hidden = torch.relu_(torch.relu_(hidden @ context.first) @ context.second)
    pooled: Tensor = apply(_PoolPadded, hidden, context.weight, context.inverse_weight)
    return pooled


def fold_first_layer(weight: Tensor, bias: Tensor) -> Tensor:
    """First layer on the basis, ``(D, H + 2)``, of a weight ``(H, 10 + F - 3)`` and bias ``(H,)``.

    A point of window w enters as w times its basis, and leaves as w times its hidden units: relu
    lets a positive factor through. Two more outputs hand on one and the share inside the box.
    """
    num_extra = weight.shape[1] - NUM_GEOMETRIC
    layer = torch.cat((weight.t(), bias[None]))
    passed = sparse_matrix(14 + num_extra, 2, {(9, 0): 1.0, (13 + num_extra, 1): 1.0})
    on_basis = constant(feature_matrix(num_extra), weight) @ layer
    return torch.cat((on_basis, constant(passed, weight)), dim=1)


def fold_second_layer(weight: Tensor, bias: Tensor) -> Tensor:
    """Second layer ``(H + 2, C + 2)``, which hands on the two further outputs of the first."""
    num_hidden = weight.shape[1]
    layer = torch.cat((weight.t(), bias[None], torch.zeros_like(bias)[None]))
    passed = sparse_matrix(num_hidden + 2, 2, {(num_hidden, 0): 1.0, (num_hidden + 1, 1): 1.0})
    return torch.cat((layer, constant(passed, weight)), dim=1)


class _PoolPadded(torch.autograd.Function):
    """:func:`_pool_by_torch` with its gradient in closed form."""

    @staticmethod
    def forward(ctx: Any, weighted: Tensor, weight: Tensor, inverse_weight: Tensor) -> Tensor:
        """Pool, and remember which point was the largest."""
        channels = weighted.shape[-1] - 2
        sums, (maxima, largest) = weighted.sum(dim=2), weighted[..., :channels].max(dim=2)
        counts = sums[..., channels:]
        divisor = counts[..., :1] + 1
        mean = sums[..., :channels] / divisor
        ctx.save_for_backward(weighted, weight, inverse_weight, largest, counts, divisor, mean)
        return torch.cat((mean, maxima, torch.log1p(counts * weight)), dim=-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        """The gradient of the weighted units."""
        weighted, weight, inverse_weight, largest, counts, divisor, mean = ctx.saved_tensors
        largest = largest[:, :, None]
        if torch.is_grad_enabled():
            pooled = _pool_by_torch(weighted, weight, largest)
            return gradients(pooled, (weighted,), grad, ctx.needs_input_grad)[0], None, None
        channels = mean.shape[-1]
        grad_mean, grad_maxima, grad_counts = grad.split((channels, channels, 2), dim=-1)
        grad_sums = grad_mean / divisor
        grad_counts = grad_counts / (counts + inverse_weight)
        grad_counts[..., :1].sub_((grad_sums[..., None, :] @ mean[..., None])[..., 0])
        sums = torch.cat((grad_sums, grad_counts), dim=-1)[:, :, None].expand_as(weighted)
        return sums.scatter_add(2, largest, grad_maxima[:, :, None]), None, None


def _pool_by_torch(weighted: Tensor, weight: Tensor, largest: Tensor) -> Tensor:
    """The same by operations that torch differentiates any number of times."""
    units, counts = weighted[..., :-2], weighted[..., -2:].sum(dim=2)
    mean = units.sum(dim=2) / (counts[..., :1] + 1)
    maxima = units.gather(2, largest)[:, :, 0]
    return torch.cat((mean, maxima, torch.log1p(counts * weight)), dim=-1)
