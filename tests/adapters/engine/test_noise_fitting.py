"""Which boxes the fit of the noise pairs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def _cars(*along: float) -> Tensor:
    """Cars of four meters at so many meters along the x axis."""
    boxes = torch.tensor([[0.0, 0, -1.7, 4, 2, 1.5, 0]]).repeat(len(along), 1)
    boxes[:, 0] = torch.tensor(along)
    return boxes


def _pairs(
    true: Tensor, found: Tensor, scores: list[float], labels: tuple[list[int], list[int]]
) -> dict[int, list[tuple[float, float]]]:
    """Positions along x of the pairs by class, at an overlap of 0.3 and more."""
    from mmdet3d.structures import LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    from ebm3d.adapters.engine.noise_fitting import _collect

    result: Any = SimpleNamespace(
        eval_ann_info={
            "gt_bboxes_3d": LiDARInstance3DBoxes(true),
            "gt_labels_3d": torch.tensor(labels[0]).numpy(),
        },
        pred_instances_3d=InstanceData(
            bboxes_3d=LiDARInstance3DBoxes(found),
            scores_3d=torch.tensor(scores),
            labels_3d=torch.tensor(labels[1], dtype=torch.int64),
        ),
    )
    pairs: dict[int, list[tuple[Tensor, Tensor]]] = {}
    _collect(result, pairs, 0.3)
    return {
        label: [(float(one[0, 0]), float(other[0, 0])) for one, other in own]
        for label, own in pairs.items()
    }


def test_a_true_box_is_paired_once_with_the_detection_of_the_highest_score():
    found = _pairs(_cars(10), _cars(10.1, 10.5), [0.3, 0.9], ([0], [0, 0]))
    assert found == {0: [(10.0, 10.5)]}


def test_a_detection_is_paired_with_the_true_box_it_overlaps_most():
    found = _pairs(_cars(10, 12), _cars(11.5), [0.9], ([0, 0], [0]))
    assert found == {0: [(12.0, 11.5)]}


def test_classes_do_not_mix_and_boxes_of_no_class_are_left_out():
    found = _pairs(_cars(10, 20, 30), _cars(10, 20, 30), [0.9] * 3, ([0, 1, -1], [0, 0, -1]))
    assert found == {0: [(10.0, 10.0)]}


def test_a_box_of_little_overlap_is_no_error_of_localization():
    # Two meters of four overlap by a third, three by a seventh.
    assert _pairs(_cars(10), _cars(12), [0.9], ([0], [0])) == {0: [(10.0, 12.0)]}
    assert _pairs(_cars(10), _cars(13), [0.9], ([0], [0])) == {}


def test_frame_without_detections_has_no_pairs():
    assert _pairs(_cars(10), _cars(), [], ([0], [])) == {}
