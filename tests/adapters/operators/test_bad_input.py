"""What the operators say of input that they cannot serve: the same on both paths."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ebm3d.adapters.operators import OPERATORS
from tests.adapters.operators.calls import (
    choose,
    points_in_boxes,
    rotated_iou,
    rotated_nms,
    voxelize,
    voxelize_dynamically,
)

SIZE, RANGE = [0.5, 0.5, 1.0], [0.0, 0.0, 0.0, 10.0, 10.0, 4.0]
scatter = OPERATORS["dynamic_point_to_voxel_forward"]


@pytest.fixture(params=["numba", "torch"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both implementations."""
    choose(monkeypatch, request.param)
    return request.param


@pytest.mark.parametrize(
    ("size", "bounds", "told"),
    [
        ([-0.5, 0.5, 1.0], RANGE, "voxel_size must be positive"),
        ([0.0, 0.5, 1.0], RANGE, "voxel_size must be positive"),
        ([0.5, 0.5], RANGE, r"voxel_size must have shape \(3,\)"),
        (SIZE, RANGE[:3], r"coors_range must have shape \(6,\)"),
        (SIZE, [10.0, 0.0, 0.0, 0.0, 10.0, 4.0], "coors_range must be increasing"),
        (SIZE, [float("nan"), *RANGE[1:]], "coors_range must be increasing"),
        ([1e-12, 0.5, 1.0], RANGE, r"2\^31 cells"),
        ([1e-7, 1e-7, 1e-7], RANGE, r"2\^63"),
    ],
)
def test_what_is_no_grid_is_named(size: list[float], bounds: list[float], told: str):
    points = torch.rand(5, 4)
    with pytest.raises(ValueError, match=told):
        voxelize(points, size, bounds, 3, 10)
    with pytest.raises(ValueError, match=told):
        voxelize_dynamically(points, size, bounds)


def test_voxels_that_hold_no_points_have_their_cells():
    voxels, cells, counts = voxelize(torch.tensor([[1.1, 0.1, 0.1, 1.0]]), SIZE, RANGE, 0, 10)
    assert voxels.shape == (1, 0, 4)
    assert (cells.tolist(), counts.tolist()) == ([[0, 0, 2]], [0])


@pytest.mark.parametrize("boxes", [torch.rand(3, 4), torch.rand(3, 7), torch.rand(5)])
def test_boxes_of_another_shape_are_named(boxes: Tensor):
    for call in (
        lambda: rotated_iou(boxes, torch.rand(3, 5), "iou", aligned=False),
        lambda: rotated_iou(torch.rand(3, 5), boxes, "iou", aligned=False),
        lambda: rotated_nms(boxes, torch.rand(len(boxes)), 0.1),
    ):
        with pytest.raises(ValueError, match=r"must have shape \(N, 5\).*got \("):
            call()


def test_whole_numbers_are_no_boxes():
    """An IoU in their type would be cut to 0."""
    boxes = torch.ones(3, 5, dtype=torch.int)
    with pytest.raises(ValueError, match=r"boxes1 must be of a floating-point type.*float\(\)"):
        rotated_iou(boxes, boxes, "iou", aligned=False)
    with pytest.raises(ValueError, match="dets must be of a floating-point type"):
        rotated_nms(boxes, torch.rand(3), 0.1)


def test_rows_without_a_partner_are_no_pairs():
    """A kernel would read beyond the end."""
    with pytest.raises(ValueError, match="as many as boxes1 where aligned=True"):
        rotated_iou(torch.rand(40, 5), torch.rand(3, 5), "iou", aligned=True)


def test_scores_are_as_many_as_boxes():
    with pytest.raises(ValueError, match=r"scores must have shape \(9,\).*got \(4,\)"):
        rotated_nms(torch.rand(9, 5), torch.rand(4), 0.1)


@pytest.mark.parametrize(
    ("feats", "cells", "told"),
    [
        (torch.rand(5), torch.ones(5, 3), r"feats must have shape \(P, C\)"),
        (torch.ones(5, 2, dtype=torch.int), torch.ones(5, 3), "feats must be of a floating-point"),
        (torch.rand(5, 2), torch.ones(4, 3), r"coors must have shape \(5, D\)"),
        (torch.rand(5, 2), torch.full((5, 3), 2**21), r"coors must be cells of a grid of less"),
    ],
)
def test_what_cannot_be_scattered_is_named(feats: Tensor, cells: Tensor, told: str):
    with pytest.raises(ValueError, match=told):
        scatter(feats, cells.long(), "sum")


def test_a_large_grid_keeps_its_cells_apart():
    cells = torch.tensor([[2**20, 2**20, 2**20], [0, 0, 0], [2**20, 2**20, 0]])
    voxels, found, voxel_of_point, _ = scatter(torch.eye(3), cells, "sum")
    assert found.tolist() == cells[[1, 2, 0]].tolist()
    assert voxel_of_point.tolist() == [2, 0, 1]
    assert torch.equal(voxels, torch.eye(3)[[1, 2, 0]])


@pytest.mark.parametrize("kind", ["sum", "mean", "max"])
def test_a_feature_that_is_no_number_makes_its_voxel_none(kind: str):
    """Wherever in the voxel it stands; others are not touched."""
    feats = torch.tensor([[1.0], [float("nan")], [2.0], [5.0]])
    voxels = scatter(feats, torch.tensor([[0, 0, 0]] * 3 + [[0, 0, 1]]), kind)[0]
    assert voxels.isnan().flatten().tolist() == [True, False]
    assert voxels[1] == 5.0


@pytest.mark.parametrize(
    "call",
    [
        lambda a: voxelize(a.repeat(5, 1), SIZE, RANGE, 3, 10),
        lambda a: voxelize_dynamically(a, SIZE, RANGE),
        lambda a: rotated_iou(a[:, :5], a[:, :5], "iou", aligned=False),
        lambda a: rotated_nms(a[:, :5], a[:, 0], 0.1),
        lambda a: points_in_boxes(a[:, :3], a, "numba"),
        lambda a: points_in_boxes(a[:, :3], a, "torch"),
        lambda a: scatter(a, torch.zeros(len(a), 3, dtype=torch.long), "max"),
    ],
)
def test_tensors_that_require_gradients_are_those_that_do_not(call: Callable[[Tensor], object]):
    numbers = torch.rand(6, 7)
    expected, found = call(numbers), call(numbers.clone().requires_grad_())
    parts = zip(*(t if isinstance(t, tuple) else (t,) for t in (expected, found)), strict=True)
    assert all(torch.equal(one, other) for one, other in parts)
