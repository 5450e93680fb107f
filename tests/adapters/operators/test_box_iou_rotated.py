"""IoU of rotated boxes against rational arithmetic."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.adapters.operators.calls import choose, rotated_iou
from tests.oracles.iou_rational import rational_iou

box_iou_rotated = import_module("ebm3d.adapters.operators.box_iou_rotated")


@pytest.fixture(params=["numba", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both implementations."""
    choose(monkeypatch, request.param)
    return request.param


def boxes_around(rng: np.random.Generator, num: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Boxes (x, y, w, h, angle) that overlap often."""
    low, high = [-3, -3, 0.5, 0.5, -4], [3, 3, 5, 5, 4]
    return torch.from_numpy(rng.uniform(low, high, (num, 5))).to(dtype)


def slow_ratio(first: Tensor, second: Tensor, mode: str) -> float:
    """Rational IoU, and by it the common part of the first box."""
    pair = [np.insert(box.double().numpy(), (2, 4), 1.0) for box in (first, second)]
    iou = rational_iou(*pair)[0]
    area, other = (float(box[2] * box[3]) for box in (first, second))
    return iou if mode == "iou" else iou * (area + other) / (1.0 + iou) / area


@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.usefixtures("path")
def test_ratios_match_rational_arithmetic(rng: np.random.Generator, mode: str) -> None:
    first, second = boxes_around(rng, 12), boxes_around(rng, 9)
    expected = [[slow_ratio(a, b, mode) for b in second] for a in first]
    ratios = rotated_iou(first, second, mode, aligned=False)
    np.testing.assert_allclose(ratios, expected, rtol=0, atol=1e-12)
    assert (np.array(expected) > 0.1).sum() > 20
    aligned = rotated_iou(first[:9], second, mode, aligned=True)
    assert torch.equal(aligned, ratios[:9].diagonal())


@pytest.mark.usefixtures("path")
def test_boxes_without_area_overlap_nothing() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 2, 0.5], [0, 0, 0, 2, 0.5], [0, 0, 1e-8, 1e-8, 0]])
    expected = torch.zeros(3, 3)
    expected[0, 0] = 1.0
    for mode in ("iou", "iof"):
        torch.testing.assert_close(rotated_iou(boxes, boxes, mode, False), expected)


@pytest.mark.usefixtures("path")
def test_no_boxes_and_input_that_is_kept(rng: np.random.Generator) -> None:
    boxes = boxes_around(rng, 3, torch.float32).requires_grad_()
    before = boxes.detach().clone()
    assert rotated_iou(boxes, boxes[:0], "iou", False).shape == (3, 0)
    assert rotated_iou(boxes[:0], boxes[:0], "iou", True).shape == (0,)
    assert rotated_iou(boxes, boxes, "iou", False).dtype == torch.float32
    assert torch.equal(boxes, before)


def test_rows_in_blocks_are_all_rows(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = boxes_around(rng, 23), boxes_around(rng, 23)
    expected = [rotated_iou(first, second, "iof", aligned) for aligned in (False, True)]
    choose(monkeypatch, "torch")
    monkeypatch.setattr(box_iou_rotated, "_PAIRS_AT_ONCE", 50)
    found = [rotated_iou(first, second, "iof", aligned) for aligned in (False, True)]
    for part, whole in zip(found, expected, strict=True):
        torch.testing.assert_close(part, whole, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("aligned", [True, False])
def test_nothing_is_read_on_the_host(aligned: bool) -> None:
    boxes = torch.empty(6, 5, device="meta")
    assert rotated_iou(boxes, boxes, "iou", aligned).numel() == (6 if aligned else 36)


def test_cuda_agrees_with_the_cpu(rng: np.random.Generator, cuda: torch.device) -> None:
    first, second = boxes_around(rng, 100), boxes_around(rng, 80)
    for mode in ("iou", "iof"):
        found = rotated_iou(first.to(cuda), second.to(cuda), mode, False).cpu()
        expected = rotated_iou(first, second, mode, False)
        torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-12)
