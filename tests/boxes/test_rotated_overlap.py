"""Overlap areas in torch: against the numba kernel, which rational arithmetic checks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.boxes.iou import intersection_area
from ebm3d.boxes.rotated_overlap import rotated_overlap_areas

_FIRST = (3.25, -1.5, 4.0, 2.0)
# Relative to the first, in its frame: center, sizes, yaw.
_RELATIVE = {
    "identical": (0.0, 0.0, 4.0, 2.0, 0.0),
    "half turn": (0.0, 0.0, 4.0, 2.0, np.pi),
    "quarter turn": (0.0, 0.0, 4.0, 2.0, np.pi / 2),
    "nested": (0.3, -0.2, 1.0, 0.5, 0.4),
    "nested, two common edges": (1.5, 0.75, 1.0, 0.5, 0.0),
    "touching at an edge": (4.0, 0.0, 4.0, 2.0, 0.0),
    "touching at a corner": (4.0, 2.0, 4.0, 2.0, 0.0),
    "corner inside": (2.0, 0.0, 1.0, 1.0, np.pi / 4),
    "cross": (0.0, 0.0, 0.5, 8.0, 0.0),
    "needle": (0.0, 0.0, 40.0, 1e-3, 1e-3),
    "segment": (0.0, 0.0, 4.0, 0.0, 0.2),
    "point": (0.0, 0.0, 0.0, 0.0, 0.2),
    "apart": (9.0, 1.0, 4.0, 2.0, 0.3),
}


def _rectangles(num: int, at: float, rng: np.random.Generator) -> Tensor:
    """Rectangles of 0.3 to 6 m within some meters of ``(at, -at)``."""
    low, high = [at - 4.0, -at - 4.0, 0.3, 0.3, -4.0], [at + 4.0, -at + 4.0, 6.0, 6.0, 4.0]
    return torch.from_numpy(rng.uniform(low, high, (num, 5)))


def _by_numba(first: Tensor, second: Tensor) -> Tensor:
    """The areas of the kernel for boxes."""
    boxes = [np.insert(t.double().numpy(), (2, 4), 1.0, axis=1) for t in (first, second)]
    areas = [intersection_area(a, b) for a, b in zip(*boxes, strict=True)]
    return torch.tensor(areas, dtype=torch.float64)


@pytest.mark.parametrize("at", [0.0, 437.21])
def test_degenerate_pairs_are_those_of_the_kernel(at: float) -> None:
    for yaw in (0.0, 0.5, 2.3, 1e5):
        for turn in (0.0, 1e-16, 1e-12, -1e-9, 1e-7, 1e-3):
            relative = torch.tensor(list(_RELATIVE.values()), dtype=torch.float64)
            first = relative.new_tensor([*_FIRST, yaw]).repeat(len(relative), 1)
            first[:, 0] += at
            second = relative.clone()
            along, across = relative[:, 0], relative[:, 1]
            second[:, 0] = first[:, 0] + np.cos(yaw) * along - np.sin(yaw) * across
            second[:, 1] = first[:, 1] + np.sin(yaw) * along + np.cos(yaw) * across
            second[:, 4] += yaw + turn
            for pair in ((first, second), (second, first)):
                areas = rotated_overlap_areas(*pair)
                torch.testing.assert_close(areas, _by_numba(*pair), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("at", [0.0, 900.0])
def test_random_pairs_are_those_of_the_kernel(rng: np.random.Generator, at: float) -> None:
    first, second = _rectangles(3000, at, rng), _rectangles(3000, at, rng)
    areas = rotated_overlap_areas(first, second)
    torch.testing.assert_close(areas, _by_numba(first, second), rtol=0.0, atol=1e-12)
    assert (areas > 0).sum() > 1000
    assert (areas == 0).sum() > 200


def test_yaws_of_many_turns_lose_nothing_in_their_difference(rng: np.random.Generator) -> None:
    first, second = _rectangles(500, 0.0, rng), _rectangles(500, 0.0, rng)
    first[:, 4] = torch.from_numpy(rng.uniform(-1e6, 1e6, 500))
    second[:, 4] = torch.from_numpy(rng.uniform(-1e5, 1e5, 500))
    areas = rotated_overlap_areas(first, second)
    torch.testing.assert_close(areas, _by_numba(first, second), rtol=0.0, atol=1e-12)


def test_far_pairs_have_exactly_no_overlap(rng: np.random.Generator) -> None:
    first, second = _rectangles(500, 0.0, rng), _rectangles(500, 20.0, rng)
    assert (rotated_overlap_areas(first, second) == 0).all()


def test_a_rectangle_covers_itself_at_any_yaw(rng: np.random.Generator) -> None:
    boxes = _rectangles(500, 350.0, rng)
    boxes[:, 4] = torch.from_numpy(rng.uniform(-1000.0, 1000.0, 500))
    expected = boxes[:, 2] * boxes[:, 3]
    torch.testing.assert_close(rotated_overlap_areas(boxes, boxes), expected, rtol=1e-14, atol=0.0)


def test_broadcast_pairs_are_all_pairs(rng: np.random.Generator) -> None:
    first, second = _rectangles(7, 0.0, rng), _rectangles(5, 0.0, rng)
    areas = rotated_overlap_areas(first[:, None], second[None])
    expected = rotated_overlap_areas(first.repeat_interleave(5, 0), second.repeat(7, 1))
    assert torch.equal(areas, expected.view(7, 5))
    assert rotated_overlap_areas(first[:0], second[:0]).shape == (0,)


def test_single_precision_is_kept_and_loses_only_its_rounding(rng: np.random.Generator) -> None:
    first, second = _rectangles(2000, 0.0, rng).float(), _rectangles(2000, 0.0, rng).float()
    areas = rotated_overlap_areas(first, second)
    assert areas.dtype == torch.float32
    exact = rotated_overlap_areas(first.double(), second.double())
    # Positions of 10 m are rounded to 1e-6 m, times edges of 6 m.
    torch.testing.assert_close(areas.double(), exact, rtol=0.0, atol=1e-4)


def test_nothing_is_read_on_the_host() -> None:
    boxes = torch.empty(6, 5, device="meta")
    assert rotated_overlap_areas(boxes, boxes).shape == (6,)


def test_cuda_agrees_with_the_cpu(rng: np.random.Generator, cuda: torch.device) -> None:
    first, second = _rectangles(2000, 30.0, rng), _rectangles(2000, 30.0, rng)
    areas = rotated_overlap_areas(first.to(cuda), second.to(cuda)).cpu()
    torch.testing.assert_close(areas, rotated_overlap_areas(first, second), rtol=0.0, atol=1e-12)


def test_wrong_columns_types_and_devices_raise() -> None:
    boxes = torch.ones(3, 5)
    for first, second, message in (
        (boxes[:, :4], boxes, r"first must have shape \(N, 5\)"),
        (boxes, torch.ones(3, 7), r"second must have shape \(N, 5\)"),
        (boxes.int(), boxes, "first must be of a floating-point type"),
        (boxes, boxes.double(), "second must be of the type and on the device of first"),
        (boxes, boxes.to("meta"), "second must be of the type and on the device of first"),
    ):
        with pytest.raises(ValueError, match=message):
            rotated_overlap_areas(first, second)
