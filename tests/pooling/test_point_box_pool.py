from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm3d.boxes.kernels import forced_torch
from ebm3d.pooling import PointBoxPool, Scenes

pytestmark = pytest.mark.usefixtures("float64")

on_both_paths = pytest.mark.parametrize("path", [nullcontext, forced_torch])
Context = Callable[[], AbstractContextManager[None]]


def _boxes(count: int = 4) -> Tensor:
    low = torch.tensor([-8.0, -8, -2, 2, 1.2, 1, -3])
    return low + torch.rand(count, 7) * torch.tensor([16.0, 16, 1, 3, 1, 1, 6])


def _cloud_around(boxes: Tensor, points: int = 60) -> Tensor:
    """Points in and around boxes, intensity in the last column."""
    spread = torch.randn(len(boxes), points, 3) * torch.tensor([1.5, 1.0, 0.6])
    place = boxes.detach()[:, None, :3] + spread
    return torch.cat((place, torch.rand(len(boxes), points, 1)), dim=2).reshape(-1, 4)


def _pool(**options: Any) -> PointBoxPool:
    return PointBoxPool(**{"channels": (8, 6), "max_points": 10_000, **options})


def _pooled(
    pool: PointBoxPool,
    clouds: list[Tensor],
    boxes: Tensor,
    scene: Tensor | None = None,
    cropped_at: Tensor | None = None,
) -> Tensor:
    """Features of boxes ``(N, 7)``, or of variants ``(N, S, 7)``."""
    variants = boxes if boxes.ndim == 3 else boxes[:, None]
    scene = torch.zeros(len(boxes), dtype=torch.int64) if scene is None else scene
    range_ = (-20.0, -20.0, -3.0, 20.0, 20.0, 3.0)
    scenes = Scenes.from_range(torch.zeros(len(clouds), 1, 4, 4), range_, clouds)
    context = pool.prepare(scenes, variants[:, 0] if cropped_at is None else cropped_at, scene)
    return pool(context, variants) if boxes.ndim == 3 else pool(context, variants)[:, 0]


def test_pooled_features_of_one_point_by_hand():
    box = torch.tensor([[1.0, 2.0, -1.0, 4.0, 2.0, 1.5, 0.0]])
    # 0.2 m beyond the left face, 0.5 m above the bottom, intensity 0.3.
    cloud = torch.tensor([[2.0, 3.2, -0.5, 0.3]])
    pool = _pool(margin=(0.6, 0.5, 0.4))
    torch.nn.init.constant_(pool.second.bias, 3.0)  # so that channels are alive
    features = [0.5, 1.2, -1 / 3, -2.0, 0.4, -1.0, -2.0, 2.0, 2.4, -0.5, 0.3]
    hidden = torch.relu(pool.second(torch.relu(pool.first(torch.tensor(features)))))
    ramp = 1 - 0.2 / 0.5
    window = ramp**2 * (3 - 2 * ramp)
    inside = window * math.prod(1 / (1 + math.exp(10 * beyond)) for beyond in (-1.0, 0.2, -0.5))
    counts = torch.tensor([math.log1p(window), math.log1p(inside)])
    expected = torch.cat((window * hidden / (1 + window), window * hidden, counts))
    assert float(expected[: len(hidden)].detach().sum()) > 0.01
    torch.testing.assert_close(_pooled(pool, [cloud], box)[0], expected)


@on_both_paths
def test_points_of_sweeps_are_seen_where_the_velocity_has_moved_them(path: Context):
    """Intensities of 0 to 255 and lags in seconds are scaled for the network."""
    boxes = _boxes()
    boxes = torch.cat((boxes, 5 * torch.randn(4, 2)), dim=1)
    still = _cloud_around(boxes)
    lag = torch.rand(len(still), 1) / 2
    moving = torch.cat((still, lag), dim=1)
    moving[:, 3] *= 255
    moving[:, :2] -= lag * boxes[:, 7:].repeat_interleave(60, dim=0)
    options: dict[str, Any] = {"num_features": 5}
    pool = _pool(**options, time_feature=4, feature_scales=(1 / 255, 2.0))
    expected = _pool(**options)
    expected.load_state_dict(pool.state_dict())
    with path():
        pooled = [_pooled(pool, [moving[60 * n : 60 * n + 60]], boxes[n : n + 1]) for n in range(4)]
        twins = torch.cat((still, 2 * lag), dim=1)
        for n in range(4):
            alone = _pooled(expected, [twins[60 * n : 60 * n + 60]], boxes[n : n + 1, :7])
            torch.testing.assert_close(pooled[n], alone)


def test_features_depend_on_the_crop_only_where_the_box_leaves_it():
    boxes, pool = _boxes(), _pool(max_box_shift=0.6)
    clouds = [_cloud_around(boxes, 400)]
    expected, crop = _pooled(pool, clouds, boxes), boxes.clone()
    crop[:, :3] += 0.7 * (torch.rand(4, 3) - 0.5)
    torch.testing.assert_close(_pooled(pool, clouds, boxes, cropped_at=crop), expected)
    crop[:, 0] += 4.0
    difference = _pooled(pool, clouds, boxes, cropped_at=crop) - expected
    assert float(difference.detach().abs().max()) > 0.01


def test_features_do_not_jump_while_points_enter_and_leave():
    boxes = _boxes(1)
    path = boxes.repeat(2000, 1)
    path[:, 0] += torch.linspace(-2, 2, 2000)
    clouds = [_cloud_around(boxes, 30)]
    features = _pooled(_pool(max_box_shift=3.0), clouds, path[None], cropped_at=boxes)[0].detach()
    # A step of 2 mm: a jump would not shrink with the step, a slope of 5 per meter does.
    assert float(features.diff(dim=0).abs().max()) < 0.01
    assert float((features[0] - features[-1]).abs().max()) > 0.1


def test_all_numbers_of_the_box_are_observed_and_parameters_reached():
    boxes, pool = _boxes().requires_grad_(), _pool()
    _pooled(pool, [_cloud_around(boxes)], boxes).square().sum().backward()
    assert bool((boxes.grad.abs() > 1e-3).all())
    assert all(float(p.grad.abs().sum()) > 0 for p in pool.parameters())


def test_features_do_not_change_when_box_and_cloud_move_together():
    boxes, pool = _boxes(), _pool()
    cloud = _cloud_around(boxes)
    expected = _pooled(pool, [cloud], boxes)
    cos, sin = math.cos(0.8), math.sin(0.8)
    moved_boxes, moved = boxes.clone(), cloud.clone()
    for rows in (moved_boxes, moved):
        rows[:, :2] = rows[:, :2] @ torch.tensor([[cos, sin], [-sin, cos]]) + 3
        rows[:, 2] += 0.5
    moved_boxes[:, 6] += 0.8
    torch.testing.assert_close(_pooled(pool, [moved], moved_boxes), expected)


def test_boxes_variants_and_frames_do_not_see_each_other():
    boxes, scene, pool = _boxes(6), torch.tensor([2, 0, 1, 1, 0, 2]), _pool()
    clouds = [_cloud_around(boxes) for _ in range(3)]
    variants = boxes[:, None] + 0.05 * torch.randn(6, 5, 7)
    together = _pooled(pool, clouds, variants, scene)
    assert together.shape == (6, 5, pool.out_channels)
    for n, s in ((0, 0), (3, 2), (4, 4)):
        alone = _pooled(pool, [clouds[int(scene[n])]], variants[n, s][None])
        torch.testing.assert_close(together[n, s], alone[0])


def test_thinned_crop_still_counts_the_points_of_the_cloud():
    boxes = _boxes(1)
    clouds = [_cloud_around(boxes, 4000)]
    whole = torch.expm1(_pooled(_pool(), clouds, boxes)[0, -2:])
    thinned = torch.expm1(_pooled(_pool(max_points=500), clouds, boxes)[0, -2:])
    # A count of n points from a share of 500 / N has a relative error below 1 / sqrt(n).
    torch.testing.assert_close(thinned, whole, rtol=5 / math.sqrt(100), atol=0)


@on_both_paths
def test_few_points_give_finite_features_and_none_zeros(path: Context):
    boxes, pool = _boxes().requires_grad_(), _pool()
    cloud = _cloud_around(boxes, 1)
    with path():
        pooled = _pooled(pool, [cloud[:1]], boxes)
        pooled.sum().backward()
        assert bool(torch.isfinite(pooled).all())
        assert bool(torch.isfinite(boxes.grad).all())
        for nothing in (cloud[:0], cloud + 100):
            pooled = _pooled(pool, [nothing], boxes)
            torch.testing.assert_close(pooled, torch.zeros_like(pooled), rtol=0, atol=1e-15)
        assert _pooled(pool, [cloud], boxes[:0]).shape == (0, pool.out_channels)


def test_pool_is_differentiable_twice_in_boxes():
    boxes, pool = _boxes(1), _pool(channels=(3, 2))
    clouds = [_cloud_around(boxes, 10)]
    leaf = boxes.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda b: _pooled(pool, clouds, b, cropped_at=boxes), leaf)
    assert torch.autograd.gradgradcheck(lambda b: _pooled(pool, clouds, b, cropped_at=boxes), leaf)


def test_more_columns_enter_when_asked_for():
    boxes, pool = _boxes(), _pool(num_features=5)
    cloud = torch.cat((_cloud_around(boxes), torch.rand(240, 1)), dim=1)
    changed = cloud.clone()
    changed[:, 4] += 1
    difference = _pooled(pool, [cloud], boxes) - _pooled(pool, [changed], boxes)
    assert float(difference.detach().abs().max()) > 1e-3


@on_both_paths
def test_points_take_no_part_in_gradients(path: Context):
    boxes, pool = _boxes().requires_grad_(), _pool()
    cloud = _cloud_around(boxes).requires_grad_()
    with path():
        _pooled(pool, [cloud], boxes).sum().backward()
    assert cloud.grad is None
    assert bool((boxes.grad != 0).any())


@on_both_paths
def test_a_box_without_width_is_computed_and_leaves_others_alone(path: Context):
    """Such a box has no meaningful features: kernels do not divide by its width in Python's way."""
    boxes, pool, others = _boxes(), _pool(), [0, 2, 3]
    cloud, flat = _cloud_around(boxes), boxes.clone()
    flat[1, 4] = 0.0
    flat.requires_grad_()
    with path():
        expected, pooled = _pooled(pool, [cloud], boxes), _pooled(pool, [cloud], flat)
        pooled[others].sum().backward()
    torch.testing.assert_close(pooled[others], expected[others])
    assert bool(flat.grad[others].isfinite().all())


def test_clouds_that_do_not_fit_are_refused_with_the_remedy():
    boxes, pool = _boxes(), _pool()
    with pytest.raises(ValueError, match="RefinedVoxelNet"):
        pool.prepare(Scenes.from_range(torch.zeros(1, 1, 4, 4), (0, 0, 0, 1, 1, 1)), boxes, boxes)
    with pytest.raises(ValueError, match="set num_features"):
        _pooled(pool, [_cloud_around(boxes)[:, :3]], boxes)


@pytest.mark.parametrize(
    "options",
    [
        {"margin": (0.5, 0.5)},
        {"margin": (0.5, 0.5, 0.0)},
        {"max_box_shift": -0.1},
        {"max_points": 0},
        {"num_features": 2},
        {"time_feature": 4},
        {"time_feature": 2},
        {"feature_scales": (1.0, 1.0)},
        {"feature_scales": (math.nan,)},
        {"max_velocity_shift": -1.0},
    ],
)
def test_constants_out_of_range_are_refused(options: dict[str, Any]):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        PointBoxPool(**options)
