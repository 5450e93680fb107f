from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ebm3d.pooling import bilinear_gather, stack_maps
from ebm3d.pooling.bilinear import gather_backward_kernel, gather_by_torch, gather_kernel

_SHAPE = (2, 5, 7)  # B, H, W


def _rows(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(70, 3, dtype=dtype)


def _cells(count: int = 60, dtype: torch.dtype = torch.float64) -> Tensor:
    """Column and row, also outside the map, at least 0.05 away from whole numbers."""
    whole = torch.stack((torch.randint(-3, 9, (count,)), torch.randint(-3, 7, (count,))), dim=1)
    return whole + 0.05 + 0.9 * torch.rand(count, 2, dtype=dtype)


def _scene(count: int = 60) -> Tensor:
    return torch.randint(2, (count,))


def _gather(rows: Tensor, cells: Tensor, scene: Tensor) -> Tensor:
    return bilinear_gather(rows, _SHAPE, cells, scene)


def _twin(rows: Tensor, cells: Tensor, scene: Tensor) -> Tensor:
    return gather_by_torch(rows, _SHAPE, cells, scene)


def test_linear_ramp_is_read_exactly():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    bev = (3 * x - 2 * y + 1)[None, None].double()
    cells = torch.rand(50, 2, dtype=torch.float64) * torch.tensor([6.0, 4.0])
    read = bilinear_gather(stack_maps(bev), (1, 5, 7), cells, torch.zeros(50, dtype=torch.int64))
    torch.testing.assert_close(read[:, 0], 3 * cells[:, 0] - 2 * cells[:, 1] + 1)


def test_whole_numbers_read_one_cell():
    rows, scene = _rows(), torch.tensor([0, 1])
    read = _gather(rows, torch.tensor([[6.0, 4.0], [2.0, 3.0]], dtype=torch.float64), scene)
    torch.testing.assert_close(read, rows[[4 * 7 + 6, 35 + 3 * 7 + 2]])


def test_reading_is_grid_sample_with_aligned_corners_and_zeros_outside():
    bev = torch.randn(1, 3, 5, 7, dtype=torch.float64)
    cells = _cells()
    grid = 2 * cells / torch.tensor([6.0, 4.0]) - 1
    expected = functional.grid_sample(bev, grid[None, :, None], align_corners=True)
    read = bilinear_gather(stack_maps(bev), (1, 5, 7), cells, torch.zeros(60, dtype=torch.int64))
    torch.testing.assert_close(read, expected[0, :, :, 0].t())


@pytest.mark.parametrize("gather", [_gather, _twin])
def test_outside_is_zero_and_the_edge_fades(gather: Callable[..., Tensor]):
    rows = torch.ones(70, 3, dtype=torch.float64)
    cells = torch.tensor([[-1.0, 2.0], [-0.25, 2.0], [6.75, 4.5], [1e9, 0.0], [0.0, 5.0]])
    read = gather(rows, cells.double(), torch.zeros(5, dtype=torch.int64))[:, 0]
    expected = torch.tensor([0.0, 0.75, 0.125, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(read, expected)


@pytest.mark.parametrize("gather", [_gather, _twin])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_position_that_is_not_finite_reads_nan(gather: Callable[..., Tensor], value: float):
    cells = torch.tensor([[value, 1.0], [1.0, value], [1.0, 1.0]], dtype=torch.float64)
    read = gather(_rows(), cells, torch.zeros(3, dtype=torch.int64))
    assert torch.isnan(read).all(dim=1).tolist() == [True, True, False]


def test_reading_is_differentiable_twice_in_map_and_positions():
    rows, cells, scene = _rows().requires_grad_(), _cells(12).requires_grad_(), _scene(12)
    assert torch.autograd.gradcheck(lambda r, c: _gather(r, c, scene), (rows, cells))
    assert torch.autograd.gradgradcheck(lambda r, c: _gather(r, c, scene), (rows, cells))


def test_derivative_at_a_cell_border_is_the_one_to_the_right():
    bev = torch.tensor([0.0, 1.0, 5.0]).reshape(1, 1, 1, 3).double()
    cells = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    read = bilinear_gather(stack_maps(bev), (1, 1, 3), cells, torch.zeros(1, dtype=torch.int64))
    read.sum().backward()
    assert float(cells.grad[0, 0]) == 4.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_equals_its_twin_in_value_and_gradients(dtype: torch.dtype):
    rows, cells, scene = _rows(dtype), _cells(dtype=dtype), _scene()
    grad = torch.randn(60, 3, dtype=dtype)
    found = []
    for gather in (_gather, _twin):
        inputs = rows.clone().requires_grad_(), cells.clone().requires_grad_()
        out = gather(*inputs, scene)
        found.append((out.detach(), *torch.autograd.grad(out, inputs, grad)))
    for kernel, twin in zip(*found, strict=True):
        torch.testing.assert_close(kernel, twin)


def test_compiled_and_interpreted_kernels_agree():
    rows, cells, scene = _rows(), _cells(20), _scene(20)
    cells[0, 0] = math.nan
    grad = torch.randn(20, 3, dtype=torch.float64)
    found = []
    for forward, backward in (
        (gather_kernel, gather_backward_kernel),
        (gather_kernel.py_func, gather_backward_kernel.py_func),
    ):
        out, grad_rows, grad_cells = grad * 0, torch.zeros_like(rows), torch.zeros_like(cells)
        arrays = [t.numpy() for t in (rows, cells, scene)]
        forward(*arrays, 5, 7, out.numpy())
        backward(*arrays, grad.numpy(), 5, 7, grad_rows.numpy(), grad_cells.numpy())
        found.append((out, grad_rows, grad_cells))
    for compiled, interpreted in zip(*found, strict=True):
        torch.testing.assert_close(compiled, interpreted, equal_nan=True)


def test_map_without_gradient_gets_none_and_positions_do():
    cells = _cells().requires_grad_()
    rows = _rows()
    _gather(rows, cells, _scene()).sum().backward()
    assert rows.grad is None
    assert float(cells.grad.abs().sum()) > 0


def test_positions_may_be_none_and_types_others():
    assert _gather(_rows(), torch.zeros(0, 2, dtype=torch.float64), _scene(0)).shape == (0, 3)
    coarse = _gather(_rows(torch.bfloat16), _cells().to(torch.bfloat16), _scene())
    assert coarse.dtype == torch.bfloat16


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"rows must have shape \(B \* H \* W, C\)"):
        _gather(_rows()[:-1], _cells(), _scene())
    with pytest.raises(ValueError, match=r"cells must have shape \(P, 2\)"):
        _gather(_rows(), _cells()[:, :1], _scene())
