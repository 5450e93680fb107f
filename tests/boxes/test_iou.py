"""Exact rotated IoU, by kernels and in torch: against rational arithmetic, and by its laws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.boxes import iou, rotated_overlap
from ebm3d.boxes.iou import iou_3d, iou_bev
from ebm3d.boxes.kernels import forced_torch
from ebm3d.boxes.rotated_overlap import rotated_overlap_areas
from tests.oracles.iou_rational import rational_iou

# A second box relative to the first of 4 x 2 m: center, sizes, yaw. Every degenerate position of
# two rectangles that a polygon clipper must survive.
_RELATIVE = {
    "identical": (0.0, 0.0, 4.0, 2.0, 0.0),
    "flipped by pi": (0.0, 0.0, 4.0, 2.0, math.pi),
    "quarter turn": (0.0, 0.0, 4.0, 2.0, math.pi / 2),
    "nested": (0.3, -0.2, 1.0, 0.5, 0.4),
    "nested, one common edge": (1.0, 0.0, 2.0, 1.0, 0.0),
    "nested, two common edges": (1.5, 0.75, 1.0, 0.5, 0.0),
    "touching at an edge": (4.0, 0.0, 4.0, 2.0, 0.0),
    "touching at half an edge": (4.0, 1.0, 4.0, 2.0, 0.0),
    "touching at a corner": (4.0, 2.0, 4.0, 2.0, 0.0),
    "corner on an edge": (2.0 + math.sqrt(2.0) / 2, 0.0, 1.0, 1.0, math.pi / 4),
    "corner inside": (2.0, 0.0, 1.0, 1.0, math.pi / 4),
    "common edge line, shifted": (1.0, 0.0, 4.0, 2.0, 0.0),
    "cross": (0.0, 0.0, 0.5, 8.0, 0.0),
    "apart": (9.0, 1.0, 4.0, 2.0, 0.3),
    "needle": (0.0, 0.0, 40.0, 1e-3, 1e-3),
    "segment": (0.0, 0.0, 4.0, 0.0, 0.2),
    "far larger": (1.0, 1.0, 80.0, 60.0, 0.7),
}
_FUNCTIONS = (iou_bev, iou_3d)
Context = Callable[[], AbstractContextManager[None]]

on_both_paths = pytest.mark.parametrize("path", [nullcontext, forced_torch])


def _boxes(num: int, at: float = 0.0) -> Tensor:
    """Boxes of sizes 0.3 to 6 m within some meters of ``(at, at)``, float64."""
    center = torch.randn(num, 3, dtype=torch.float64) * torch.tensor([2.0, 2.0, 0.5])
    sizes, yaw = (
        0.3 + 5.7 * torch.rand(num, 3, dtype=torch.float64),
        8 * torch.rand(num, 1, dtype=torch.float64) - 4,
    )
    return torch.cat((center + torch.tensor([at, at, 0.0]), sizes, yaw), dim=1)


def _rational(first: Tensor, second: Tensor) -> Tensor:
    """IoU of outlines and of volumes of aligned pairs, ``(N, 2)``."""
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    return torch.tensor([rational_iou(*pair) for pair in pairs], dtype=torch.float64)


def _assert_is_rational(first: Tensor, second: Tensor, path: Context) -> None:
    for function, expected in zip(_FUNCTIONS, _rational(first, second).T, strict=True):
        with path():
            for pair in ((first, second), (second, first)):
                values = function(*pair, aligned=True)
                torch.testing.assert_close(values, expected, rtol=0, atol=1e-12)


@on_both_paths
@pytest.mark.parametrize("at", [0.0, 437.21])
def test_degenerate_pairs_match_rational_arithmetic(at: float, path: Context):
    relative = torch.tensor(list(_RELATIVE.values()), dtype=torch.float64)
    for yaw, turn in itertools.product((0.0, 0.5, 2.3), (0.0, 1e-16, 1e-12, -1e-9, 1e-7, 1e-3)):
        first = torch.tensor([[at, -at, 0.1, 4.0, 2.0, 1.5, yaw]]).double().repeat(len(relative), 1)
        second = torch.zeros_like(first)
        along, across = relative[:, 0], relative[:, 1]
        second[:, 0] = at + math.cos(yaw) * along - math.sin(yaw) * across
        second[:, 1] = -at + math.sin(yaw) * along + math.cos(yaw) * across
        second[:, 2], second[:, 5] = 0.4, 1.2
        second[:, 3:5], second[:, 6] = relative[:, 2:4], yaw + relative[:, 4] + turn
        _assert_is_rational(first, second, path)


@on_both_paths
@pytest.mark.parametrize("at", [0.0, 900.0])
def test_random_pairs_match_rational_arithmetic(at: float, path: Context):
    first, second = _boxes(80, at), _boxes(80, at)
    assert int((_rational(first, second) > 0).all(dim=1).sum()) > 20
    _assert_is_rational(first, second, path)


@on_both_paths
def test_yaws_of_thousands_of_turns_match_rational_arithmetic(path: Context):
    first, second = _boxes(60), _boxes(60)
    first[:, 6] = 2e6 * torch.rand(60, dtype=torch.float64) - 1e6
    second[:30, 6] = first[:30, 6] + 1e-3 * torch.randn(30, dtype=torch.float64)
    second[30:, 6] = 2e5 * torch.rand(30, dtype=torch.float64) - 1e5
    _assert_is_rational(first, second, path)


@on_both_paths
def test_iou_of_a_box_with_itself_is_one_at_any_yaw(path: Context):
    boxes = _boxes(2000, at=350.0)
    boxes[:, 6] = 2000 * torch.rand(2000, dtype=torch.float64) - 1000
    with path():
        for function in _FUNCTIONS:
            values = function(boxes, boxes, aligned=True)
            torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-14)


@on_both_paths
def test_iou_lies_in_the_unit_interval_and_aligned_is_the_diagonal(path: Context):
    first, second = _boxes(100), _boxes(100)
    first[:, 0] *= 3
    with path():
        for function in _FUNCTIONS:
            values = function(first, second)
            assert values.min() == 0.0
            assert values.max() <= 1.0
            assert torch.equal(function(first, second, aligned=True), values.diag())


def test_iou_is_invariant_under_a_common_rigid_motion():
    first, second = _boxes(100), _boxes(100)
    before = iou_3d(first, second)
    cos, sin = math.cos(0.83), math.sin(0.83)
    rotation = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    for boxes in (first, second):
        boxes[:, :2] = boxes[:, :2] @ rotation + 14.0
        boxes[:, 2] += 2.0
        boxes[:, 6] += 0.83
    torch.testing.assert_close(iou_3d(first, second), before, rtol=0, atol=1e-13)


def test_iou_grows_with_an_inner_box():
    outer = torch.tensor([[1.0, 2.0, 0.0, 4.0, 2.0, 1.5, 0.7]], dtype=torch.float64)
    shares = torch.linspace(0.02, 1.0, 50, dtype=torch.float64)
    inner = outer.repeat(50, 1)
    inner[:, 3:6] *= shares[:, None]
    torch.testing.assert_close(iou_3d(inner, outer)[:, 0], shares**3, rtol=0, atol=1e-14)


@on_both_paths
def test_heights_count_from_the_bottom_and_in_volumes_alone(path: Context):
    low = torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 0.3]], dtype=torch.float64)
    high, above = low.clone(), low.clone()
    high[0, 2], high[0, 5], above[0, 2] = 1.0, 4.0, 2.0
    with path():
        # One of 2 + 4 - 1 cubic meters is common; with z at the center it would be 2 of 4.
        assert float(iou_3d(low, high)) == pytest.approx(1 / 5, abs=1e-15)
        assert float(iou_3d(low, above)) == 0.0
        assert float(iou_bev(low, above)) == pytest.approx(1.0, abs=1e-15)


@on_both_paths
def test_boxes_without_area_have_iou_zero(path: Context):
    boxes = torch.tensor(
        [[0.0, 0, 0, 4, 2, 1, 0], [0.0, 0, 0, 0, 2, 1, 0.4], [0.0, 0, 0, 0, 0, 0, 0]]
    )
    with path():
        for function in _FUNCTIONS:
            assert torch.equal(function(boxes, boxes), torch.diag(torch.tensor([1.0, 0, 0])))


def test_arrays_and_lists_have_the_iou_of_tensors_and_are_not_changed():
    first, second = _boxes(20), _boxes(30)
    arrays = first.numpy().copy(), second.numpy().copy()
    for function in _FUNCTIONS:
        expected = function(first, second).numpy()
        np.testing.assert_array_equal(function(*arrays), expected)
        np.testing.assert_array_equal(function(first.tolist(), second.tolist()), expected)
    np.testing.assert_array_equal(arrays[0], first.numpy())
    single = arrays[0].astype(np.float32)
    np.testing.assert_array_equal(iou_3d(single, single), iou_3d(single.astype(float), single))


@on_both_paths
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_tensors_keep_their_type_are_computed_in_double_and_get_no_gradient(
    dtype: torch.dtype, path: Context
):
    first, second = _boxes(20).to(dtype).requires_grad_(), _boxes(20).to(dtype)
    expected = iou_3d(first.double(), second.double()).to(dtype)
    with path():
        values = iou_3d(first, second)
    assert not values.requires_grad
    torch.testing.assert_close(values, expected, rtol=0, atol=torch.finfo(dtype).eps)


@on_both_paths
def test_no_boxes_give_empty_shapes(path: Context):
    with path():
        for shape in ((0, 4), (3, 0), (0, 0)):
            assert iou_3d(torch.ones(shape[0], 7), torch.ones(shape[1], 7)).shape == shape
        assert iou_bev(torch.ones(0, 7), torch.ones(0, 7), aligned=True).shape == (0,)
    assert iou_bev([], np.ones((3, 7))).shape == (0, 3)


def test_pairs_in_parts_are_all_pairs(monkeypatch: pytest.MonkeyPatch):
    first, second = _boxes(17), _boxes(5)
    with forced_torch():
        whole, row_by_row = iou_3d(first, second), iou_bev(first[:5], second, aligned=True)
        monkeypatch.setattr(rotated_overlap, "_MAX_PAIRS", 3)
        assert torch.equal(iou_3d(first, second), whole)
        assert torch.equal(iou_bev(first[:5], second, aligned=True), row_by_row)


def test_areas_broadcast_on_any_device_and_keep_single_precision():
    flat = _boxes(2000)[:, [0, 1, 3, 4, 6]]
    first, second = flat[:1000].float(), flat[1000:].float()
    areas = rotated_overlap_areas(first, second)
    exact = rotated_overlap_areas(first.double(), second.double())
    assert areas.dtype == torch.float32
    # Positions of 10 m are rounded to 1e-6 m, times edges of 6 m.
    torch.testing.assert_close(areas.double(), exact, rtol=0.0, atol=1e-4)
    table = rotated_overlap_areas(flat[:7, None], flat[None, 7:12])
    each = rotated_overlap_areas(flat[:7].repeat_interleave(5, 0), flat[7:12].repeat(7, 1))
    assert torch.equal(table, each.view(7, 5))
    meta = torch.ones(3, 7, device="meta")
    assert iou_3d(meta, meta).is_meta
    with pytest.raises(ValueError, match="second must have shape"):
        rotated_overlap_areas(flat, meta)


@pytest.mark.parametrize(
    ("boxes", "others", "message"),
    [
        (np.ones((2, 9)), np.ones((1, 7)), r"boxes must have shape \(N, 7\).*boxes\[:, :7\]"),
        (np.ones(7), np.ones((1, 7)), "boxes must have shape"),
        (np.full((1, 7), np.nan), np.ones((1, 7)), r"boxes\[0, 0\] = nan"),
        (np.ones((1, 7)), np.array([[0, 0, 0, 1, -0.2, 1, 0]]), r"others\[0, 4\] = -0.2"),
        (torch.ones(2, 7), np.ones((1, 7)), "others must be a torch.Tensor"),
        (torch.ones(2, 7), torch.ones(1, 7).long(), "others must be of a floating-point type"),
        (torch.ones(2, 7), torch.ones(1, 7, device="meta"), "others must be on cpu"),
        (torch.ones(2, 7), torch.full((1, 7), math.nan), r"others\[0, 0\] = nan"),
    ],
)
def test_boxes_that_do_not_fit_are_named(boxes: Any, others: Any, message: str):
    with pytest.raises(ValueError, match=message):
        iou_3d(boxes, others)


@on_both_paths
def test_aligned_boxes_of_different_number_are_refused(path: Context):
    with path(), pytest.raises(ValueError, match="others must be as long as boxes"):
        iou_bev(torch.ones(2, 7), torch.ones(3, 7), aligned=True)


def test_compiled_kernels_agree_with_their_python_source(monkeypatch: pytest.MonkeyPatch):
    first, second = _boxes(30).numpy(), _boxes(30).numpy()
    compiled = iou_3d(first, second, aligned=True), iou_3d(first, second)
    for name in ("clamped_edge_integral", "intersection_area", "common_height", "pair_iou"):
        monkeypatch.setattr(iou, name, getattr(iou, name).py_func)
    monkeypatch.setattr(iou, "prange", range)
    plain = (
        iou._aligned_iou.py_func(first, second, True),
        iou._pairwise_iou.py_func(first, second, True),
    )
    for one, other in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-15)


def test_iou_on_cuda_is_that_of_the_cpu(cuda: torch.device):
    first, second = _boxes(200), _boxes(100)
    for function in _FUNCTIONS:
        values = function(first.to(cuda), second.to(cuda)).cpu()
        torch.testing.assert_close(values, function(first, second), rtol=0, atol=1e-12)
