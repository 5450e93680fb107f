from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.boxes.kernels import forced_torch
from ebm3d.pooling import PointCrops, crop_points, point_crops
from ebm3d.pooling.point_crops import is_near, near_kernel

_MARGIN = (0.5, 0.4, 0.3)


def _scene(boxes_per_frame: int = 6, frames: int = 2) -> tuple[list[Tensor], Tensor, Tensor]:
    clouds = [torch.rand(3000, 4, dtype=torch.float64) * 20 - 10 for _ in range(frames)]
    for cloud in clouds:
        cloud[:, 2] *= 0.2
    count = boxes_per_frame * frames
    low = torch.tensor([-8.0, -8, -2, 1, 1, 1, -3])
    boxes = low + torch.rand(count, 7) * torch.tensor([16.0, 16, 1, 3, 1, 1, 6])
    return clouds, boxes.double(), torch.arange(count) % frames


def _crop_by_hand(cloud: Tensor, box: Tensor) -> Tensor:
    """One point at a time, in the order of the cloud."""
    x, y, z, dx, dy, dz, yaw = box.tolist()
    kept = []
    for row in cloud.tolist():
        ahead = np.cos(yaw) * (row[0] - x) + np.sin(yaw) * (row[1] - y)
        left = np.cos(yaw) * (row[1] - y) - np.sin(yaw) * (row[0] - x)
        if (
            abs(ahead) <= dx / 2 + _MARGIN[0]
            and abs(left) <= dy / 2 + _MARGIN[1]
            and z - _MARGIN[2] <= row[2] <= z + dz + _MARGIN[2]
        ):
            kept.append(row)
    return torch.tensor(kept, dtype=torch.float64).reshape(-1, 4)


def _of(crops: PointCrops, box: int) -> Tensor:
    return crops.points[crops.owner == box]


def test_crop_holds_the_points_of_the_enlarged_box_in_the_order_of_the_cloud():
    clouds, boxes, scene = _scene()
    crops = crop_points(clouds, boxes, scene, _MARGIN, 10_000)
    for n in range(len(boxes)):
        assert torch.equal(_of(crops, n), _crop_by_hand(clouds[int(scene[n])], boxes[n]))
    assert torch.equal(crops.weight, torch.ones(len(boxes), dtype=torch.float64))
    assert torch.equal(crops.owner, crops.owner.sort().values)


def test_thinned_crop_says_what_a_point_stands_for():
    clouds, boxes, scene = _scene()
    whole = crop_points(clouds, boxes, scene, _MARGIN, 10_000)
    thinned = crop_points(clouds, boxes, scene, _MARGIN, 10)
    for n in range(len(boxes)):
        all_points, kept = _of(whole, n), _of(thinned, n)
        assert len(kept) == min(len(all_points), 10)
        assert float(thinned.weight[n]) == max(len(all_points), 1) / max(len(kept), 1)
        index = [(all_points == point).all(dim=1).nonzero()[0, 0].item() for point in kept]
        assert index == sorted(index)


def test_thinning_prefers_no_part_of_the_crop():
    """Each half of a cube of points keeps half of the places, within five standard errors."""
    cube = torch.rand(4000, 4, dtype=torch.float64)
    box = torch.tensor([[0.5, 0.5, 0.0, 1.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    kept = crop_points([cube], box, torch.zeros(1, dtype=torch.int64), _MARGIN, 1000).points
    assert len(kept) == 1000
    shares = (kept[:, :3] > 0.5).double().mean(dim=0)
    assert (shares - 0.5).abs().max() < 5 * (0.25 / 1000) ** 0.5


def test_the_same_points_are_kept_whatever_the_order_of_the_cloud():
    clouds, boxes, scene = _scene()
    shuffled = [cloud[torch.randperm(len(cloud))] for cloud in clouds]
    one, other = (crop_points(c, boxes, scene, _MARGIN, 7) for c in (clouds, shuffled))
    for n in range(len(boxes)):
        assert {tuple(p.tolist()) for p in _of(one, n)} == {
            tuple(p.tolist()) for p in _of(other, n)
        }


def test_same_cloud_is_thinned_the_same_way_each_time():
    clouds, boxes, scene = _scene()
    first, second = (crop_points(clouds, boxes, scene, _MARGIN, 7) for _ in range(2))
    assert torch.equal(first.points, second.points)


def test_frames_together_are_frames_one_by_one():
    clouds, boxes, scene = _scene()
    together = crop_points(clouds, boxes, scene, _MARGIN, 20)
    for index in range(2):
        rows = (scene == index).nonzero()[:, 0]
        alone = crop_points([clouds[index]], boxes[rows], torch.zeros_like(rows), _MARGIN, 20)
        for position, row in enumerate(rows.tolist()):
            assert torch.equal(_of(together, row), _of(alone, position))


def test_empty_clouds_and_boxes_far_away_give_empty_crops():
    clouds, boxes, scene = _scene()
    empty = crop_points([torch.zeros(0, 4).double()] * 2, boxes, scene, _MARGIN, 20)
    far = crop_points(clouds, boxes + 1000, scene, _MARGIN, 20)
    for crops in (empty, far):
        assert crops.points.shape == (0, 4)
        assert torch.equal(crops.weight, torch.ones(12, dtype=torch.float64))


def test_no_boxes_have_no_crops():
    clouds, boxes, scene = _scene()
    crops = crop_points(clouds, boxes[:0], scene[:0], _MARGIN, 20)
    assert crops.points.shape == (0, 4)
    assert crops.weight.shape == (0,)


def test_search_by_kernel_equals_its_twin_and_its_source():
    clouds, boxes, _ = _scene()
    compiled = near_kernel(clouds[0].numpy(), boxes.numpy(), np.array(_MARGIN))
    interpreted = near_kernel.py_func(clouds[0][:300].numpy(), boxes.numpy(), np.array(_MARGIN))
    twin = is_near(clouds[0][None], boxes, _MARGIN).nonzero(as_tuple=True)
    for kernel, torch_twin in zip(compiled, twin, strict=True):
        np.testing.assert_array_equal(kernel, torch_twin.numpy())
    among_first = compiled[1] < 300
    for kernel, source in zip(compiled, interpreted, strict=True):
        np.testing.assert_array_equal(kernel[among_first], source)
    assert len(compiled[0]) > 256  # the first size of the kernel's lists


@pytest.mark.parametrize("max_points", [10_000, 20, 1])
@pytest.mark.parametrize("chunk", [2**24, 1])
def test_padded_crops_hold_the_same_points_and_padding_far_away(
    max_points: int, chunk: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(point_crops, "_MAX_COORDINATES", chunk)
    clouds, boxes, scene = _scene()
    clouds[1] = clouds[1][:700]  # the shorter cloud of the batch is filled up
    expected = crop_points(clouds, boxes, scene, _MARGIN, max_points)
    with forced_torch():
        padded = crop_points(clouds, boxes, scene, _MARGIN, max_points)
    assert padded.points.shape == (12, min(max_points, 3000), 4)
    assert torch.equal(padded.weight, expected.weight)
    for n in range(len(boxes)):
        near = padded.points[n, :, 0].abs() < 1e5
        kept = {tuple(p) for p in padded.points[n, near].tolist()}
        assert kept == {tuple(p) for p in _of(expected, n).tolist()}
        assert int(near.sum()) == len(kept)
        assert bool((padded.points[n, ~near][:, :3] == 1e6).all())


def test_padded_crops_of_nothing_are_padding():
    clouds, boxes, scene = _scene()
    with forced_torch():
        empty = crop_points([torch.zeros(0, 4).double()] * 2, boxes, scene, _MARGIN, 20)
        none = crop_points(clouds, boxes[:0], scene[:0], _MARGIN, 20)
    assert empty.points.shape == (12, 1, 4)
    assert bool((empty.points[..., :3] == 1e6).all())
    assert torch.equal(empty.weight, torch.ones(12, dtype=torch.float64))
    assert none.points.shape == (0, 20, 4)


@pytest.mark.parametrize("column", [0, 1, 2])
def test_point_that_is_not_a_number_is_near_no_box(column: int):
    cloud, box = torch.zeros(2, 4), torch.tensor([[0.0, 0, -0.5, 1, 1, 1, 0.3]])
    cloud[0, column] = torch.nan
    scene = torch.zeros(1, dtype=torch.int64)
    assert len(crop_points([cloud], box, scene, _MARGIN, 9).points) == 1
    assert is_near(cloud[None], box, _MARGIN).tolist() == [[False, True]]
