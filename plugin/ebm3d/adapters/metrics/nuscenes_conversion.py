"""Between the host's info files and predictions, and boxes in nuScenes' global frame.

S frames; N boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.adapters.metrics.base import FIELDS
from ebm3d.datasets.nuscenes.attributes import attributes_by_speed
from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.errors import input_error
from ebm3d.evaluation.nuscenes.boxes import FloatArray, IntArray, NuScenesBoxes, join_boxes, no_boxes
from ebm3d.evaluation.nuscenes.protocol import PROTOCOL


@dataclass(frozen=True, eq=False)
class StageDetections:
    """Predictions of one stage, in the order of the frames.

    Args:
        boxes: in the global frame, at most 500 a frame.
        rows: of ``boxes`` among all predictions, ``(N,)``.
        num_left_out: predictions beyond 500 of their frame.
    """

    boxes: NuScenesBoxes
    rows: IntArray
    num_left_out: int


def to_global(boxes: FloatArray, to_global: FloatArray) -> dict[str, FloatArray]:
    """Return center, size, yaw and velocity in the global frame, as columns of ``NuScenesBoxes``.

    Args:
        boxes: ``(N, 7)`` or, with velocities, ``(N, 9)``, LiDAR frame, ``z`` at the bottom.
        to_global: transforms from the LiDAR frame, ``(4, 4)`` or ``(N, 4, 4)``.
    """
    rotation, translation = to_global[..., :3, :3], to_global[..., :3, 3]
    centers = boxes[:, :3] + np.outer(boxes[:, 5] / 2, [0, 0, 1])
    velocity = boxes[:, 7:9] if boxes.shape[1] >= 9 else np.full((len(boxes), 2), np.nan)
    heading = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])], axis=1)
    heading = (rotation[..., :2] @ heading[..., None])[..., 0]
    return {
        "translation": (rotation @ centers[..., None])[..., 0] + translation,
        "size": boxes[:, [4, 3, 5]],
        "yaw": np.arctan2(heading[:, 1], heading[:, 0]),
        "velocity": (rotation[..., :2, :2] @ velocity[..., None])[..., 0],
    }


def to_lidar(boxes: NuScenesBoxes, to_global: FloatArray) -> FloatArray:
    """Return boxes of the global frame in the LiDAR frame, ``z`` at the bottom, ``(N, 9)``.

    ``to_global`` ``(N, 4, 4)`` are transforms from the LiDAR frame; vertical velocities are 0.
    """
    rotation = np.swapaxes(to_global[:, :3, :3], 1, 2)
    centers = (rotation @ (boxes.translation - to_global[:, :3, 3])[..., None])[..., 0]
    heading = np.stack([np.cos(boxes.yaw), np.sin(boxes.yaw)], axis=1)
    heading = (rotation[..., :2] @ heading[..., None])[..., 0]
    velocity = (rotation[..., :2, :2] @ boxes.velocity[..., None])[..., 0]
    centers[:, 2] -= boxes.size[:, 2] / 2
    yaw = np.arctan2(heading[:, 1], heading[:, 0])
    return np.column_stack([centers, boxes.size[:, [1, 0, 2]], yaw, velocity])


def class_indices(names: Sequence[str]) -> IntArray:
    """Return for each label of a model the index in ``CLASSES``.

    Raises:
        ValueError: if there is no such class.
    """
    unknown = [name for name in names if name not in CLASSES]
    if unknown:
        expected = f"among {', '.join(CLASSES)}"
        raise input_error("classes of the data set", expected, ", ".join(unknown))
    return np.array([CLASSES.index(name) for name in names], dtype=np.int64)


def stage_detections(
    results: Sequence[Mapping[str, Any]],
    stage: str,
    transforms: FloatArray,
    class_names: Sequence[str],
) -> StageDetections:
    """Return the predictions of one stage.

    Args:
        results: of the metric's ``process``, a frame each; their positions are the samples.
        stage: "before" or "after" refinement.
        transforms: of each frame, LiDAR to global, ``(S, 4, 4)``.
        class_names: in the order of the labels.

    Raises:
        ValueError: if a box is not finite or has no size, a velocity is infinite, a score is
            negative or not finite, or a class is unknown.
    """
    indices = class_indices(class_names)
    parts, rows, first, num_left_out = [no_boxes()], [], 0, 0
    for sample, result in enumerate(results):
        boxes, scores = result[stage], result[f"scores {stage}"]
        _check(boxes, scores, stage, result["frame_id"])
        best = np.argsort(-scores, kind="stable")[: PROTOCOL.max_boxes_per_sample]
        chosen = np.sort(best)
        rows.append(first + chosen)
        first += len(boxes)
        num_left_out += len(boxes) - len(chosen)
        columns = to_global(boxes[chosen], transforms[sample])
        classes = indices[result["labels"][chosen]]
        parts.append(
            NuScenesBoxes(
                sample=np.full(len(chosen), sample),
                class_index=classes,
                attribute=attributes_by_speed(classes, columns["velocity"]),
                score=scores[chosen],
                num_points=np.full(len(chosen), -1),
                **columns,
            )
        )
    joined = np.concatenate([np.zeros(0, dtype=np.int64), *rows])
    return StageDetections(join_boxes(parts), joined, num_left_out)


def _check(boxes: FloatArray, scores: FloatArray, stage: str, frame_id: str) -> None:
    """Raise for boxes and scores that no result file may hold."""
    fields = FIELDS[stage]
    is_box = np.isfinite(boxes[:, :7]).all(axis=1) & (boxes[:, 3:6] > 0).all(axis=1)
    is_box &= ~np.isinf(boxes[:, 7:]).any(axis=1)
    is_score = np.isfinite(scores) & (scores >= 0)
    for name, expected, values, valid in (
        (fields[0], "finite, of positive size", boxes, is_box),
        (fields[1], "finite numbers of at least 0", scores, is_score),
    ):
        if not valid.all():
            got = f"{values[int(np.flatnonzero(~valid)[0])]} in frame {frame_id!r}"
            raise input_error(name, expected, got, "check the training")
