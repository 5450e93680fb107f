from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.pooling import PointCrops
from ebm3d.pooling.point_features import (
    features_backward_kernel,
    features_by_torch,
    features_kernel,
    point_features,
    select_kernel,
)

_MARGIN = (0.6, 0.5, 0.4)
_BOX = torch.tensor([5.0, 3.0, -1.0, 4.0, 2.0, 1.5, math.pi / 2], dtype=torch.float64)


def _crop(points: Tensor) -> PointCrops:
    owner = torch.zeros(len(points), dtype=torch.int64)
    return PointCrops(points, owner, torch.ones(1, dtype=points.dtype))


def _at(u: float, v: float, w: float) -> Tensor:
    """A cloud of one point, given in the frame of the box (yaw 90 degrees), intensity 0.3."""
    return torch.tensor([[5.0 - v, 3.0 + u, -1.0 + w, 0.3]], dtype=torch.float64)


def _many(dtype: torch.dtype = torch.float64) -> tuple[PointCrops, Tensor]:
    """Forty points around each of three boxes, two variants of each box."""
    boxes = torch.rand(3, 1, 7, dtype=dtype) + torch.tensor([1, 2, -1, 3, 1.5, 1, 0], dtype=dtype)
    boxes = boxes + 0.2 * torch.randn(3, 2, 7, dtype=dtype)
    points = torch.randn(120, 5, dtype=dtype) * torch.tensor([2.0, 2, 1, 1, 1], dtype=dtype)
    owner = torch.arange(3).repeat_interleave(40)
    points[:, :3] += boxes[owner, 0, :3]
    return PointCrops(points, owner, torch.ones(3, dtype=dtype)), boxes


def test_features_of_one_point_by_hand():
    crop = _crop(_at(1.0, 1.1, 0.5))
    features, window, counts, owner = point_features(crop, _BOX[None, None], _MARGIN)
    # Half sizes 2, 1, 0.75; 1 m short of the front, 0.1 m beyond the left face, 0.5 m above the
    # bottom, 1 m below the top, 0.25 m below the center; distances in half meters.
    expected = [0.5, 1.1, -1 / 3, -2.0, 0.2, -1.0, -2.0, 2.0, 2.2, -0.5, 0.3]
    np.testing.assert_allclose(features[0], expected, atol=1e-12)
    ramp = 1 - 0.1 / 0.5
    assert float(window) == pytest.approx(ramp**2 * (3 - 2 * ramp))
    sigmoid = [1 / (1 + math.exp(10 * beyond)) for beyond in (-1.0, 0.1, -0.5)]
    assert float(counts[0, 0]) == pytest.approx(float(window))
    assert float(counts[0, 1]) == pytest.approx(float(window) * math.prod(sigmoid))
    assert owner.tolist() == [0]


def test_window_is_one_inside_and_zero_from_the_margin_on():
    for beyond, expected in ((-0.1, 1.0), (0.0, 1.0), (0.3, 0.5), (0.599, 0.0), (0.6, 0.0)):
        crop = _crop(_at(2.0 + beyond, 0.0, 0.7))
        window = point_features(crop, _BOX[None, None], _MARGIN)[2][0, 0]
        assert float(window) == pytest.approx(expected, abs=1e-5)


def test_coordinates_relative_to_a_small_box_are_bounded():
    box = _BOX.clone()
    box[3:6] = 0.1
    features = point_features(_crop(_at(0.3, 0.3, 0.05)), box[None, None], _MARGIN)[0]
    np.testing.assert_allclose(features[0, :3], [3.0, 3.0, 0.0], atol=1e-12)


def test_points_out_of_the_window_have_no_row():
    crops, boxes = _many()
    _, window, _, _ = point_features(crops, boxes, _MARGIN)
    every = torch.arange(120).repeat_interleave(2), torch.arange(6).view(3, 1, 2)
    owner = every[1].expand(3, 40, 2).reshape(-1)
    whole = features_by_torch(crops.points, boxes.reshape(-1, 7), every[0], owner, _MARGIN)[1]
    assert 0 < len(window) < len(whole)
    assert bool((window > 0).all())
    torch.testing.assert_close(window.sort().values, whole[whole > 0].sort().values)


def test_features_do_not_change_when_boxes_and_points_move_together():
    crops, boxes = _many()
    cos, sin = math.cos(0.8), math.sin(0.8)
    turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    points, turned = crops.points.clone(), boxes.clone()
    points[:, :2] = crops.points[:, :2] @ turn + 7
    points[:, 2] -= 2
    turned[..., :2] = boxes[..., :2] @ turn + 7
    turned[..., 2] -= 2
    turned[..., 6] += 0.8
    moved = point_features(PointCrops(points, crops.owner, crops.weight), turned, _MARGIN)
    for found, expected in zip(moved, point_features(crops, boxes, _MARGIN), strict=True):
        torch.testing.assert_close(found, expected)


def _on_rows(crops: PointCrops, boxes: Tensor) -> tuple[Tensor, Tensor]:
    start = np.array([0, 40, 80, 120])
    flat = boxes.detach().reshape(-1, 7).numpy()
    arrays = crops.points.numpy(), start, flat, 2, np.array(_MARGIN)
    point, owner = select_kernel(*arrays)
    again = select_kernel.py_func(*arrays)
    np.testing.assert_array_equal(point, again[0])
    np.testing.assert_array_equal(owner, again[1])
    return torch.from_numpy(point), torch.from_numpy(owner)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_equals_its_twin_in_value_and_gradients(dtype: torch.dtype):
    crops, boxes = _many(dtype)
    point, owner = _on_rows(crops, boxes)
    grads = torch.randn(len(owner), 12, dtype=dtype), torch.randn(6, 2, dtype=dtype)
    found = []
    for which in ("kernel", "twin"):
        leaf = boxes.clone().requires_grad_()
        if which == "kernel":
            out = point_features(crops, leaf, _MARGIN)[:3]
        else:
            flat = leaf.reshape(-1, 7)
            out = features_by_torch(crops.points, flat, point, owner, _MARGIN)
        given = grads[0], torch.ones(len(owner), dtype=dtype), grads[1]
        found.append((*(t.detach() for t in out), *torch.autograd.grad(out, leaf, given)))
    # The kernel computes in float64 and rounds once, its twin after each operation.
    tolerance = {"rtol": 1e-10, "atol": 1e-11}
    if dtype == torch.float32:
        tolerance = {"rtol": 1e-4, "atol": 1e-4}
    for kernel, twin in zip(*found, strict=True):
        torch.testing.assert_close(kernel, twin, **tolerance)


def test_compiled_and_interpreted_kernels_agree():
    crops, boxes = _many()
    point, owner = _on_rows(crops, boxes)
    flat, margin = boxes.reshape(-1, 7), np.array(_MARGIN)
    arrays = [t.numpy() for t in (flat, crops.points, point, owner)]
    grads = [np.random.standard_normal(s) for s in ((len(owner), 12), len(owner), (6, 2))]
    found = []
    for forward, backward in (
        (features_kernel, features_backward_kernel),
        (features_kernel.py_func, features_backward_kernel.py_func),
    ):
        out = np.empty((len(owner), 12)), np.empty(len(owner)), np.zeros((6, 2))
        grad_boxes = np.zeros((6, 7))
        forward(*arrays, margin, *out)
        backward(*arrays, *grads, margin, grad_boxes)
        found.append((*out, grad_boxes))
    for compiled, interpreted in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, interpreted, rtol=1e-12, atol=1e-12)


def test_features_are_differentiable_twice_in_boxes():
    crops, boxes = _many()
    leaf = boxes[:1].clone().requires_grad_()
    crops = PointCrops(crops.points[:20], crops.owner[:20], crops.weight[:1])
    assert len(point_features(crops, leaf, _MARGIN)[1]) > 5

    def run(given: Tensor) -> tuple[Tensor, ...]:
        return point_features(crops, given, _MARGIN)[:3]

    assert torch.autograd.gradcheck(run, leaf)
    assert torch.autograd.gradgradcheck(run, leaf)


def test_box_that_is_not_finite_keeps_its_points_and_shows_it():
    crops, boxes = _many()
    boxes[1, 0, 0] = math.nan
    counts = point_features(crops, boxes, _MARGIN)[2]
    assert torch.isnan(counts).any(dim=1).tolist() == [False, False, True, False, False, False]
