"""Between predictions of the host and boxes in nuScenes' global frame.

S frames; N boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ebm3d.adapters.metrics.base import FIELDS
from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.errors import input_error
from ebm3d.evaluation.nuscenes.boxes import (
    FloatArray,
    IntArray,
    NuScenesBoxes,
    join_boxes,
    no_boxes,
)
from ebm3d.evaluation.nuscenes.lidar_frame import detections_of_frame
from ebm3d.evaluation.nuscenes.protocol import PROTOCOL


@dataclass(frozen=True, eq=False)
class StageDetections:
    """Predictions of one stage that count, frame after frame.

    Args:
        boxes: global frame, N of them.
        rows: of them among all predictions of the stage, ``(N,)``.
        num_over_limit: predictions beyond the 500 of highest score in their frame.
    """

    boxes: NuScenesBoxes
    rows: IntArray
    num_over_limit: int


def stage_detections(
    results: Sequence[Mapping[str, Any]],
    stage: str,
    transforms: FloatArray,
    class_names: Sequence[str],
) -> StageDetections:
    """Return the predictions of one stage; those of score 0 are none.

    Args:
        results: of the metric's ``process``, S of them.
        stage: "before" or "after" refinement.
        transforms: LiDAR to global frame, ``(S, 4, 4)``.
        class_names: in the order of the labels.

    Raises:
        ValueError: if a box is not finite or of no size, a velocity is infinite, a score is
            negative or not finite, or a class is none of nuScenes'.
    """
    unknown = [name for name in class_names if name not in CLASSES]
    if unknown:
        expected = f"among {', '.join(CLASSES)}"
        raise input_error("classes of the data set", expected, ", ".join(unknown))
    indices = np.array([CLASSES.index(name) for name in class_names], dtype=np.int64)
    parts, rows = [no_boxes()], [np.zeros(0, dtype=np.int64)]
    first, num_over_limit = 0, 0
    for sample, result in enumerate(results):
        boxes, scores = result[stage], result[f"scores {stage}"]
        _check(boxes, scores, stage, result["frame_id"])
        best = np.argsort(-scores, kind="stable")[: int((scores > 0).sum())]
        chosen = np.sort(best[: PROTOCOL.max_boxes_per_sample])
        num_over_limit += len(best) - len(chosen)
        rows.append(first + chosen)
        first += len(boxes)
        columns = boxes[chosen], scores[chosen], indices[result["labels"][chosen]]
        parts.append(detections_of_frame(sample, *columns, transforms[sample]))
    return StageDetections(join_boxes(parts), np.concatenate(rows), num_over_limit)


def _check(boxes: FloatArray, scores: FloatArray, stage: str, frame_id: str) -> None:
    """Raise for what no result file may hold."""
    boxes_name, scores_name, _ = FIELDS[stage]
    is_box = np.isfinite(boxes[:, :7]).all(axis=1) & (boxes[:, 3:6] > 0).all(axis=1)
    is_box &= ~np.isinf(boxes[:, 7:]).any(axis=1)
    is_score = np.isfinite(scores) & (scores >= 0)
    for name, expected, values, valid in (
        (boxes_name, "finite, of positive size", boxes, is_box),
        (scores_name, "finite numbers of at least 0", scores, is_score),
    ):
        if not valid.all():
            got = f"{values[int(np.flatnonzero(~valid)[0])]} in frame {frame_id!r}"
            raise input_error(name, expected, got, "check the training")
