"""Bilinear reading of feature maps, differentiable in positions and in the map, twice.

P positions; C channels; H, W rows (y) and columns (x); B scenes.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from ebm3d.boxes.kernels import Array, kernels_serve
from ebm3d.devices import constant_index
from ebm3d.errors import shape_error
from ebm3d.pooling.twins import apply, gradients

_NEIGHBORS = ((0, 0), (0, 1), (1, 0), (1, 1))  # (row, column) from the lower left one


def bilinear_gather(
    rows: Tensor, shape: tuple[int, int, int], cells: Tensor, scene: Tensor
) -> Tensor:
    r"""Read maps at fractional positions, zero outside.

    .. math:: b(c, r) = \sum_{k,l\in\{0,1\}} |1-k-\delta_c|\,|1-l-\delta_r|\; F_{r_0+l,\,c_0+k}

    Source: docs/method.md, M-4. Unlike ``torch.nn.functional.grid_sample`` it can be differentiated
    twice, reads many scenes in one call, and keeps nothing for the backward pass but its arguments.

    Args:
        rows: ``(B * H * W, C)`` of :func:`ebm3d.pooling.geometry.stack_maps`.
        shape: ``(B, H, W)``.
        cells: ``(P, 2)`` column and row; whole numbers are cell centers.
        scene: ``(P,)`` which map, int64.

    Returns:
        ``(P, C)``; NaN where a position is not finite. At a cell border the derivative is the one
        to the right.

    Raises:
        ValueError: if shapes do not fit together.
    """
    if rows.ndim != 2 or rows.shape[0] != shape[0] * shape[1] * shape[2]:
        raise shape_error("rows", f"(B * H * W, C) with (B, H, W) = {shape}", rows)
    if cells.ndim != 2 or cells.shape[1] != 2:
        raise shape_error("cells", "(P, 2)", cells)
    if scene.shape != cells.shape[:1]:
        raise shape_error("scene", f"({len(cells)},), one map per position", scene)
    if not kernels_serve(rows, cells):
        return gather_by_torch(rows, shape, cells, scene)
    result: Tensor = apply(_BilinearGather, rows, cells, scene, shape)
    return result


def gather_by_torch(
    rows: Tensor, shape: tuple[int, int, int], cells: Tensor, scene: Tensor
) -> Tensor:
    """:func:`bilinear_gather` by operations that torch differentiates any number of times."""
    column_row = torch.floor(cells.detach())
    right = cells - column_row
    sides = torch.stack((1 - right, right), dim=1)
    weights = (sides[:, :, None, 1] * sides[:, None, :, 0]).flatten(1)
    steps = constant_index(_NEIGHBORS, cells)
    row_column = column_row.to(torch.int64).flip(1)[:, None] + steps
    limit = constant_index(shape[1:], cells)
    valid = ((row_column >= 0) & (row_column < limit)).all(dim=-1)
    indices = (scene[:, None] * shape[1] + row_column[..., 0]) * shape[2] + row_column[..., 1]
    indices, weights = indices * valid, weights * valid
    parts = [weights[:, k, None] * rows.index_select(0, indices[:, k]) for k in range(4)]
    return parts[0] + parts[1] + parts[2] + parts[3]


class _BilinearGather(torch.autograd.Function):
    """The kernels below, for arrays in main memory."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, cells: Tensor, scene: Tensor, shape: tuple[int, int, int]
    ) -> Tensor:
        ctx.save_for_backward(rows, cells, scene)
        ctx.shape = shape
        out = rows.new_empty(len(cells), rows.shape[1])
        arrays = (t.detach().contiguous().numpy() for t in (rows, cells, scene))
        gather_kernel(*arrays, shape[1], shape[2], out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Gradients of the maps, if wanted, and of the positions."""
        rows, cells, scene = ctx.saved_tensors
        if torch.is_grad_enabled():
            out = gather_by_torch(rows, ctx.shape, cells, scene)
            grads = gradients(out, (rows, cells), grad, ctx.needs_input_grad)
            return grads[0], grads[1], None, None
        wanted = ctx.needs_input_grad[0]
        grad_rows = torch.zeros_like(rows) if wanted else rows.new_empty(0, rows.shape[1])
        grad_cells = torch.empty_like(cells)
        arrays = (t.detach().contiguous().numpy() for t in (rows, cells, scene, grad))
        gather_backward_kernel(*arrays, *ctx.shape[1:], grad_rows.numpy(), grad_cells.numpy())
        return grad_rows if wanted else None, grad_cells, None, None


@numba.njit(cache=True, nogil=True)
def gather_kernel(
    rows: Array, cells: Array, scene: Array, height: int, width: int, out: Array
) -> None:
    """Write ``(P, C)`` values of maps ``(B * H * W, C)`` at ``cells`` ``(P, 2)``."""
    for p in range(len(cells)):
        column, row = cells[p, 0], cells[p, 1]
        out[p] = 0 if math.isfinite(column) and math.isfinite(row) else np.nan
        if not (-1 < column < width and -1 < row < height):
            continue
        low, left = math.floor(row), math.floor(column)
        for k in range(4):
            r, c = int(low) + k // 2, int(left) + k % 2
            if 0 <= r < height and 0 <= c < width:
                source = (scene[p] * height + r) * width + c
                # In the type of the map, so that the inner loop does not convert.
                weight = out.dtype.type((1 - abs(r - row)) * (1 - abs(c - column)))
                for channel in range(rows.shape[1]):
                    out[p, channel] += weight * rows[source, channel]


# The sum may be taken in any order, which lets the compiler use vectors; nothing else is relaxed.
@numba.njit(cache=True, nogil=True, fastmath={"reassoc"})
def dot_kernel(first: Array, second: Array) -> Any:
    """Sum of the products of two rows, in their type."""
    total = first.dtype.type(0)
    for channel in range(len(first)):
        total += first[channel] * second[channel]
    return total


@numba.njit(cache=True, nogil=True)
def gather_backward_kernel(
    rows: Array,
    cells: Array,
    scene: Array,
    grad: Array,
    height: int,
    width: int,
    grad_rows: Array,
    grad_cells: Array,
) -> None:
    """Add to ``grad_rows`` unless it is empty, and write ``grad_cells`` ``(P, 2)``."""
    for p in range(len(cells)):
        column, row = cells[p, 0], cells[p, 1]
        grad_cells[p] = 0 if math.isfinite(column) and math.isfinite(row) else np.nan
        if not (-1 < column < width and -1 < row < height):
            continue
        low, left = math.floor(row), math.floor(column)
        for k in range(4):
            r, c = int(low) + k // 2, int(left) + k % 2
            if not (0 <= r < height and 0 <= c < width):
                continue
            source = (scene[p] * height + r) * width + c
            product = dot_kernel(grad[p], rows[source])
            side_row, side_column = 1 - abs(r - row), 1 - abs(c - column)
            grad_cells[p, 0] += product * side_row * (1 if k % 2 else -1)
            grad_cells[p, 1] += product * side_column * (-1 if k < 2 else 1)
            if len(grad_rows):
                weight = grad.dtype.type(side_row * side_column)
                for channel in range(rows.shape[1]):
                    grad_rows[source, channel] += weight * grad[p, channel]
