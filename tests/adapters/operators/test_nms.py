"""Upright boxes against a list from which boxes are struck; the record has rotated ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.adapters.operators.calls import nms, rotated_nms

pytestmark = pytest.mark.usefixtures("path")


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


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.01, 0.2, 0.5])
def test_kept_upright_boxes(rng, threshold, offset):
    boxes, scores = detections(rng)
    boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], dim=1)
    left, kept = sorted(range(len(scores)), key=lambda row: -float(scores[row])), []
    while left:
        kept.append(left.pop(0))
        best = boxes[kept[-1]]
        left = [row for row in left if not corner_iou(best, boxes[row], offset) > threshold]
    assert nms(boxes, scores, threshold, offset).tolist() == kept
    assert 8 <= len(kept) < 80


def test_boxes_that_are_not_finite_suppress_nothing():
    boxes, scores = torch.full((3, 5), torch.nan), torch.tensor([0.1, 0.3, 0.2])
    assert rotated_nms(boxes, scores, 0.5).tolist() == [1, 2, 0]
    assert nms(boxes[:, :4], scores, 0.5).tolist() == [1, 2, 0]
    assert nms(boxes[:0, :4], scores[:0], 0.5).tolist() == []


@pytest.mark.parametrize(
    ("boxes", "scores", "name"),
    [
        (torch.rand(3, 7), torch.rand(3), "dets"),
        (torch.ones(3, 5).int(), torch.rand(3), "dets"),
        (torch.rand(9, 5), torch.rand(4), "scores"),
    ],
)
def test_bad_boxes_and_scores_are_refused(boxes, scores, name):
    with pytest.raises(ValueError, match=name):
        rotated_nms(boxes, scores, 0.1)
