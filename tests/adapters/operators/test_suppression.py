"""Both suppressions against a list from which boxes are struck."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.adapters.operators import OPERATORS
from ebm3d.adapters.operators.suppression import kept_rows
from tests.adapters.operators.calls import choose, rotated_iou, rotated_nms

nms = import_module("ebm3d.adapters.operators.nms")
nms_rotated = import_module("ebm3d.adapters.operators.nms_rotated")


@pytest.fixture(params=["numba", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both implementations."""
    choose(monkeypatch, request.param)
    return request.param


def slow_suppression(scores: Tensor, goes: Callable[[int, int], bool]) -> list[int]:
    """Boxes that stay, where ``goes(kept, other)`` says whether the other one goes."""
    left = sorted(range(len(scores)), key=lambda row: -float(scores[row]))
    kept = []
    while left:
        kept.append(left.pop(0))
        left = [row for row in left if not goes(kept[-1], row)]
    return kept


def detections(rng: np.random.Generator, num: int = 80) -> tuple[Tensor, Tensor]:
    """Boxes (x, y, w, h, angle) in groups, and scores of which many are equal."""
    centers = rng.uniform(-10.0, 10.0, (8, 2))[rng.integers(0, 8, num)]
    shapes = rng.uniform([1.0, 1.0, -3.0], [4.0, 2.0, 3.0], (num, 3))
    boxes = np.concatenate([centers + rng.normal(size=(num, 2)), shapes], axis=1)
    scores = rng.integers(0, 30, num) / 30
    return torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(scores.astype(np.float32))


def corner_iou(first: Tensor, second: Tensor, offset: int) -> float:
    """IoU of (x1, y1, x2, y2)."""
    low, high = torch.maximum(first[:2], second[:2]), torch.minimum(first[2:], second[2:])
    common = (high - low + offset).clamp(min=0).prod()
    areas = [(box[2:] - box[:2] + offset).prod() for box in (first, second)]
    return float(common / (areas[0] + areas[1] - common))


@pytest.mark.parametrize("threshold", [0.01, 0.2, 0.5])
@pytest.mark.usefixtures("path")
def test_rotated_boxes_that_stay(rng: np.random.Generator, threshold: float) -> None:
    boxes, scores = detections(rng)
    scores = scores + torch.linspace(0.0, 1e-3, len(scores))  # its order of ties is torch's
    ious = rotated_iou(boxes, boxes, "iou", False)
    expected = slow_suppression(scores, lambda kept, row: ious[kept, row] >= threshold)
    assert rotated_nms(boxes, scores, threshold).tolist() == expected
    assert 8 <= len(expected) < 75


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.01, 0.2, 0.5])
@pytest.mark.usefixtures("path")
def test_upright_boxes_that_stay(rng: np.random.Generator, threshold: float, offset: int) -> None:
    boxes, scores = detections(rng)
    boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], dim=1)
    expected = slow_suppression(
        scores, lambda kept, row: corner_iou(boxes[kept], boxes[row], offset) > threshold
    )
    assert OPERATORS["nms"](boxes, scores, threshold, offset).tolist() == expected


@pytest.mark.usefixtures("path")
def test_labels_do_not_separate_boxes(rng: np.random.Generator) -> None:
    """As in mmcv: its kernels skip the column, and its record says the same."""
    boxes, scores = detections(rng)
    labels = torch.from_numpy(rng.integers(0, 3, len(boxes)).astype(np.float32))
    with_labels = rotated_nms(boxes, scores, 0.2, labels)
    assert torch.equal(with_labels, rotated_nms(boxes, scores, 0.2))


@pytest.mark.usefixtures("path")
def test_no_box_and_boxes_of_which_none_is_a_number() -> None:
    boxes = torch.full((3, 5), torch.nan)
    scores = torch.tensor([0.1, 0.3, 0.2])
    assert rotated_nms(boxes, scores, 0.5).tolist() == [1, 2, 0]
    assert OPERATORS["nms"](boxes[:, :4], scores, 0.5, 0).tolist() == [1, 2, 0]
    assert rotated_nms(boxes[:0], scores[:0], 0.5).tolist() == []
    assert OPERATORS["nms"](boxes[:0, :4], scores[:0], 0.5, 0).tolist() == []


def test_jitted_and_plain_python_agree(rng: np.random.Generator) -> None:
    boxes, _ = detections(rng, 40)
    upright = np.insert(boxes.double().numpy(), (2, 4), 0.0, axis=1)
    kernel = nms_rotated._suppress
    np.testing.assert_array_equal(kernel(upright, 0.2), kernel.py_func(upright, 0.2))
    flat = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], dim=1).numpy()
    arguments = flat, np.float32(0.2), np.float32(0)
    np.testing.assert_array_equal(nms._suppress(*arguments), nms._suppress.py_func(*arguments))


def test_tables_are_made_without_a_read_on_the_host() -> None:
    boxes = torch.empty(7, 5, device="meta")
    assert nms_rotated.rotated_suppressions(boxes, 0.5).shape == (7, 7)
    assert nms.suppressions(boxes[:, :4], 0.5, 0).shape == (7, 7)


def test_removed_boxes_remove_nothing() -> None:
    """A chain: the first removes the second, which would have removed the third."""
    chain = torch.zeros(3, 3, dtype=torch.bool)
    chain[0, 1] = chain[1, 2] = True
    assert kept_rows(chain).tolist() == [0, 2]


def test_cuda_keeps_the_boxes_of_the_cpu(rng: np.random.Generator, cuda: torch.device) -> None:
    boxes, scores = detections(rng, 600)
    scores = scores + torch.linspace(0.0, 1e-3, len(scores))
    found = rotated_nms(boxes.to(cuda), scores.to(cuda), 0.2)
    assert found.device.type == "cuda"
    assert torch.equal(found.cpu(), rotated_nms(boxes, scores, 0.2))
    flat = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], dim=1)
    found = OPERATORS["nms"](flat.to(cuda), scores.to(cuda), 0.2, 0)
    assert torch.equal(found.cpu(), OPERATORS["nms"](flat, scores, 0.2, 0))
