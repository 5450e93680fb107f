"""Kernels of the point pool: features in the window, and their sums and maxima."""

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
from ebm3d.pooling.segments import pool_backward_kernel, pool_by_torch, pool_kernel, pool_segments

_MARGIN = (0.6, 0.5, 0.4)
_BOX = torch.tensor([5.0, 3.0, -1.0, 4.0, 2.0, 1.5, math.pi / 2], dtype=torch.float64)
_OWNER = torch.tensor([3, 0, 0, 3, 1, 0, 3, 1, 1, 1])  # no row belongs to segments 2 and 4


def _at(u: float, v: float, w: float) -> PointCrops:
    """A crop of one point, in the frame of the box (yaw 90 degrees), intensity 0.3."""
    point = torch.tensor([[5.0 - v, 3.0 + u, -1.0 + w, 0.3]], dtype=torch.float64)
    one = torch.ones(1).double()
    return PointCrops(point, torch.tensor([0]), one, 0 * one)


def _many(dtype: torch.dtype = torch.float64, columns: int = 7) -> tuple[PointCrops, Tensor]:
    """Forty points around each of three boxes, two variants of each box."""
    boxes = torch.rand(3, 1, 7, dtype=dtype) + torch.tensor([1, 2, -1, 3, 1.5, 1, 0], dtype=dtype)
    boxes = boxes + 0.2 * torch.randn(3, 2, 7, dtype=dtype)
    points = torch.randn(120, 5, dtype=dtype) * torch.tensor([2.0, 2, 1, 1, 1], dtype=dtype)
    owner = torch.arange(3).repeat_interleave(40)
    points[:, :3] += boxes[owner, 0, :3]
    lag = torch.rand(120, dtype=dtype) / 2
    velocities = 4 * torch.randn(3, 2, columns - 7, dtype=dtype)
    if columns > 7:
        points[:, :2] -= lag[:, None] * velocities[owner, 0]
    boxes = torch.cat((boxes, velocities), dim=-1)
    return PointCrops(points, owner, torch.ones(3, dtype=dtype), lag), boxes


def test_features_of_one_point_by_hand():
    features, window, counts, owner = point_features(_at(1.0, 1.1, 0.5), _BOX[None, None], _MARGIN)
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
        count = point_features(_at(2.0 + beyond, 0.0, 0.7), _BOX[None, None], _MARGIN)[2][0, 0]
        assert float(count) == pytest.approx(expected, abs=1e-5)


def test_coordinates_relative_to_a_small_box_are_bounded():
    box = _BOX.clone()
    box[3:6] = 0.1
    features = point_features(_at(0.3, 0.3, 0.05), box[None, None], _MARGIN)[0]
    np.testing.assert_allclose(features[0, :3], [3.0, 3.0, 0.0], atol=1e-12)


@pytest.mark.parametrize("columns", [7, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_are_those_of_the_twin_of_all_pairs_whose_window_is_not_zero(
    dtype: torch.dtype, columns: int
):
    crops, boxes = _many(dtype, columns)
    point = torch.arange(120).repeat_interleave(2)
    owner = 2 * crops.owner[point] + torch.arange(2).repeat(120)
    order = torch.argsort(owner, stable=True)
    point, owner = point[order], owner[order]
    points = crops.points, crops.lag
    inside = features_by_torch(*points, boxes.flatten(0, 1), point, owner, _MARGIN)[1] > 1e-20
    assert 0 < int(inside.sum()) < 240
    grads = torch.randn(int(inside.sum()), 12, dtype=dtype), torch.randn(6, 2, dtype=dtype)
    results = []
    for by_kernel in (True, False):
        leaf = boxes.clone().requires_grad_()
        if by_kernel:
            *out, rows = point_features(crops, leaf, _MARGIN)
            assert torch.equal(rows, owner[inside])
        else:
            pairs = point[inside], owner[inside]
            out = features_by_torch(*points, leaf.flatten(0, 1), *pairs, _MARGIN)
        weights = grads[0], torch.ones_like(out[1]), grads[1]
        results.append((*(t.detach() for t in out), *torch.autograd.grad(out, leaf, weights)))
    # The kernel computes in float64 and rounds once, its twin after each operation.
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    for kernel, twin in zip(*results, strict=True):
        torch.testing.assert_close(kernel, twin, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("columns", [7, 9])
def test_features_are_differentiable_twice_in_boxes(columns: int):
    crops, boxes = _many(columns=columns)
    leaf = boxes[:1].clone().requires_grad_()
    crops = PointCrops(crops.points[:20], crops.owner[:20], crops.weight[:1], crops.lag[:20])
    assert len(point_features(crops, leaf, _MARGIN)[1]) > 5
    assert torch.autograd.gradcheck(lambda b: point_features(crops, b, _MARGIN)[:3], leaf)
    assert torch.autograd.gradgradcheck(lambda b: point_features(crops, b, _MARGIN)[:3], leaf)


def test_a_point_of_the_past_is_seen_where_the_velocity_has_moved_it():
    crops, boxes = _many(columns=9)
    moved = crops.points.clone()
    moved[:, :2] += crops.lag[:, None] * boxes[crops.owner, 0, 7:]
    at_once = PointCrops(moved, crops.owner, crops.weight, torch.zeros_like(crops.lag))
    results = (
        point_features(crops, boxes[:, :1], _MARGIN),
        point_features(at_once, boxes[:, :1, :7], _MARGIN),
    )
    assert len(results[0][3]) > 20
    for motion, still in zip(*results, strict=True):
        torch.testing.assert_close(motion, still)


def test_sums_and_maxima_of_each_segment_by_hand():
    values, weights = torch.rand(10, 3).double(), torch.rand(10).double()
    pooled = pool_segments(values, weights, _OWNER, 5)
    for segment in range(5):
        rows = (weights[:, None] * values)[segment == _OWNER]
        rows = rows if len(rows) else torch.zeros(1, 3).double()
        torch.testing.assert_close(pooled[segment], torch.cat((rows.sum(0), rows.amax(0))))
    assert torch.equal(
        pool_segments(values[:0], weights[:0], _OWNER[:0], 2).sum(), torch.tensor(0.0).double()
    )


def test_pooling_segments_is_differentiable_twice():
    leaves = torch.rand(10, 3).double().requires_grad_(), torch.rand(10).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v, w: pool_segments(v, w, _OWNER, 5), leaves)
    assert torch.autograd.gradgradcheck(lambda v, w: pool_segments(v, w, _OWNER, 5), leaves)


@pytest.mark.parametrize("create_graph", [False, True])
def test_the_first_row_that_reaches_a_maximum_gets_its_gradient(create_graph: bool):
    values = torch.tensor([[1.0], [2.0], [2.0]], requires_grad=True)
    pooled = pool_segments(values, torch.ones(3), torch.zeros(3, dtype=torch.int64), 1)
    (gradient,) = torch.autograd.grad(pooled[0, 1], values, create_graph=create_graph)
    assert gradient[:, 0].tolist() == [0.0, 1.0, 0.0]


def test_value_that_is_not_a_number_is_not_hidden():
    values, weights = torch.rand(10, 3), torch.ones(10)
    values[1, 0] = torch.nan
    pooled = pool_segments(values, weights, _OWNER, 5)
    assert torch.isnan(pooled).nonzero().tolist() == [[0, 0], [0, 3]]
    largest = torch.full((5, 3), 10)
    pool_kernel(
        *(t.numpy() for t in (values, weights, _OWNER)), np.zeros((5, 6), "f4"), largest.numpy()
    )
    assert int(largest[0, 0]) == 1
    torch.testing.assert_close(
        pool_by_torch(values, weights, _OWNER, largest), pooled, equal_nan=True
    )


@pytest.mark.parametrize("columns", [7, 9])
def test_compiled_and_interpreted_kernels_agree(columns: int):
    crops, boxes = _many(columns=columns)
    flat, margin = boxes.flatten(0, 1).numpy(), np.array(_MARGIN)
    points, start, results = (
        (crops.points.numpy(), crops.lag.numpy()),
        np.array([0, 40, 80, 120]),
        [],
    )
    kernels = (
        select_kernel,
        features_kernel,
        features_backward_kernel,
        pool_kernel,
        pool_backward_kernel,
    )
    size = len(select_kernel(*points, start, flat, 2, margin)[0])
    grads = [np.random.standard_normal(s) for s in ((size, 12), size, (6, 2))]
    for select, features, features_backward, pool, pool_backward in (
        kernels,
        [kernel.py_func for kernel in kernels],
    ):
        rows = select(*points, start, flat, 2, margin)
        out = np.empty((size, 12)), np.empty(size), np.zeros((6, 2)), np.zeros(flat.shape)
        features(flat, *points, *rows, margin, *out[:3])
        features_backward(flat, *points, *rows, *grads, margin, out[3])
        values, pooled = np.abs(out[0]), (np.zeros((6, 24)), np.full((6, 12), size))
        pool(values, out[1], rows[1], *pooled)
        back = np.empty_like(values), np.empty(size)
        pool_backward(values, out[1], rows[1], pooled[1], pooled[0], *back)
        results.append((*rows, *out, *pooled, *back))
    for compiled, interpreted in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, interpreted, rtol=1e-12, atol=1e-12)
