from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm3d.boxes.kernel_choice import forced_torch
from ebm3d.pooling import PointBoxPool, Scenes

_RANGE = (-20.0, -20.0, -3.0, 20.0, 20.0, 3.0)


def _box(count: int = 4) -> Tensor:
    low = torch.tensor([-8.0, -8, -2, 2, 1.2, 1, -3], dtype=torch.float64)
    return low + torch.rand(count, 7, dtype=torch.float64) * torch.tensor([16.0, 16, 1, 3, 1, 1, 6])


def _cloud_around(boxes: Tensor, points: int = 60) -> Tensor:
    """Points in and around boxes, intensity in the last column."""
    spread = torch.randn(len(boxes), points, 3, dtype=torch.float64)
    place = boxes[:, None, :3] + spread * torch.tensor([1.5, 1.0, 0.6], dtype=torch.float64)
    cloud = torch.cat((place, torch.rand(len(boxes), points, 1, dtype=torch.float64)), dim=2)
    return cloud.reshape(-1, 4)


def _pool(**options: Any) -> PointBoxPool:
    return PointBoxPool(**{"channels": (8, 6), "max_points": 10_000, **options}).double()


def _pooled(
    pool: PointBoxPool,
    clouds: list[Tensor],
    boxes: Tensor,
    scene: Tensor | None = None,
    cropped_at: Tensor | None = None,
) -> Tensor:
    scene = torch.zeros(len(boxes), dtype=torch.int64) if scene is None else scene
    scenes = Scenes.from_range(torch.zeros(len(clouds), 1, 4, 4), _RANGE, clouds)
    context = pool.prepare(scenes, boxes if cropped_at is None else cropped_at, scene)
    return pool(context, boxes[:, None])[:, 0]


def test_features_do_not_depend_on_where_the_crop_was_made():
    boxes = _box()
    clouds = [_cloud_around(boxes, 400)]
    pool = _pool(max_box_shift=0.6)
    expected = _pooled(pool, clouds, boxes)
    for _ in range(5):
        crop = boxes.clone()
        crop[:, :3] += 0.7 * (torch.rand(4, 3, dtype=torch.float64) - 0.5)
        torch.testing.assert_close(_pooled(pool, clouds, boxes, cropped_at=crop), expected)


def test_features_change_when_the_box_leaves_its_crop():
    boxes = _box()
    clouds = [_cloud_around(boxes, 400)]
    crop = boxes.clone()
    crop[:, 0] += 4.0
    pool = _pool(max_box_shift=0.6)
    difference = _pooled(pool, clouds, boxes, cropped_at=crop) - _pooled(pool, clouds, boxes)
    assert float(difference.detach().abs().max()) > 0.01


def test_features_do_not_jump_while_points_enter_and_leave():
    boxes = _box(1)
    clouds = [_cloud_around(boxes, 30)]
    pool = _pool(max_box_shift=3.0)
    steps = 2000
    path = boxes.repeat(steps, 1)
    path[:, 0] += torch.linspace(-2, 2, steps, dtype=torch.float64)
    scenes = Scenes.from_range(torch.zeros(1, 1, 4, 4), _RANGE, clouds)
    features = pool(pool.prepare(scenes, boxes, torch.zeros(1, dtype=torch.int64)), path[None])[0]
    jumps = features.diff(dim=0).abs().amax(dim=1)
    # A step of 2 mm: a jump would not shrink with the step, a slope of 5 per meter does.
    assert float(jumps.detach().max()) < 0.01
    assert float((features[0] - features[-1]).detach().abs().max()) > 0.1


def test_height_and_elevation_are_observed():
    boxes = _box().requires_grad_()
    pooled = _pooled(_pool(), [_cloud_around(boxes.detach())], boxes)
    (gradient,) = torch.autograd.grad(pooled.square().sum(), boxes)
    assert bool((gradient.abs() > 1e-3).all())


def test_order_of_points_does_not_matter():
    boxes = _box()
    cloud = _cloud_around(boxes)
    pool = _pool()
    mixed = cloud[torch.randperm(len(cloud))]
    torch.testing.assert_close(_pooled(pool, [mixed], boxes), _pooled(pool, [cloud], boxes))


def test_features_do_not_change_when_box_and_cloud_move_together():
    boxes = _box()
    cloud = _cloud_around(boxes)
    cos, sin = math.cos(0.8), math.sin(0.8)
    turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    moved_boxes, moved = boxes.clone(), cloud.clone()
    for given, out in ((boxes, moved_boxes), (cloud, moved)):
        out[:, :2] = given[:, :2] @ turn + 3
        out[:, 2] += 0.5
    moved_boxes[:, 6] += 0.8
    pool = _pool()
    torch.testing.assert_close(_pooled(pool, [moved], moved_boxes), _pooled(pool, [cloud], boxes))


def test_each_box_sees_its_own_frame():
    boxes = _box(6)
    clouds = [_cloud_around(boxes) for _ in range(3)]
    scene = torch.tensor([2, 0, 1, 1, 0, 2])
    pool = _pool()
    together = _pooled(pool, clouds, boxes, scene)
    for index in range(3):
        alone = _pooled(pool, [clouds[index]], boxes[scene == index])
        torch.testing.assert_close(together[scene == index], alone)


def test_variants_are_pooled_as_boxes_of_their_own():
    boxes = _box()
    clouds = [_cloud_around(boxes)]
    variants = boxes[:, None] + 0.05 * torch.randn(4, 5, 7, dtype=torch.float64)
    pool = _pool()
    scenes = Scenes.from_range(torch.zeros(1, 1, 4, 4), _RANGE, clouds)
    context = pool.prepare(scenes, boxes, torch.zeros(4, dtype=torch.int64))
    together = pool(context, variants)
    assert together.shape == (4, 5, pool.out_channels)
    for s in range(5):
        torch.testing.assert_close(together[:, s], pool(context, variants[:, s : s + 1])[:, 0])


def test_thinned_crop_still_counts_the_points_of_the_cloud():
    boxes = _box(1)
    clouds = [_cloud_around(boxes, 4000)]
    whole = torch.expm1(_pooled(_pool(), clouds, boxes)[0, -2:])
    thinned = torch.expm1(_pooled(_pool(max_points=500), clouds, boxes)[0, -2:])
    # A count of n points from a share of 500 / N has a relative error below 1 / sqrt(n).
    torch.testing.assert_close(thinned, whole, rtol=5 / math.sqrt(100), atol=0)


@pytest.mark.parametrize("points", [0, 1])
def test_empty_and_nearly_empty_clouds_give_finite_features_and_gradients(points: int):
    boxes = _box().requires_grad_()
    cloud = _cloud_around(boxes.detach(), 1)[:points]
    pooled = _pooled(_pool(), [cloud], boxes)
    (gradient,) = torch.autograd.grad(pooled.sum(), boxes)
    assert bool(torch.isfinite(pooled).all())
    assert bool(torch.isfinite(gradient).all())
    if not points:
        assert torch.equal(pooled, torch.zeros_like(pooled))


def test_cloud_far_from_all_boxes_is_an_empty_cloud():
    boxes = _box()
    pooled = _pooled(_pool(), [_cloud_around(boxes) + 100], boxes)
    assert torch.equal(pooled, torch.zeros_like(pooled))


def test_no_boxes_pool_to_no_features():
    boxes = _box(2)
    pool = _pool()
    assert _pooled(pool, [_cloud_around(boxes)], boxes[:0]).shape == (0, pool.out_channels)


def test_pool_is_differentiable_in_boxes_and_reaches_its_parameters():
    boxes = _box(2).requires_grad_()
    clouds = [_cloud_around(boxes.detach(), 10)]
    pool = _pool(channels=(4, 3))
    assert torch.autograd.gradcheck(
        lambda b: _pooled(pool, clouds, b, cropped_at=boxes.detach()), boxes
    )
    _pooled(pool, clouds, boxes).sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in pool.parameters())


def test_pool_is_differentiable_twice_in_boxes():
    boxes = _box(1)
    clouds = [_cloud_around(boxes, 10)]
    pool = _pool(channels=(3, 2))
    assert torch.autograd.gradgradcheck(
        lambda b: _pooled(pool, clouds, b, cropped_at=boxes), boxes.clone().requires_grad_()
    )


def test_more_columns_enter_when_asked_for():
    boxes = _box()
    cloud = torch.cat((_cloud_around(boxes), torch.rand(240, 1, dtype=torch.float64)), dim=1)
    pool = _pool(num_features=5)
    changed = cloud.clone()
    changed[:, 4] += 1
    difference = _pooled(pool, [cloud], boxes) - _pooled(pool, [changed], boxes)
    assert float(difference.detach().abs().max()) > 1e-3


def test_scenes_without_points_are_refused_with_the_remedy():
    boxes = _box()
    with pytest.raises(ValueError, match=r"got 0 clouds; set .*RefinedVoxelNet"):
        _pool().prepare(
            Scenes.from_range(torch.zeros(1, 1, 4, 4), _RANGE), boxes, torch.zeros(4).long()
        )


def test_clouds_of_too_few_columns_are_refused_with_the_remedy():
    boxes = _box()
    with pytest.raises(ValueError, match=r"of 4 columns.*set num_features"):
        _pooled(_pool(), [_cloud_around(boxes)[:, :3]], boxes)


@pytest.mark.parametrize(
    "options",
    [
        {"margin": (0.5, 0.5)},
        {"margin": (0.5, 0.5, 0.0)},
        {"max_box_shift": -0.1},
        {"max_points": 0},
    ],
)
def test_constants_out_of_range_are_refused(options: dict[str, Any]):
    with pytest.raises(ValueError, match="must be"):
        PointBoxPool(**options)


def test_pooled_features_of_one_point_by_hand():
    box = torch.tensor([[1.0, 2.0, -1.0, 4.0, 2.0, 1.5, 0.0]], dtype=torch.float64)
    # 0.2 m beyond the left face, 0.5 m above the bottom, intensity 0.3.
    cloud = torch.tensor([[2.0, 3.2, -0.5, 0.3]], dtype=torch.float64)
    pool = _pool(margin=(0.6, 0.5, 0.4))
    torch.nn.init.constant_(pool.second.bias, 3.0)  # so that channels are alive
    features = [0.5, 1.2, -1 / 3, -2.0, 0.4, -1.0, -2.0, 2.0, 2.4, -0.5, 0.3]
    hidden = torch.relu(pool.first(torch.tensor(features, dtype=torch.float64)))
    hidden = torch.relu(pool.second(hidden))
    ramp = 1 - 0.2 / 0.5
    window = ramp**2 * (3 - 2 * ramp)
    inside = window * math.prod(1 / (1 + math.exp(10 * beyond)) for beyond in (-1.0, 0.2, -0.5))
    counts = torch.tensor([math.log1p(window), math.log1p(inside)], dtype=torch.float64)
    expected = torch.cat((window * hidden / (1 + window), window * hidden, counts))
    assert float(expected[: len(hidden)].detach().sum()) > 0.01
    torch.testing.assert_close(_pooled(pool, [cloud], box)[0], expected)


@pytest.mark.parametrize("context", [nullcontext, forced_torch])
def test_points_take_no_part_in_gradients(context: Callable[[], AbstractContextManager[None]]):
    boxes = _box()
    cloud = _cloud_around(boxes)
    pool = _pool()
    with context():
        expected = _pooled(pool, [cloud], boxes)
        wanted = cloud.clone().requires_grad_()
        found = _pooled(pool, [wanted], boxes.requires_grad_())
        found.sum().backward()
    torch.testing.assert_close(found, expected)
    assert wanted.grad is None
    assert bool((boxes.grad != 0).any())


@pytest.mark.parametrize("context", [nullcontext, forced_torch])
def test_a_box_without_width_is_computed_and_leaves_others_alone(
    context: Callable[[], AbstractContextManager[None]],
):
    """Such a box has no meaningful features: kernels do not divide by its width in Python's way."""
    boxes = _box()
    cloud = _cloud_around(boxes)
    pool = _pool()
    flat = boxes.clone()
    flat[1, 4] = 0.0
    flat.requires_grad_()
    with context():
        expected = _pooled(pool, [cloud], boxes)
        found = _pooled(pool, [cloud], flat)
        others = [0, 2, 3]
        found[others].sum().backward()
    torch.testing.assert_close(found[others], expected[others])
    assert bool(flat.grad[others].isfinite().all())
