"""Features of voxels against a dictionary of lists, and their gradients."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.adapters.operators import OPERATORS
from tests.adapters.operators.calls import choose

dynamic_scatter = import_module("ebm3d.adapters.operators.dynamic_scatter")
forward = OPERATORS["dynamic_point_to_voxel_forward"]
backward = OPERATORS["dynamic_point_to_voxel_backward"]

KINDS = ("sum", "mean", "max")


@pytest.fixture(params=["numba", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both implementations."""
    choose(monkeypatch, request.param)
    return request.param


class _Scatter(torch.autograd.Function):
    """The function that mmcv.ops makes of the two operators."""

    @staticmethod
    def forward(ctx: Any, feats: Tensor, cells: Tensor, kind: str) -> Tensor:
        voxels, _, voxel_of_point, counts = forward(feats, cells, kind)
        ctx.kind = kind
        ctx.save_for_backward(feats, voxels, voxel_of_point, counts)
        return voxels

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        feats, voxels, voxel_of_point, counts = ctx.saved_tensors
        grad_feats = torch.zeros_like(feats)
        backward(grad_feats, grad.contiguous(), feats, voxels, voxel_of_point, counts, ctx.kind)
        return grad_feats, None, None


def cloud(rng: np.random.Generator, num: int = 400, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Features (num, channels) float64 and cells (num, 3) int32, some of them negative."""
    cells = torch.from_numpy(rng.integers(-1, 4, (num, 3)).astype(np.int32))
    return torch.from_numpy(rng.normal(size=(num, channels))), cells


def slow_scatter(feats: Tensor, cells: Tensor, kind: str) -> dict[tuple[int, ...], list[float]]:
    """Features by cell."""
    lists: dict[tuple[int, ...], list[Tensor]] = {}
    for feature, cell in zip(feats, cells.tolist(), strict=True):
        if min(cell) >= 0:
            lists.setdefault(tuple(cell), []).append(feature)
    reduce = {"sum": Tensor.sum, "mean": Tensor.mean, "max": Tensor.amax}[kind]
    return {cell: reduce(torch.stack(rows), dim=0).tolist() for cell, rows in lists.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("path")
def test_features_equal_a_dictionary_of_lists(rng: np.random.Generator, kind: str) -> None:
    feats, cells = cloud(rng)
    voxels, voxel_cells, voxel_of_point, counts = forward(feats, cells, kind)
    expected = slow_scatter(feats, cells, kind)
    assert [tuple(cell) for cell in voxel_cells.tolist()] == sorted(expected)
    for row, cell in zip(voxels, voxel_cells.tolist(), strict=True):
        torch.testing.assert_close(
            row, torch.tensor(expected[tuple(cell)], dtype=row.dtype), rtol=0.0, atol=1e-12
        )
    assert voxel_of_point.dtype == counts.dtype == torch.int32
    assert voxel_cells.dtype == cells.dtype
    inside = (cells >= 0).all(dim=1)
    assert (voxel_of_point[~inside] == -1).all()
    assert torch.equal(voxel_cells[voxel_of_point[inside].long()], cells[inside])
    assert torch.equal(counts, voxel_of_point[inside].bincount().int())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("path")
def test_gradients_are_those_of_finite_differences(rng: np.random.Generator, kind: str) -> None:
    feats, cells = cloud(rng, num=40)
    cells = cells.clamp(max=0)  # two or three cells of many points, and points in none
    assert torch.autograd.gradcheck(
        lambda values: _Scatter.apply(values, cells, kind), feats.requires_grad_()
    )


@pytest.mark.usefixtures("path")
def test_gradient_of_a_maximum_goes_to_the_first_that_attains_it() -> None:
    feats = torch.tensor([[1.0], [3.0], [3.0], [2.0], [9.0]], requires_grad=True)
    cells = torch.tensor([[0, 0, 0]] * 4 + [[-1, 0, 0]])
    _Scatter.apply(feats, cells, "max").sum().backward()
    assert feats.grad.flatten().tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]


@pytest.mark.usefixtures("path")
def test_a_transposed_tensor_of_features_gets_its_gradient(rng: np.random.Generator) -> None:
    feats, cells = cloud(rng)
    plain = feats.clone().requires_grad_()
    turned = feats.t().contiguous().t().requires_grad_()
    for values in (plain, turned):
        _Scatter.apply(values, cells, "max").square().sum().backward()
    assert torch.equal(plain.grad, turned.grad)
    assert plain.grad.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("path")
def test_clouds_without_a_point_inside(kind: str) -> None:
    for num in (0, 5):
        feats = torch.ones(num, 2, requires_grad=True)
        voxels, cells, voxel_of_point, counts = forward(feats, torch.full((num, 3), -1), kind)
        assert (voxels.shape, cells.shape, counts.shape) == ((0, 2), (0, 3), (0,))
        assert (voxel_of_point == -1).all()
        _Scatter.apply(feats, torch.full((num, 3), -1), kind).sum().backward()
        assert not feats.grad.any()


def test_two_calls_give_the_same_bits(rng: np.random.Generator) -> None:
    feats, cells = cloud(rng, num=5000)
    feats = feats.float()
    first, second = (forward(feats, cells, "sum")[0] for _ in range(2))
    assert torch.equal(first, second)


def test_jitted_and_plain_python_agree(rng: np.random.Generator) -> None:
    feats, cells = cloud(rng, num=60)
    voxels, _, voxel_of_point, _ = forward(feats, cells, "max")
    for kernel, start in ((dynamic_scatter._sum, 0.0), (dynamic_scatter._maximum, -np.inf)):
        filled = [np.full(voxels.shape, start) for _ in range(2)]
        kernel(feats.numpy(), voxel_of_point.numpy(), filled[0])
        kernel.py_func(feats.numpy(), voxel_of_point.numpy(), filled[1])
        np.testing.assert_array_equal(*filled)
    gradients = [np.ones(feats.shape) for _ in range(2)]
    kernel = dynamic_scatter._maximum_gradient
    for function, gradient in zip((kernel, kernel.py_func), gradients, strict=True):
        rows = (voxels * 2, feats, voxels, voxel_of_point)
        function(gradient, *(t.numpy() for t in rows))
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_reads_nothing_on_the_host(kind: str) -> None:
    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    ints = empty(9, dtype=torch.int32), empty(4, dtype=torch.int32)
    grad = empty(9, 2)
    backward(grad, empty(4, 2), empty(9, 2), empty(4, 2), *ints, kind)
    assert grad.shape == (9, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_cuda_agrees_with_the_cpu(rng: np.random.Generator, cuda: torch.device, kind: str) -> None:
    feats, cells = cloud(rng, num=5000)
    results = []
    for device in ("cpu", cuda):
        values = feats.to(device, copy=True).requires_grad_()
        voxels = _Scatter.apply(values, cells.to(device), kind)
        voxels.square().sum().backward()
        results.append((voxels.detach().cpu(), values.grad.cpu()))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-12)


def test_wrong_reductions_and_shapes_raise() -> None:
    with pytest.raises(ValueError, match="reduce_type must be one of"):
        forward(torch.ones(2, 3), torch.zeros(2, 3), "median")
    with pytest.raises(ValueError, match=r"coors must have shape \(2, D\)"):
        forward(torch.ones(2, 3), torch.zeros(4, 3), "sum")
