"""Bilinear reading of maps by kernels, and rows that are filled in where they are read."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ebm3d.pooling import bilinear_gather, stack_maps
from ebm3d.pooling.bilinear import gather_backward_kernel, gather_by_torch, gather_kernel
from ebm3d.pooling.map_rows import MapRows, claim_kernel

_SHAPE = (2, 5, 7)  # B, H, W


def _inputs(count: int = 60, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, positions also outside the map, at least 0.05 away from whole numbers, and frames."""
    whole = torch.stack((torch.randint(-3, 9, (count,)), torch.randint(-3, 7, (count,))), dim=1)
    cells = whole + 0.05 + 0.9 * torch.rand(count, 2, dtype=dtype)
    return torch.randn(70, 3, dtype=dtype), cells, torch.randint(2, (count,))


def _gather(rows: Tensor, cells: Tensor, scene: Tensor) -> Tensor:
    return bilinear_gather(rows, _SHAPE, cells, scene)


def _twin(rows: Tensor, cells: Tensor, scene: Tensor) -> Tensor:
    return gather_by_torch(rows, _SHAPE, cells, scene)


both = pytest.mark.parametrize("gather", [_gather, _twin])


def test_reading_is_grid_sample_with_aligned_corners_and_zeros_outside():
    bev, (_, cells, scene) = torch.randn(2, 3, 5, 7, dtype=torch.float64), _inputs()
    grid = 2 * cells / torch.tensor([6.0, 4.0]) - 1
    expected = functional.grid_sample(
        bev, grid[None, :, None].expand(2, -1, -1, -1), align_corners=True
    )
    read = _gather(stack_maps(bev), cells, scene)
    torch.testing.assert_close(read, expected[scene, :, torch.arange(60), 0])


@both
def test_whole_numbers_read_one_cell_and_the_edge_fades(gather: Callable[..., Tensor]):
    rows, _, _ = _inputs()
    cells = torch.tensor([[6.0, 4.0], [2.0, 3.0]], dtype=torch.float64)
    read = gather(rows, cells, torch.tensor([0, 1]))
    torch.testing.assert_close(read, rows[[4 * 7 + 6, 35 + 3 * 7 + 2]])
    cells = torch.tensor([[-1.0, 2.0], [-0.25, 2.0], [6.75, 4.5], [1e9, 0.0], [0.0, 5.0]]).double()
    read = gather(torch.ones_like(rows), cells, torch.zeros(5, dtype=torch.int64))[:, 0]
    torch.testing.assert_close(read, torch.tensor([0.0, 0.75, 0.125, 0.0, 0.0]).double())


@both
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_position_that_is_not_finite_reads_nan(gather: Callable[..., Tensor], value: float):
    cells = torch.tensor([[value, 1.0], [1.0, value], [1.0, 1.0]], dtype=torch.float64)
    read = gather(_inputs()[0], cells, torch.zeros(3, dtype=torch.int64))
    assert torch.isnan(read).all(dim=1).tolist() == [True, True, False]


@both
def test_derivative_at_a_cell_border_is_the_one_to_the_right(gather: Callable[..., Tensor]):
    rows = torch.zeros(70, 1, dtype=torch.float64)
    rows[:3, 0] = torch.tensor([0.0, 1.0, 5.0])
    cells = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    gather(rows, cells, torch.zeros(1, dtype=torch.int64)).sum().backward()
    assert float(cells.grad[0, 0]) == 4.0


def test_reading_is_differentiable_twice_in_map_and_positions():
    rows, cells, scene = _inputs(12)
    leaves = rows.requires_grad_(), cells.requires_grad_()
    assert torch.autograd.gradcheck(lambda r, c: _gather(r, c, scene), leaves)
    assert torch.autograd.gradgradcheck(lambda r, c: _gather(r, c, scene), leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_equals_its_twin_in_value_and_gradients(dtype: torch.dtype):
    rows, cells, scene = _inputs(dtype=dtype)
    grad, results = torch.randn(60, 3, dtype=dtype), []
    for gather in (_gather, _twin):
        leaves = rows.clone().requires_grad_(), cells.clone().requires_grad_()
        out = gather(*leaves, scene)
        results.append((out.detach(), *torch.autograd.grad(out, leaves, grad)))
    for kernel, twin in zip(*results, strict=True):
        torch.testing.assert_close(kernel, twin)


def test_compiled_and_interpreted_kernels_agree():
    rows, cells, scene = _inputs(20)
    cells[0, 0] = math.nan
    grad, results = torch.randn(20, 3, dtype=torch.float64), []
    kernels = gather_kernel, gather_backward_kernel, claim_kernel
    for forward, backward, claim in (kernels, [kernel.py_func for kernel in kernels]):
        outs = [torch.zeros_like(t).numpy() for t in (grad, rows, cells)]
        arrays = [t.numpy() for t in (rows, cells, scene)]
        forward(*arrays, 5, 7, outs[0])
        backward(*arrays, grad.numpy(), 5, 7, *outs[1:])
        results.append((*outs, claim(*arrays[1:], 5, 7, np.zeros(70, dtype=np.bool_))))
    for compiled, interpreted in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, interpreted, atol=1e-12)


def test_map_without_gradient_gets_none_and_other_types_are_read_in_torch():
    rows, cells, scene = _inputs()
    _gather(rows, cells.requires_grad_(), scene).sum().backward()
    assert rows.grad is None
    assert float(cells.grad.abs().sum()) > 0
    assert _gather(rows, cells[:0], scene[:0]).shape == (0, 3)
    assert _gather(rows.bfloat16(), cells.bfloat16(), scene).dtype == torch.bfloat16


def test_wrong_shapes_are_refused():
    rows, cells, scene = _inputs()
    for name, inputs in {
        "rows": (rows[:-1], cells, scene),
        "cells": (rows, cells[:, :1], scene),
        "scene": (rows, cells, scene[1:]),
    }.items():
        with pytest.raises(ValueError, match=f"{name} must have shape"):
            _gather(*inputs)


@pytest.mark.parametrize("projected", [False, True])
def test_rows_filled_where_they_are_read_read_as_rows_filled_everywhere(projected: bool):
    bev = torch.randn(2, 6, 5, 7, dtype=torch.float64, requires_grad=True)
    _, cells, scene = _inputs(30)
    positions, frames = cells.view(2, 3, 5, 2), scene[:2]
    projection = nn.Linear(6, 3).double() if projected else None
    everywhere = MapRows(bev, projection, frames)
    with torch.no_grad():
        lazy = MapRows(bev, projection, frames)
        for shift in (0.0, 0.7, 1.4):  # positions move, as boxes do
            torch.testing.assert_close(
                lazy.read(positions + shift), everywhere.read(positions + shift)
            )
    everywhere.read(positions).square().sum().backward()
    leaves = [bev, *(projection.parameters() if projection else ())]
    assert all(float(leaf.grad.abs().sum()) > 0 for leaf in leaves)


def test_each_row_is_claimed_once_and_only_where_a_position_reads():
    _, cells, scene = _inputs()
    known = np.zeros(70, dtype=np.bool_)
    first = claim_kernel(cells.numpy(), scene.numpy(), 5, 7, known)
    expected = {
        (int(b) * 5 + r) * 7 + c
        for (x, y), b in zip(np.floor(cells.numpy()).astype(int), scene, strict=True)
        for r in (y, y + 1)
        for c in (x, x + 1)
        if 0 <= r < 5 and 0 <= c < 7
    }
    assert sorted(first.tolist()) == sorted(expected) == np.flatnonzero(known).tolist()
    assert len(claim_kernel(cells.numpy(), scene.numpy(), 5, 7, known)) == 0
