"""Points in boxes against corners' half planes in float64."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.adapters.operators import OPERATORS
from ebm3d.boxes.points_in_boxes import points_in_boxes as core_points_in_boxes
from tests.adapters.operators.calls import points_in_boxes

operators = import_module("ebm3d.adapters.operators.points_in_boxes")


def scene(rng: np.random.Generator, num_points: int = 3000) -> tuple[Tensor, Tensor]:
    """Points (P, 3) and boxes (N, 7), some of which share points."""
    points = rng.uniform([0, -10, -2], [20, 10, 2], (num_points, 3))
    boxes = rng.uniform([2, -8, -2, 1, 1, 1, -4], [18, 8, 0, 6, 3, 3, 4], (20, 7))
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(boxes.astype(np.float32))


@pytest.mark.parametrize("path", ["numba", "torch"])
def test_points_inside_are_those_of_the_core(rng: np.random.Generator, path: str) -> None:
    """Which owns its faces, and computes in float64: random points tell neither."""
    points, boxes = scene(rng)
    expected = core_points_in_boxes(points.numpy(), boxes.numpy())
    np.testing.assert_array_equal(points_in_boxes(points, boxes, path).numpy(), expected)
    assert expected.sum() > 200
    assert (expected.sum(axis=1) > 1).sum() > 10


@pytest.mark.parametrize("path", ["numba", "torch"])
def test_bottom_and_top_belong_to_a_box_and_its_sides_do_not(path: str) -> None:
    box = torch.tensor([[4.0, 2.0, -1.0, 4.0, 2.0, 1.5, 0.0]])
    points = torch.tensor([[4, 2, -1], [4, 2, 0.5], [2, 2, 0], [6, 2, 0], [4, 1, 0], [4, 3, 0.0]])
    assert points_in_boxes(points, box, path)[:, 0].tolist() == [1, 1, 0, 0, 0, 0]


def test_part_names_the_first_box(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, boxes = scene(rng)
    marks = points_in_boxes(points, boxes, "numba").numpy()
    expected = np.where(marks.any(axis=1), marks.argmax(axis=1), -1)
    for pairs_at_once in (1 << 22, 3 * len(points)):  # all boxes at once, and three
        monkeypatch.setattr(operators, "_PAIRS_AT_ONCE", pairs_at_once)
        first = torch.full((2, len(points)), -1, dtype=torch.int)
        scenes = torch.stack([boxes, boxes.flip(0)]), points.expand(2, -1, -1)
        OPERATORS["points_in_boxes_part_forward"](*scenes, first)
        np.testing.assert_array_equal(first[0], expected)
        inside = torch.zeros(2, len(points), len(boxes), dtype=torch.int)
        OPERATORS["points_in_boxes_all_forward"](*scenes, inside)
        np.testing.assert_array_equal(inside[0], marks)
        np.testing.assert_array_equal(inside[1].flip(1), marks)


def test_no_boxes_and_no_points() -> None:
    first = torch.full((1, 4), -1, dtype=torch.int)
    OPERATORS["points_in_boxes_part_forward"](torch.ones(1, 0, 7), torch.ones(1, 4, 3), first)
    assert (first == -1).all()
    for path in ("numba", "torch"):
        assert points_in_boxes(torch.ones(0, 3), torch.ones(2, 7), path).shape == (0, 2)
        assert points_in_boxes(torch.ones(4, 3), torch.ones(0, 7), path).shape == (4, 0)


def test_jitted_and_plain_python_agree(rng: np.random.Generator) -> None:
    points, boxes = scene(rng, 50)
    filled = [np.zeros((20, 50), np.int32) for _ in range(2)]
    for kernel, marks in zip((operators._mark, operators._mark.py_func), filled, strict=True):
        kernel(boxes.numpy(), *points.t().contiguous().numpy(), marks)
    np.testing.assert_array_equal(*filled)


def test_nothing_is_read_on_the_host() -> None:
    boxes, points = torch.empty(2, 5, 7, device="meta"), torch.empty(2, 9, 3, device="meta")
    first = torch.empty(2, 9, dtype=torch.int, device="meta")
    inside = torch.empty(2, 9, 5, dtype=torch.int, device="meta")
    OPERATORS["points_in_boxes_part_forward"](boxes, points, first)
    OPERATORS["points_in_boxes_all_forward"](boxes, points, inside)
    assert (first.shape, inside.shape) == ((2, 9), (2, 9, 5))


def test_cuda_agrees_with_the_cpu(rng: np.random.Generator, cuda: torch.device) -> None:
    points, boxes = scene(rng)
    found = points_in_boxes(points.to(cuda), boxes.to(cuda), "torch").cpu()
    assert torch.equal(found, points_in_boxes(points, boxes, "torch"))
