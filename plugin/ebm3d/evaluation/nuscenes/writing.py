"""Result files that the development kit and the leaderboard accept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ebm3d.datasets.atomic import replacing
from ebm3d.datasets.nuscenes.classes import ATTRIBUTES, CLASSES
from ebm3d.datasets.nuscenes.poses import yaw_quaternions
from ebm3d.evaluation.nuscenes.boxes import BoolArray, NuScenesBoxes, check_detections
from ebm3d.evaluation.nuscenes.protocol import PROTOCOL

LIDAR_META: Mapping[str, bool] = {
    "use_camera": False,
    "use_lidar": True,
    "use_radar": False,
    "use_map": False,
    "use_external": False,
}


def write_results(
    path: str | Path,
    tokens: Sequence[str],
    boxes: NuScenesBoxes,
    meta: Mapping[str, Any] = LIDAR_META,
) -> None:
    """Write a result file, whole or not at all; each sample has a list, be it empty.

    Of each sample the 500 boxes of highest score are written, in the order of ``boxes``; those of
    score 0, on which the errors of true positives would depend, are not. Rotations are about z.

    Args:
        path: of the JSON file; its folder is made if absent.
        tokens: of all samples of the split.
        boxes: detections; ``sample`` counts ``tokens``.
        meta: what the detector used.

    Raises:
        ValueError: for boxes that the leaderboard refuses: not finite but in the velocity, sizes
            that are not positive, negative scores.
    """
    check_detections(boxes)
    with_score = boxes.score > 0
    kept = with_score & _within_limit(boxes, with_score)
    rows = np.flatnonzero(kept)
    rows = rows[np.argsort(boxes.sample[rows], kind="stable")]
    ends = np.cumsum(np.bincount(boxes.sample[rows], minlength=len(tokens))).tolist()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(f'{{"meta": {json.dumps(dict(meta))}, "results": {{')
        for i, (token, begin, end) in enumerate(zip(tokens, [0, *ends[:-1]], ends, strict=True)):
            records = _records(token, boxes.select(rows[begin:end]))
            file.write(f"{', ' if i else ''}{json.dumps(token)}: {json.dumps(records)}")
        file.write("}}\n")


def _within_limit(boxes: NuScenesBoxes, counted: BoolArray) -> BoolArray:
    """Which boxes are among those of highest score in their sample, ``(N,)``."""
    rows = np.flatnonzero(counted)
    order = rows[np.lexsort((-boxes.score[rows], boxes.sample[rows]))]
    samples = boxes.sample[order]
    rank = np.arange(len(order)) - np.searchsorted(samples, samples)
    within = np.zeros(len(boxes), dtype=np.bool_)
    within[order[rank < PROTOCOL.max_boxes_per_sample]] = True
    return within


def _records(token: str, boxes: NuScenesBoxes) -> list[dict[str, Any]]:
    """Entries of one sample."""
    columns = (boxes.translation, boxes.size, yaw_quaternions(boxes.yaw), boxes.velocity)
    indices = (boxes.class_index, boxes.attribute, boxes.score)
    values = (column.tolist() for column in (*columns, *indices))
    return [
        {
            "sample_token": token,
            "translation": translation,
            "size": size,
            "rotation": rotation,
            "velocity": velocity,
            "detection_name": CLASSES[class_index],
            "detection_score": score,
            "attribute_name": ATTRIBUTES[attribute] if attribute >= 0 else "",
        }
        for translation, size, rotation, velocity, class_index, attribute, score in zip(
            *values, strict=True
        )
    ]
