"""Weighted sum and maximum of rows that belong together, by kernels on a CPU.

R rows; E segments; C channels.
"""

from __future__ import annotations

from typing import Any

import numba
import torch
from torch import Tensor

from ebm3d.boxes.kernels import Array
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
        Differentiable twice; the first row that reaches a maximum gets its gradient.
    """
    pooled: Tensor = apply(_PoolSegments, values, weights, owner, count)
    return pooled


class _PoolSegments(torch.autograd.Function):
    """The kernels below."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weights: Tensor, owner: Tensor, count: int) -> Tensor:
        """Pool, and remember which row was the largest; R where there is none above zero."""
        pooled = values.new_zeros(count, 2 * values.shape[1])
        largest = torch.full((count, values.shape[1]), len(values))
        arrays = (t.detach().contiguous().numpy() for t in (values, weights, owner))
        pool_kernel(*arrays, pooled.numpy(), largest.numpy())
        ctx.save_for_backward(values, weights, owner, largest)
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Gradients of values and weights."""
        values, weights, owner, largest = ctx.saved_tensors
        if torch.is_grad_enabled():
            pooled = pool_by_torch(values, weights, owner, largest)
            grads = gradients(pooled, (values, weights), grad, ctx.needs_input_grad)
            return grads[0], grads[1], None, None
        grad_values, grad_weights = torch.empty_like(values), torch.empty_like(weights)
        arrays = (t.detach().contiguous().numpy() for t in (values, weights, owner, largest, grad))
        pool_backward_kernel(*arrays, grad_values.numpy(), grad_weights.numpy())
        return grad_values, grad_weights, None, None


def pool_by_torch(values: Tensor, weights: Tensor, owner: Tensor, largest: Tensor) -> Tensor:
    """The same by operations that torch differentiates, of the rows ``(E, C)`` of the maxima."""
    weighted = values * weights[:, None]
    zeros = values.new_zeros(largest.shape)
    maxima = torch.cat((weighted, zeros[:1])).gather(0, largest)
    return torch.cat((zeros.index_add(0, owner, weighted), maxima), dim=1)


@numba.njit(cache=True, nogil=True)
def pool_kernel(values: Array, weights: Array, owner: Array, pooled: Array, largest: Array) -> None:
    """Write sums and maxima ``(E, 2 C)`` over zeros, and the rows of the maxima over R."""
    channels = values.shape[1]
    for r in range(len(owner)):
        e = owner[r]
        for c in range(channels):
            weighted = weights[r] * values[r, c]
            pooled[e, c] += weighted
            maximum = pooled[e, channels + c]
            # The first value that is not a number wins and stays, as in torch.
            if weighted > maximum or (weighted != weighted and maximum == maximum):
                pooled[e, channels + c] = weighted
                largest[e, c] = r


@numba.njit(cache=True, nogil=True)
def pool_backward_kernel(
    values: Array,
    weights: Array,
    owner: Array,
    largest: Array,
    grad: Array,
    grad_values: Array,
    grad_weights: Array,
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
