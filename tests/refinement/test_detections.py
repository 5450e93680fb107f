"""Which detection belongs to which label."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from ebm3d.boxes.iou import iou_bev
from ebm3d.refinement.detections import MIN_IOU, class_labels, match_boxes


def test_pairs_are_of_one_class_and_overlap_most_in_all(rng: np.random.Generator) -> None:
    true = np.tile([10.0, 0.0, -1.0, 4.0, 1.8, 1.5, 0.0], (4, 1))
    true[:, 1] = [0.0, 0.6, 10.0, 20.0]
    boxes = true[[1, 0, 2, 3]] + 0.05 * rng.normal(size=(4, 7))
    boxes[:, 2] += 1.0  # heights do not matter
    names = np.array(["Car", "Car", "Car", "Van"])
    partner = match_boxes(boxes, names, true, np.array(["Car"] * 4))
    assert partner.tolist() == _best_of_all(boxes[:3], true) + [-1]
    none = np.zeros((0, 7))
    assert match_boxes(none, names[:0], true, names).shape == (0,)
    assert match_boxes(boxes, names, none, names[:0]).tolist() == [-1] * 4


def _best_of_all(boxes: NDArray[np.float64], true: NDArray[np.float64]) -> list[int]:
    """By trying every assignment."""
    iou = iou_bev(boxes, true)
    iou[iou < MIN_IOU] = 0
    rows = np.arange(len(boxes))
    best = max(permutations(range(len(true)), len(boxes)), key=lambda p: iou[rows, p].sum())
    return [column if iou[row, column] > 0 else -1 for row, column in enumerate(best)]


def test_unknown_classes_have_no_label() -> None:
    assert class_labels(np.array(["b", "x", "a"]), ("a", "b")).tolist() == [1, -1, 0]
