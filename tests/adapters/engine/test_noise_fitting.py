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
    true: Tensor, detected: Tensor, scores: Any, labels: Any
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
            bboxes_3d=LiDARInstance3DBoxes(detected),
            scores_3d=torch.tensor(scores),
            labels_3d=torch.tensor(labels[1], dtype=torch.int64),
        ),
    )
    pairs: dict[int, list[tuple[Tensor, Tensor]]] = {}
    _collect(result, pairs, 0.3)
    return {
        label: [(float(one[0, 0]), float(other[0, 0])) for one, other in of_class]
        for label, of_class in pairs.items()
    }


@pytest.mark.parametrize(
    ("true", "detected", "scores", "labels", "expected"),
    [
        # A true box is paired once, with the detection of the highest score.
        ((10,), (10.1, 10.5), (0.3, 0.9), ((0,), (0, 0)), {0: [(10.0, 10.5)]}),
        # A detection is paired with the true box it overlaps most.
        ((10, 12), (11.5,), (0.9,), ((0, 0), (0,)), {0: [(12.0, 11.5)]}),
        # Classes do not mix, and boxes of no class are left out.
        ((10, 20, 30), (10, 20, 30), (0.9,) * 3, ((0, 1, -1), (0, 0, -1)), {0: [(10.0, 10.0)]}),
        # A shift of two meters of four is an overlap of a third, of three a seventh.
        ((10,), (12,), (0.9,), ((0,), (0,)), {0: [(10.0, 12.0)]}),
        ((10,), (13,), (0.9,), ((0,), (0,)), {}),
        ((10,), (), (), ((0,), ()), {}),
    ],
)
def test_boxes_are_paired_by_score_overlap_and_class(
    true: Any, detected: Any, scores: Any, labels: Any, expected: Any
):
    assert _pairs(_cars(*true), _cars(*detected), scores, labels) == expected
