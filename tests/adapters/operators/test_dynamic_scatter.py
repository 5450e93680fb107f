"""Features of voxels against a dictionary of lists, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.adapters.operators import OPERATORS
from tests.adapters.operators.calls import ops

forward = OPERATORS["dynamic_point_to_voxel_forward"]

pytestmark = pytest.mark.usefixtures("path")
kinds = pytest.mark.parametrize("kind", ["sum", "mean", "max"])


def cloud(rng: np.random.Generator, num: int = 400) -> tuple[Tensor, Tensor]:
    """Features (num, 3) float64 and cells (num, 3) int32, some of them negative."""
    cells = torch.from_numpy(rng.integers(-1, 4, (num, 3)).astype(np.int32))
    return torch.from_numpy(rng.normal(size=(num, 3))), cells


def slow_scatter(feats: Tensor, cells: Tensor, kind: str) -> dict[tuple[int, ...], Tensor]:
    """Features by cell."""
    lists: dict[tuple[int, ...], list[Tensor]] = {}
    for feature, cell in zip(feats, cells.tolist(), strict=True):
        if min(cell) >= 0:
            lists.setdefault(tuple(cell), []).append(feature)
    reduce = {"sum": Tensor.sum, "mean": Tensor.mean, "max": Tensor.amax}[kind]
    return {cell: reduce(torch.stack(rows), dim=0) for cell, rows in sorted(lists.items())}


@kinds
def test_features_equal_a_dictionary_of_lists(rng, kind):
    feats, cells = cloud(rng)
    voxels, voxel_cells, voxel_of_point, counts = forward(feats, cells, kind)
    expected = slow_scatter(feats, cells, kind)
    assert [tuple(cell) for cell in voxel_cells.tolist()] == list(expected)
    torch.testing.assert_close(voxels, torch.stack(list(expected.values())), rtol=0, atol=1e-12)
    assert voxel_of_point.dtype == counts.dtype == torch.int32
    assert voxel_cells.dtype == cells.dtype
    inside = (cells >= 0).all(dim=1)
    assert (voxel_of_point[~inside] == -1).all()
    assert torch.equal(voxel_cells[voxel_of_point[inside].long()], cells[inside])
    assert torch.equal(counts, voxel_of_point[inside].bincount().int())


def test_a_large_grid_keeps_its_cells_apart():
    cells = torch.tensor([[2**20, 2**20, 2**20], [0, 0, 0], [2**20, 2**20, 0]])
    voxels, voxel_cells, voxel_of_point, _ = forward(torch.eye(3), cells, "sum")
    assert voxel_cells.tolist() == cells[[1, 2, 0]].tolist()
    assert voxel_of_point.tolist() == [2, 0, 1]
    assert torch.equal(voxels, torch.eye(3)[[1, 2, 0]])


@kinds
def test_a_nan_makes_its_voxel_nan_and_no_other(kind):
    feats = torch.tensor([[1.0], [float("nan")], [2.0], [5.0]])
    voxels = forward(feats, torch.tensor([[0, 0, 0]] * 3 + [[0, 0, 1]]), kind)[0]
    assert voxels.isnan().flatten().tolist() == [True, False]
    assert voxels[1] == 5.0


@kinds
def test_gradients_are_those_of_finite_differences(rng, kind):
    feats, cells = cloud(rng, num=40)
    cells = cells.clamp(max=0)  # two or three cells of many points, and points in none
    assert torch.autograd.gradcheck(
        lambda x: ops.dynamic_scatter(x, cells, kind)[0], feats.requires_grad_()
    )


def test_the_gradient_of_a_maximum_goes_to_the_first_that_attains_it():
    feats = torch.tensor([[1.0], [3.0], [3.0], [2.0], [9.0]], requires_grad=True)
    cells = torch.tensor([[0, 0, 0]] * 4 + [[-1, 0, 0]])
    ops.dynamic_scatter(feats, cells, "max")[0].sum().backward()
    assert feats.grad.flatten().tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]


def test_transposed_features_get_their_gradient(rng):
    feats, cells = cloud(rng)
    plain, transposed = feats.clone(), feats.t().contiguous().t()
    for values in (plain, transposed):
        ops.dynamic_scatter(values.requires_grad_(), cells, "max")[0].square().sum().backward()
    assert torch.equal(plain.grad, transposed.grad)
    assert plain.grad.any()


@kinds
@pytest.mark.parametrize("num", [0, 5])
def test_clouds_without_a_point_inside(kind, num):
    feats, cells = torch.ones(num, 2, requires_grad=True), torch.full((num, 3), -1)
    voxels, voxel_cells, voxel_of_point, counts = forward(feats, cells, kind)
    assert (voxels.shape, voxel_cells.shape, counts.shape) == ((0, 2), (0, 3), (0,))
    assert (voxel_of_point == -1).all()
    ops.dynamic_scatter(feats, cells, kind)[0].sum().backward()
    assert not feats.grad.any()


@pytest.mark.parametrize(
    ("feats", "cells", "kind", "name"),
    [
        (torch.rand(5), torch.ones(5, 3), "sum", "feats"),
        (torch.ones(5, 2).int(), torch.ones(5, 3), "sum", "feats"),
        (torch.rand(5, 2), torch.ones(4, 3), "sum", "coors"),
        (torch.rand(5, 2), torch.full((5, 3), 2**21), "sum", "coors"),
        (torch.rand(5, 2), torch.ones(5, 3), "median", "reduce_type"),
    ],
)
def test_bad_input_is_refused(feats, cells, kind, name):
    with pytest.raises(ValueError, match=name):
        forward(feats, cells.long(), kind)
