from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.boxes.kernels import forced_torch
from ebm3d.pooling import PointCrops, crop_points, point_crops
from ebm3d.pooling.point_crops import PaddedCrops, is_near, near_kernel

_MARGIN = (0.5, 0.4, 0.3)


def _scene() -> tuple[list[Tensor], Tensor, Tensor]:
    """Two clouds, six boxes in each."""
    clouds = [torch.rand(3000, 4).double() * torch.tensor([20.0, 20, 4, 1]) for _ in range(2)]
    low, width = torch.tensor([2.0, 2, 0, 1, 1, 1, -3]), torch.tensor([16.0, 16, 1, 3, 1, 1, 6])
    return clouds, (low + torch.rand(12, 7) * width).double(), torch.arange(12) % 2


def _points_of(crops: PointCrops | PaddedCrops, box: int) -> list[tuple[float, ...]]:
    """The points of a crop, in their order."""
    if isinstance(crops, PaddedCrops):
        padding = (crops.points[box, :, :3] == 1e6).all(dim=1)
        return [tuple(point) for point in crops.points[box, ~padding].tolist()]
    return [tuple(point) for point in crops.points[crops.owner == box].tolist()]


def _near_by_hand(cloud: Tensor, box: Tensor) -> set[tuple[float, ...]]:
    x, y, z, dx, dy, dz, yaw = box.tolist()
    near = set()
    for row in cloud.tolist():
        ahead = np.cos(yaw) * (row[0] - x) + np.sin(yaw) * (row[1] - y)
        left = np.cos(yaw) * (row[1] - y) - np.sin(yaw) * (row[0] - x)
        if (
            abs(ahead) <= dx / 2 + _MARGIN[0]
            and abs(left) <= dy / 2 + _MARGIN[1]
            and z - _MARGIN[2] <= row[2] <= z + dz + _MARGIN[2]
        ):
            near.add(tuple(row))
    return near


def test_crop_holds_the_points_of_the_enlarged_box_of_its_frame():
    clouds, boxes, scene = _scene()
    crops = crop_points(clouds, boxes, scene, _MARGIN, 10_000)
    for n in range(12):
        assert set(_points_of(crops, n)) == _near_by_hand(clouds[int(scene[n])], boxes[n])
    assert torch.equal(crops.weight, torch.ones(12).double())
    assert torch.equal(crops.owner, crops.owner.sort().values)


def test_thinned_crop_is_the_first_points_of_the_whole_one_and_says_what_they_stand_for():
    clouds, boxes, scene = _scene()
    whole = crop_points(clouds, boxes, scene, _MARGIN, 10_000)
    thinned = crop_points(clouds, boxes, scene, _MARGIN, 10)
    for n in range(12):
        points, kept = _points_of(whole, n), _points_of(thinned, n)
        assert kept == points[:10]
        assert float(thinned.weight[n]) == max(len(points), 1) / max(len(kept), 1)


def test_thinning_prefers_no_part_of_the_crop():
    """Each half of a cube of points keeps half of the places, within five standard errors."""
    cube = torch.rand(4000, 4, dtype=torch.float64)
    box = torch.tensor([[0.5, 0.5, 0.0, 1.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    kept = crop_points([cube], box, torch.zeros(1, dtype=torch.int64), _MARGIN, 1000).points
    shares = (kept[:, :3] > 0.5).double().mean(dim=0)
    assert (shares - 0.5).abs().max() < 5 * (0.25 / 1000) ** 0.5


def test_the_crop_does_not_depend_on_the_order_of_the_cloud():
    clouds, boxes, scene = _scene()
    shuffled = [cloud[torch.randperm(len(cloud))] for cloud in clouds]
    one, other = (crop_points(c, boxes, scene, _MARGIN, 7) for c in (clouds, shuffled))
    assert torch.equal(one.points, other.points)
    assert torch.equal(one.owner, other.owner)


@pytest.mark.parametrize("max_points", [10_000, 20, 1])
@pytest.mark.parametrize("chunk", [2**24, 1])
def test_padded_crops_hold_the_same_points_in_the_same_order(
    max_points: int, chunk: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(point_crops, "_MAX_COORDINATES", chunk)
    clouds, boxes, scene = _scene()
    clouds[1] = clouds[1][:700]  # the shorter cloud of the batch is filled up
    expected = crop_points(clouds, boxes, scene, _MARGIN, max_points)
    with forced_torch():
        padded = crop_points(clouds, boxes, scene, _MARGIN, max_points)
    assert padded.points.shape == (12, min(max_points, 3000), 4)
    for crops in (padded, expected.padded()):
        assert torch.equal(crops.weight, expected.weight)
        for n in range(12):
            assert _points_of(crops, n) == _points_of(expected, n)


def test_no_points_and_no_boxes_give_empty_crops():
    clouds, boxes, scene = _scene()
    nothing = [cloud[:0] for cloud in clouds]
    for crops in (
        crop_points(nothing, boxes, scene, _MARGIN, 20),
        crop_points(clouds, boxes + 1000, scene, _MARGIN, 20),
        crop_points(clouds, boxes * torch.nan, scene, _MARGIN, 20),
    ):
        assert crops.points.shape == (0, 4)
        assert torch.equal(crops.weight, torch.ones(12).double())
    assert crop_points(clouds, boxes[:0], scene[:0], _MARGIN, 20).weight.shape == (0,)
    with forced_torch():
        empty = crop_points(nothing, boxes, scene, _MARGIN, 20)
        none = crop_points(clouds, boxes[:0], scene[:0], _MARGIN, 20)
    assert bool((empty.points[..., :3] == 1e6).all())
    assert empty.points.shape == (12, 1, 4)
    assert none.points.shape == (0, 20, 4)


@pytest.mark.parametrize(("columns", "time", "shift"), [(7, -1, 0.0), (9, 3, 0.5), (9, -1, 0.0)])
def test_search_by_kernel_equals_its_twin_and_its_source(columns: int, time: int, shift: float):
    clouds, boxes, _ = _scene()
    boxes = torch.cat((boxes, 4 * torch.randn(12, columns - 7).double()), dim=1)
    clouds[0][:3, :3] = torch.eye(3).double() * torch.nan  # near no box
    options = np.array(_MARGIN), time, shift
    compiled = near_kernel(clouds[0].numpy(), boxes.numpy(), *options)
    interpreted = near_kernel.py_func(clouds[0][:300].numpy(), boxes.numpy(), *options)
    twin = is_near(clouds[0][None], boxes, _MARGIN, time, shift).nonzero(as_tuple=True)
    among_first = compiled[1] < 300
    for kernel, in_torch, source in zip(compiled, twin, interpreted, strict=True):
        np.testing.assert_array_equal(kernel, in_torch.numpy())
        np.testing.assert_array_equal(kernel[among_first], source)
    assert len(compiled[0]) > 256  # the first size of the kernel's lists


@pytest.mark.parametrize("path", [nullcontext, forced_torch])
def test_crop_of_a_moving_box_is_that_of_the_points_its_velocity_has_moved(
    path: Callable[[], AbstractContextManager[None]],
):
    """The fourth column is the lag, in [0, 1] s."""
    clouds, boxes, scene = _scene()
    for n in range(12):
        velocity = 5 * torch.randn(2).double()
        moved = clouds[int(scene[n])].clone()
        moved[:, :2] += moved[:, 3:] * velocity
        near = {point[2:] for point in _near_by_hand(moved, boxes[n])}
        box = torch.cat((boxes[n], velocity))[None]
        with path():
            crops = crop_points(clouds, box, scene[n : n + 1], _MARGIN, 5000, time_feature=3)
        points = _points_of(crops, 0)
        assert {point[2:] for point in points} == near
        assert sum(crops.lag.flatten().tolist()) == pytest.approx(sum(p[3] for p in points))


def test_crop_holds_every_point_that_a_velocity_within_the_shift_brings_near():
    clouds, boxes, _ = _scene()
    cloud, zero = clouds[0], torch.zeros(1, dtype=torch.int64)
    box = torch.cat((boxes[0], torch.tensor([3.0, -2.0])))[None]
    wide = crop_points([cloud], box, zero, _MARGIN, 5000, 3, 2.0)
    kept = set(_points_of(wide, 0))
    for angle in np.linspace(0, 2 * np.pi, 8):
        other = box + 2.0 * torch.tensor([[*[0.0] * 7, np.cos(angle), np.sin(angle)]])
        assert kept >= set(_points_of(crop_points([cloud], other, zero, _MARGIN, 5000, 3), 0))
