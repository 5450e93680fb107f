"""Exact rotated IoU: against rational arithmetic, and by the laws an IoU obeys."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ebm3d.boxes import iou, rotated_overlap
from ebm3d.boxes.iou import iou_3d, iou_bev
from ebm3d.boxes.kernels import forced_torch
from tests.oracles.iou_rational import rational_iou

FloatArray = NDArray[np.float64]

# Sizes and offsets of a box, its yaw, and a second box relative to the first: every degenerate
# position of two rectangles that a polygon clipper must survive.
_SIZES = (4.0, 2.0, 1.5)
_RELATIVE = {
    "identical": (0.0, 0.0, 4.0, 2.0, 0.0),
    "half turn": (0.0, 0.0, 4.0, 2.0, math.pi),
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
    "far larger": (1.0, 1.0, 80.0, 60.0, 0.7),
}


def _relative_pair(name: str, yaw: float, turn: float, at: float) -> tuple[FloatArray, FloatArray]:
    """The named position as two boxes around ``(at, -at)``, the second turned by ``turn`` more."""
    along, across, dx, dy, relative = _RELATIVE[name]
    x = at + math.cos(yaw) * along - math.sin(yaw) * across
    y = -at + math.sin(yaw) * along + math.cos(yaw) * across
    first = np.array([at, -at, 0.1, *_SIZES, yaw])
    return first, np.array([x, y, 0.4, dx, dy, 1.2, yaw + relative + turn])


def _random_boxes(rng: np.random.Generator, num: int, at: float = 0.0) -> FloatArray:
    """Boxes of sizes 0.3 to 6 m within some meters of ``(at, at)``."""
    boxes = np.empty((num, 7))
    boxes[:, :3] = rng.normal(size=(num, 3)) * [2.0, 2.0, 0.5] + [at, at, 0.0]
    boxes[:, 3:6] = rng.uniform(0.3, 6.0, (num, 3))
    boxes[:, 6] = rng.uniform(-4.0, 4.0, num)
    return boxes


@pytest.mark.parametrize("name", _RELATIVE)
@pytest.mark.parametrize("at", [0.0, 437.21])
def test_degenerate_pairs_match_rational_arithmetic(name: str, at: float) -> None:
    for yaw in (0.0, 0.5, 2.3):
        for turn in (0.0, 1e-16, 1e-12, -1e-9, 1e-7, 1e-3):
            first, second = _relative_pair(name, yaw, turn, at)
            for function, expected in zip(
                (iou_bev, iou_3d), rational_iou(first, second), strict=True
            ):
                found = function(first[None], second[None])[0, 0]
                swapped = function(second[None], first[None])[0, 0]
                assert found == pytest.approx(expected, abs=1e-12, rel=0)
                assert swapped == pytest.approx(expected, abs=1e-12, rel=0)


@pytest.mark.parametrize("at", [0.0, 100.0, 900.0])
def test_random_pairs_match_rational_arithmetic(rng: np.random.Generator, at: float) -> None:
    first, second = _random_boxes(rng, 80, at), _random_boxes(rng, 80, at)
    expected = np.array([rational_iou(a, b) for a, b in zip(first, second, strict=True)])
    for function, values in zip((iou_bev, iou_3d), expected.T, strict=True):
        found = function(first, second, aligned=True)
        np.testing.assert_allclose(found, values, rtol=0.0, atol=1e-12)
    assert (expected > 0).all(axis=1).sum() > 20


def test_yaws_of_thousands_of_turns_match_rational_arithmetic(rng: np.random.Generator) -> None:
    first, second = _random_boxes(rng, 60), _random_boxes(rng, 60)
    first[:, 6] = rng.uniform(-1e6, 1e6, 60)
    second[:30, 6] = first[:30, 6] + rng.normal(size=30) * 1e-3
    second[30:, 6] = rng.uniform(-1e5, 1e5, 30)
    expected = [rational_iou(a, b)[0] for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(iou_bev(first, second, aligned=True), expected, rtol=0, atol=1e-12)


def test_iou_of_a_box_with_itself_is_one_at_any_yaw(rng: np.random.Generator) -> None:
    boxes = _random_boxes(rng, 2000, at=350.0)
    boxes[:, 6] = rng.uniform(-1000.0, 1000.0, 2000)
    np.testing.assert_allclose(iou_bev(boxes, boxes, aligned=True), 1.0, rtol=0, atol=1e-14)
    np.testing.assert_allclose(iou_3d(boxes, boxes, aligned=True), 1.0, rtol=0, atol=1e-14)


def test_iou_lies_between_zero_and_one(rng: np.random.Generator) -> None:
    boxes = _random_boxes(rng, 300)
    for values in (iou_bev(boxes, boxes), iou_3d(boxes, boxes)):
        assert values.min() == 0.0
        assert values.max() <= 1.0


def test_iou_is_symmetric(rng: np.random.Generator) -> None:
    first, second = _random_boxes(rng, 80), _random_boxes(rng, 90)
    np.testing.assert_allclose(iou_3d(first, second), iou_3d(second, first).T, rtol=0, atol=1e-14)


def test_iou_is_invariant_under_a_common_rigid_motion(rng: np.random.Generator) -> None:
    first, second = _random_boxes(rng, 100), _random_boxes(rng, 100)
    turn, shift = 0.83, np.array([14.0, -3.0, 2.0])
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])

    def move(boxes: FloatArray) -> FloatArray:
        moved = boxes.copy()
        moved[:, :2] = boxes[:, :2] @ rotation.T
        moved[:, :3] += shift
        moved[:, 6] += turn
        return moved

    before = iou_3d(first, second)
    np.testing.assert_allclose(iou_3d(move(first), move(second)), before, rtol=0, atol=1e-13)


def test_iou_does_not_decrease_as_an_inner_box_grows() -> None:
    outer = np.array([[1.0, 2.0, 0.0, 4.0, 2.0, 1.5, 0.7]])
    inner = np.repeat(outer, 50, axis=0)
    inner[:, 3:6] *= np.linspace(0.02, 1.0, 50)[:, None]
    values = iou_3d(inner, outer)[:, 0]
    assert (np.diff(values) > 0).all()
    np.testing.assert_allclose(values, np.linspace(0.02, 1.0, 50) ** 3, rtol=0, atol=1e-14)


def test_boxes_one_above_the_other_share_area_but_no_volume() -> None:
    low = np.array([[0.0, 0.0, 0.0, 4.0, 2.0, 1.5, 0.3]])
    high = np.array([[0.0, 0.0, 1.5, 4.0, 2.0, 1.5, 0.3]])
    assert iou_bev(low, high)[0, 0] == pytest.approx(1.0, abs=1e-15)
    assert iou_3d(low, high)[0, 0] == 0.0


def test_z_is_the_bottom_of_a_box() -> None:
    low = np.array([[0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 0.0]])
    high = np.array([[0.0, 0.0, 1.0, 1.0, 1.0, 4.0, 0.0]])
    # One of 2 + 4 - 1 cubic meters is common; with z at the center it would be 2 of 4.
    assert iou_3d(low, high)[0, 0] == pytest.approx(1.0 / 5.0, abs=1e-15)


def test_aligned_is_the_diagonal_of_pairwise(rng: np.random.Generator) -> None:
    first, second = _random_boxes(rng, 40), _random_boxes(rng, 40)
    for function in (iou_bev, iou_3d):
        np.testing.assert_array_equal(
            function(first, second, aligned=True), np.diag(function(first, second))
        )


def test_no_boxes_give_empty_shapes() -> None:
    none, some = np.zeros((0, 7)), np.ones((3, 7))
    assert iou_bev(none, some).shape == (0, 3)
    assert iou_3d(some, none).shape == (3, 0)
    assert iou_3d(none, none, aligned=True).shape == (0,)
    assert iou_bev([], some).shape == (0, 3)


def test_boxes_without_area_have_iou_zero() -> None:
    flat = np.array([[0.0, 0.0, 0.0, 0.0, 2.0, 1.0, 0.4]])
    assert iou_bev(flat, flat)[0, 0] == 0.0
    assert iou_3d(flat, np.array([[0.0, 0.0, 0.0, 4.0, 2.0, 1.0, 0.0]]))[0, 0] == 0.0


def test_arguments_are_not_changed(rng: np.random.Generator) -> None:
    first, second = _random_boxes(rng, 5), _random_boxes(rng, 5)
    copies = first.copy(), second.copy()
    iou_3d(first, second)
    np.testing.assert_array_equal(first, copies[0])
    np.testing.assert_array_equal(second, copies[1])


def test_single_precision_input_is_computed_in_double(rng: np.random.Generator) -> None:
    boxes = _random_boxes(rng, 20).astype(np.float32)
    np.testing.assert_array_equal(
        iou_3d(boxes, boxes[::-1]), iou_3d(boxes.astype(np.float64), boxes[::-1].astype(np.float64))
    )


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.ones((2, 9)), r"boxes must have shape \(N, 7\).*pass boxes\[:, :7\]"),
        (np.ones(7), r"boxes must have shape \(N, 7\)"),
        (np.full((1, 7), np.nan), r"boxes must be finite, but got boxes\[0, 0\] = nan"),
        (np.array([[0, 0, 0, 1, -0.2, 1, 0]]), r"dy of boxes must be at least 0.*boxes\[0, 4\]"),
    ],
)
def test_bad_boxes_are_named(boxes: FloatArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        iou_3d(boxes, np.ones((1, 7)))


def test_aligned_boxes_of_different_number_are_refused() -> None:
    with pytest.raises(ValueError, match=r"others must be as long as boxes \(2 rows\)"):
        iou_bev(np.ones((2, 7)), np.ones((3, 7)), aligned=True)


def test_compiled_kernels_agree_with_their_python_source(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _random_boxes(rng, 30), _random_boxes(rng, 30)
    compiled = iou_3d(first, second, aligned=True)
    for name in ("clamped_edge_integral", "intersection_area", "common_height", "_iou"):
        monkeypatch.setattr(iou, name, getattr(iou, name).py_func)
    monkeypatch.setattr(iou, "prange", range)
    plain = iou._aligned_iou.py_func(first, second, True)
    np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-15)


def _tensors(
    rng: np.random.Generator, num: int, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    return torch.from_numpy(_random_boxes(rng, num)).to(dtype)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("function", [iou_bev, iou_3d])
def test_tensors_have_the_iou_of_arrays_by_kernels_and_in_torch(
    rng: np.random.Generator, function: Callable[..., torch.Tensor], aligned: bool
) -> None:
    first, second = _tensors(rng, 300), _tensors(rng, 300)
    second[:20] = first[:20]
    second[20:40, 3:6] = 0
    first[30:40, 3:6] = 0
    expected = torch.from_numpy(function(first.numpy(), second.numpy(), aligned=aligned))
    assert torch.equal(function(first, second, aligned=aligned), expected)
    with forced_torch():
        found = function(first, second, aligned=aligned)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert bool((found[found > 0] < 1).any())


def test_pairs_in_parts_are_all_pairs(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _tensors(rng, 17), _tensors(rng, 5)
    with forced_torch():
        whole, row_by_row = iou_3d(first, second), iou_bev(first[:5], second, aligned=True)
        monkeypatch.setattr(rotated_overlap, "_MAX_PAIRS", 11)
        assert torch.equal(iou_3d(first, second), whole)
        monkeypatch.setattr(rotated_overlap, "_MAX_PAIRS", 2)
        assert torch.equal(iou_bev(first[:5], second, aligned=True), row_by_row)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_tensors_keep_their_type_and_are_computed_in_double(
    rng: np.random.Generator, dtype: torch.dtype
) -> None:
    first, second = _tensors(rng, 20, dtype), _tensors(rng, 20, dtype)
    for context in (nullcontext(), forced_torch()):
        with context:
            found = iou_3d(first, second)
        expected = torch.from_numpy(iou_3d(first.double().numpy(), second.double().numpy()))
        torch.testing.assert_close(found, expected.to(dtype), rtol=0, atol=torch.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)])
def test_no_tensors_have_an_iou_of_their_shape(shape: tuple[int, int]) -> None:
    for context in (nullcontext(), forced_torch()):
        with context:
            assert iou_3d(torch.ones(shape[0], 7), torch.ones(shape[1], 7)).shape == shape
            assert iou_bev(torch.ones(0, 7), torch.ones(0, 7), aligned=True).shape == (0,)


def test_tensors_that_require_gradients_get_none(rng: np.random.Generator) -> None:
    boxes = _tensors(rng, 3).requires_grad_()
    for context in (nullcontext(), forced_torch()):
        with context:
            assert not iou_3d(boxes, boxes).requires_grad


def test_tensors_of_any_device_are_compared_there() -> None:
    boxes = torch.ones(3, 7, device="meta")
    assert iou_3d(boxes, boxes).is_meta
    assert iou_bev(boxes, boxes, aligned=True).shape == (3,)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (np.ones((1, 7)), "others must be a torch.Tensor where the others are, but got ndarray"),
        (torch.ones(1, 7, dtype=torch.int64), "others must be of a floating-point type"),
        (torch.ones(1, 9), r"others must have shape \(N, 7\)"),
        (torch.ones(1, 7, device="meta"), "others must be on cpu as boxes, but got on meta"),
        (torch.full((1, 7), math.nan), r"others must be finite, but got others\[0, 0\] = nan"),
    ],
)
def test_tensors_that_do_not_fit_are_named(others: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        iou_3d(torch.ones(2, 7), others)
    with pytest.raises(ValueError, match=r"others must be as long as boxes \(2 rows\)"):
        iou_3d(torch.ones(2, 7), torch.ones(3, 7), aligned=True)


def test_iou_on_cuda_is_that_of_the_cpu(rng: np.random.Generator, cuda: torch.device) -> None:
    first, second = _tensors(rng, 200), _tensors(rng, 100)
    for function in (iou_bev, iou_3d):
        expected = function(first, second)
        found = function(first.to(cuda), second.to(cuda)).cpu()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
