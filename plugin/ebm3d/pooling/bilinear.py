"""Bilinear reading of feature maps, differentiable in positions and in the map, twice.

P positions; C channels; H, W rows (y) and columns (x); B scenes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ebm3d.errors import shape_error

_NEIGHBORS = ((0, 0), (0, 1), (1, 0), (1, 1))  # (row, column) from the lower left one


def bilinear_gather(
    rows: Tensor, shape: tuple[int, int, int], cells: Tensor, scene: Tensor
) -> Tensor:
    r"""Read maps at fractional positions, zero outside.

    .. math:: b(c, r) = \sum_{k,l\in\{0,1\}} |1-k-\delta_c|\,|1-l-\delta_r|\; F_{r_0+l,\,c_0+k}

    Source: docs/method.md, M-4. Unlike ``torch.nn.functional.grid_sample`` it can be differentiated
    twice, reads many scenes in one call, and never copies the map; only the four-neighbor weights
    and indices are kept for the backward pass, not the gathered features.

    Args:
        rows: ``(B * H * W, C)`` maps as rows of channels, see
            :func:`ebm3d.pooling.geometry.stack_maps`.
        shape: ``(B, H, W)``.
        cells: ``(P, 2)`` column and row; whole numbers are cell centers.
        scene: ``(P,)`` which map, int64.

    Returns:
        ``(P, C)``. At a cell border the derivative is the one to the right.

    Raises:
        ValueError: if shapes do not fit together.
    """
    if rows.ndim != 2 or rows.shape[0] != shape[0] * shape[1] * shape[2]:
        raise shape_error("rows", f"(B * H * W, C) with (B, H, W) = {shape}", rows)
    if cells.ndim != 2 or cells.shape[1] != 2:
        raise shape_error("cells", "(P, 2)", cells)
    height_width = torch.tensor(shape[1:], device=cells.device)
    column_row = torch.floor(cells.detach())
    right = cells - column_row
    # Row-major over the four neighbors: (low, left), (low, right), (high, left), (high, right).
    sides = torch.stack((1 - right, right), dim=1)
    weights = (sides[:, :, None, 1] * sides[:, None, :, 0]).flatten(1)
    steps = torch.tensor(_NEIGHBORS, device=cells.device)
    row_column = column_row.to(torch.int64).flip(1)[:, None] + steps
    valid = ((row_column >= 0) & (row_column < height_width)).all(dim=-1)
    indices = (scene[:, None] * shape[1] + row_column[..., 0]) * shape[2] + row_column[..., 1]
    return weighted_rows(rows, indices * valid, weights * valid)


def weighted_rows(rows: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Sum rows of a table with weights: ``out[p] = sum_k weights[p, k] * rows[indices[p, k]]``.

    Args:
        rows: ``(R, C)``.
        indices: ``(P, K)`` int64.
        weights: ``(P, K)``.

    Returns:
        ``(P, C)``; differentiable twice in ``rows`` and ``weights``.
    """
    result: Tensor = _WeightedRows.apply(rows, indices, weights)
    return result


class _WeightedRows(torch.autograd.Function):
    """Weighted sum of rows whose backward is itself made of differentiable functions."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
        """Sum without keeping the gathered rows."""
        ctx.save_for_backward(rows, indices, weights)
        return functional.embedding_bag(indices, rows, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        """Scatter to the rows, and project on each row for the weights."""
        rows, indices, weights = ctx.saved_tensors
        grad_rows = grad_weights = None
        if ctx.needs_input_grad[0]:
            grad_rows = _ScatterRows.apply(grad, indices, weights, rows.shape[0])
        if ctx.needs_input_grad[2]:
            grad_weights = _RowProducts.apply(grad, rows, indices)
        return grad_rows, None, grad_weights


class _RowProducts(torch.autograd.Function):
    """``out[p, k] = grad[p] . rows[indices[p, k]]``, in blocks so that memory stays bounded."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, rows: Tensor, indices: Tensor) -> Tensor:
        """Dot products, one neighbor at a time."""
        ctx.save_for_backward(grad, rows, indices)
        columns = [
            torch.einsum("pc,pc->p", grad, rows.index_select(0, indices[:, k]))
            for k in range(indices.shape[1])
        ]
        return torch.stack(columns, dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """The product is linear in both factors."""
        outer, rows, indices = ctx.saved_tensors
        grad_outer = _WeightedRows.apply(rows, indices, grad)
        grad_rows = None
        if ctx.needs_input_grad[1]:
            grad_rows = _ScatterRows.apply(outer, indices, grad, rows.shape[0])
        return grad_outer, grad_rows, None


class _ScatterRows(torch.autograd.Function):
    """``out[indices[p, k]] += weights[p, k] * grad[p]``, the transpose of the weighted sum."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, indices: Tensor, weights: Tensor, num_rows: int) -> Tensor:
        """Add up, one neighbor at a time."""
        ctx.save_for_backward(grad, indices, weights)
        out = grad.new_zeros(num_rows, grad.shape[1])
        for k in range(indices.shape[1]):
            out.index_add_(0, indices[:, k], grad * weights[:, k, None])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, None]:
        """Both derivatives are the forward operations again."""
        outer, indices, weights = ctx.saved_tensors
        return (
            _WeightedRows.apply(grad, indices, weights),
            None,
            _RowProducts.apply(outer, grad, indices),
            None,
        )
