"""Weighted sum and maximum of rows that belong together.

R rows; E segments; C channels.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.boxes.kernels import kernels_serve
from ebm3d.pooling.twins import apply, gradients


def pool_segments(values: Tensor, weights: Tensor, owner: Tensor, count: int) -> Tensor:
    """Sum and maximum of weighted rows of each segment.

    Args:
        values: ``(R, C)``, not negative.
        weights: ``(R,)``, not negative.
        owner: ``(R,)`` segment of each row, int64, in any order.
        count: E.

    Returns:
        ``(E, 2 C)``: sums, then maxima, of ``weights * values``; zero for a segment of no rows.
        Differentiable twice; the maximum hands its gradient to one of the rows that reach it on a
        CPU, and to all of them in equal parts elsewhere.
    """
    if not kernels_serve(values, weights):
        return pool_by_torch(values, weights, owner, count)
    pooled: Tensor = apply(_PoolSegments, values, weights, owner, count)
    return pooled


def pool_by_torch(values: Tensor, weights: Tensor, owner: Tensor, count: int) -> Tensor:
    """The same by operations torch differentiates any number of times."""
    weighted = values * weights[:, None]
    zeros = values.new_zeros(count, values.shape[1])
    sums = zeros.index_add(0, owner, weighted)
    index = owner[:, None].expand_as(weighted)
    return torch.cat((sums, zeros.scatter_reduce(0, index, weighted, "amax")), dim=1)


class _PoolSegments(torch.autograd.Function):
    """The kernels below, for arrays in main memory."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weights: Tensor, owner: Tensor, count: int) -> Tensor:
        """Pool, and remember which row was the largest."""
        pooled = values.new_zeros(count, 2 * values.shape[1])
        largest = torch.full((count, values.shape[1]), -1, dtype=torch.int64)
        given = (t.detach().contiguous().numpy() for t in (values, weights, owner))
        pool_kernel(*given, pooled.numpy(), largest.numpy())
        ctx.save_for_backward(values, weights, owner, largest)
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Gradients of values and weights."""
        values, weights, owner, largest = ctx.saved_tensors
        if torch.is_grad_enabled():
            pooled = pool_by_torch(values, weights, owner, len(largest))
            found = gradients(pooled, (values, weights), grad, ctx.needs_input_grad)
            return found[0], found[1], None, None
        grad_values, grad_weights = torch.empty_like(values), torch.empty_like(weights)
        given = (t.detach().contiguous().numpy() for t in (values, weights, owner, largest, grad))
        pool_backward_kernel(*given, grad_values.numpy(), grad_weights.numpy())
        return grad_values, grad_weights, None, None


@numba.njit(cache=True, nogil=True)
def pool_kernel(
    values: NDArray[Any],
    weights: NDArray[Any],
    owner: NDArray[np.int64],
    pooled: NDArray[Any],
    largest: NDArray[np.int64],
) -> None:
    """Write sums and maxima ``(E, 2 C)`` over zeros, and the rows of the maxima over -1."""
    channels = values.shape[1]
    for r in range(len(owner)):
        e = owner[r]
        for c in range(channels):
            weighted = weights[r] * values[r, c]
            pooled[e, c] += weighted
            # A value that is not a number wins and stays, as in torch.
            if weighted > pooled[e, channels + c] or math.isnan(weighted):
                pooled[e, channels + c] = weighted
                largest[e, c] = r


@numba.njit(cache=True, nogil=True)
def pool_backward_kernel(
    values: NDArray[Any],
    weights: NDArray[Any],
    owner: NDArray[np.int64],
    largest: NDArray[np.int64],
    grad: NDArray[Any],
    grad_values: NDArray[Any],
    grad_weights: NDArray[Any],
) -> None:
    """Write gradients of values ``(R, C)`` and weights ``(R,)``."""
    channels = values.shape[1]
    for r in range(len(owner)):
        e = owner[r]
        grad_weight = 0.0
        for c in range(channels):
            grad_weighted = grad[e, c]
            if largest[e, c] == r:
                grad_weighted += grad[e, channels + c]
            grad_values[r, c] = weights[r] * grad_weighted
            grad_weight += values[r, c] * grad_weighted
        grad_weights[r] = grad_weight
