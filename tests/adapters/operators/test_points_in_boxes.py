"""Points in boxes against those of the core."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.adapters.operators import OPERATORS
from ebm3d.adapters.operators import points_in_boxes as operators
from ebm3d.boxes.points_in_boxes import points_in_boxes as core_points_in_boxes
from tests.adapters.operators.calls import points_in_boxes


def scene(rng: np.random.Generator, num_points: int = 3000) -> tuple[Tensor, Tensor]:
    """Points (P, 3) and boxes (N, 7), some of which share points."""
    points = rng.uniform([0, -10, -2], [20, 10, 2], (num_points, 3))
    boxes = rng.uniform([2, -8, -2, 1, 1, 1, -4], [18, 8, 0, 6, 3, 3, 4], (20, 7))
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(boxes.astype(np.float32))


def test_points_inside_are_those_of_the_core(rng, path):
    """It counts faces and computes in float64: random points show neither."""
    points, boxes = scene(rng)
    expected = core_points_in_boxes(points.numpy(), boxes.numpy())
    np.testing.assert_array_equal(points_in_boxes(points, boxes, path).numpy(), expected)
    assert expected.sum() > 200
    assert (expected.sum(axis=1) > 1).sum() > 10


def test_bottom_and_top_belong_to_a_box_and_its_sides_do_not(path):
    box = torch.tensor([[4.0, 2.0, -1.0, 4.0, 2.0, 1.5, 0.0]])
    points = torch.tensor([[4, 2, -1], [4, 2, 0.5], [2, 2, 0], [6, 2, 0], [4, 1, 0], [4, 3, 0.0]])
    assert points_in_boxes(points, box, path)[:, 0].tolist() == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("boxes_at_once", [20, 3])
def test_part_names_the_first_box_of_each_scene(rng, monkeypatch, boxes_at_once):
    monkeypatch.setattr(operators, "PAIRS_AT_ONCE", boxes_at_once * 2 * 3000)
    points, boxes = scene(rng)
    inputs = torch.stack([boxes, boxes.flip(0)]), points.expand(2, -1, -1)
    first = torch.full((2, len(points)), -1, dtype=torch.int)
    inside = torch.zeros(2, len(points), len(boxes), dtype=torch.int)
    OPERATORS["points_in_boxes_part_forward"](*inputs, first)
    OPERATORS["points_in_boxes_all_forward"](*inputs, inside)
    for scene_boxes, row, marks in zip(inputs[0], first, inside, strict=True):
        expected = points_in_boxes(points, scene_boxes, "numba")
        assert torch.equal(marks, expected)
        numbers = np.where(expected.any(dim=1), expected.numpy().argmax(axis=1), -1)
        np.testing.assert_array_equal(row, numbers)


@pytest.mark.parametrize("shape", [(0, 20), (3000, 0), (0, 0)])
def test_no_points_and_no_boxes(rng, path, shape):
    points, boxes = scene(rng)
    assert points_in_boxes(points[: shape[0]], boxes[: shape[1]], path).shape == shape
    first = torch.zeros(1, shape[0], dtype=torch.int)
    inputs = boxes[None, : shape[1]], points[None, : shape[0]]
    OPERATORS["points_in_boxes_part_forward"](*inputs, first)
    assert (first == -1).all()
