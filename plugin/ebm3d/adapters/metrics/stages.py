"""What a sample holds of the boxes before refinement and after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ebm3d.adapters.dense_heads.after_refinement import INITIAL_SCORES
from ebm3d.adapters.dense_heads.refined_dense_head import INITIAL_INSTANCES

FIELDS = {"before": "initial_bboxes_3d", "after": "bboxes_3d"}
"""Where predictions hold boxes; before refinement only if they were refined."""


@dataclass(frozen=True)
class StageInstances:
    """The boxes of one stage.

    Attributes:
        boxes: the host's, N of them.
        scores: ``(N,)``.
        labels: ``(N,)``.
        densities: of the boxes, or None.
    """

    boxes: Any
    scores: Tensor
    labels: Tensor
    densities: Any


def has_own_boxes_before(sample: Mapping[str, Any]) -> bool:
    """Whether the boxes before are a set of their own, not row by row those that were refined.

    So it is where boxes were refined before NMS: the detector alone would have kept others.

    Args:
        sample: as the metric receives it.
    """
    return INITIAL_INSTANCES in sample


def stages_of(sample: Mapping[str, Any]) -> dict[str, StageInstances]:
    """Return what the detector gives alone, under "before", and what is predicted, under "after".

    Args:
        sample: with ``pred_instances_3d`` of a dense head, refined or not; in the latter case
            without "before".
    """
    predicted = sample["pred_instances_3d"]
    after = _of_detector(predicted)
    if has_own_boxes_before(sample):
        return {"before": _of_detector(sample[INITIAL_INSTANCES]), "after": after}
    if FIELDS["before"] not in predicted:
        return {"after": after}
    before = StageInstances(
        predicted[FIELDS["before"]],
        predicted.get(INITIAL_SCORES, predicted["scores_3d"]),
        predicted["labels_3d"],
        predicted.get("initial_box_distribution"),
    )
    return {"before": before, "after": after}


def _of_detector(instances: Mapping[str, Any]) -> StageInstances:
    """Instances of a dense head, whose densities are of its boxes."""
    return StageInstances(
        instances["bboxes_3d"],
        instances["scores_3d"],
        instances["labels_3d"],
        instances.get("box_distribution"),
    )
