"""What NDS does not see: AP at 3D IoU, and the errors of matched boxes.

Pairs are the official matches at 2 m. P pairs; G evaluated labels; meters, radians and m/s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.evaluation.localization import (
    DISTANCE_BANDS,
    MatchedPairs,
    bands,
    measure_pairs,
    summarize,
    summarize_errors,
)
from ebm3d.evaluation.nuscenes.boxes import BoolArray, FloatArray, IntArray
from ebm3d.evaluation.nuscenes.evaluation import average_precisions
from ebm3d.evaluation.nuscenes.matching import NuScenesMatching, match_greedily
from ebm3d.evaluation.nuscenes.protocol import IOU_LEVELS, IOU_THRESHOLDS

VELOCITY_ERRORS = ("velocity_along", "velocity_across", "velocity")
POINT_BANDS = (1.0, 5.0, 20.0, 100.0, np.inf)  # of LiDAR and radar in one key frame


@dataclass(frozen=True, eq=False)
class NuScenesPairs:
    """Pairs of an evaluated label and a detection.

    Args:
        matched: overlaps and errors of the boxes; rows of ``NuScenesMatching``.
        velocity_errors: columns ``VELOCITY_ERRORS``, ``(P, 3)``: along and across the label's
            heading, and their norm; NaN where one of the velocities is unknown.
        class_index: of the labels, ``(P,)``.
    """

    matched: MatchedPairs
    velocity_errors: FloatArray
    class_index: IntArray

    def select(self, which: BoolArray | IntArray) -> NuScenesPairs:
        """Return the pairs chosen by a mask ``(P,)`` or by indices."""
        return NuScenesPairs(
            self.matched.select(which), self.velocity_errors[which], self.class_index[which]
        )


def find_pairs(matching: NuScenesMatching) -> NuScenesPairs:
    """Measure the official matches, those of the errors of true positives."""
    return measure(matching, *matching.pairs(matching.protocol.dist_th_tp))


def measure(matching: NuScenesMatching, labels: IntArray, detections: IntArray) -> NuScenesPairs:
    """Measure pairs of rows of labels and detections, both ``(P,)``."""
    truth, found = matching.labels, matching.detections
    boxes = truth.upright_boxes, found.upright_boxes
    delta = found.velocity[detections] - truth.velocity[labels]
    cosine, sine = np.cos(truth.yaw[labels]), np.sin(truth.yaw[labels])
    along = cosine * delta[:, 0] + sine * delta[:, 1]
    across = cosine * delta[:, 1] - sine * delta[:, 0]
    return NuScenesPairs(
        measure_pairs(*boxes, labels, detections),
        np.column_stack([along, across, np.hypot(along, across)]),
        truth.class_index[labels],
    )


def match_by_iou(matching: NuScenesMatching) -> NDArray[np.int32]:
    """Return the label of each detection, matched by 3D IoU, ``(2, D)``; rows ``IOU_LEVELS``."""
    limits = np.array([IOU_THRESHOLDS[name] for name in CLASSES])
    boxes = matching.truth, matching.labels, matching.detections
    return match_greedily(*boxes, limits, by_iou=True)


def iou_average_precisions(
    matching: NuScenesMatching, weights: NDArray[np.int32] | None = None
) -> FloatArray:
    """AP as the official one, of matches by 3D IoU, ``(B, C, 2)``; see ``weighted_figures``."""
    if weights is None:
        weights = np.ones((1, matching.truth.num_scenes), dtype=np.int32)
    return average_precisions(matching, match_by_iou(matching), weights)


def summarize_localization(
    matching: NuScenesMatching, distance_bands: Sequence[float] = DISTANCE_BANDS
) -> dict[str, Any]:
    """Summarize AP at 3D IoU, and the pairs by class, distance from the car and points."""
    aps = iou_average_precisions(matching)[0]
    pairs = find_pairs(matching)
    classes: dict[str, Any] = {}
    distances = matching.truth.ego_distances(matching.labels)
    groups = {
        "by_distance": (distances, distance_bands),
        "by_points": (matching.labels.num_points, POINT_BANDS),
    }
    for name in matching.protocol.class_range:
        index = CLASSES.index(name)
        counted = matching.labels.class_index == index
        of_class = pairs.select(pairs.class_index == index)
        tree = _summarize(of_class, int(counted.sum()))
        for group, (values, borders) in groups.items():
            tree[group] = {}
            for band, low, high in bands(borders):
                inside = counted & (values >= low) & (values < high)
                part = of_class.select(inside[of_class.matched.labels])
                tree[group][band] = _summarize(part, int(inside.sum()))
        classes[name] = tree
    return {
        "iou_thresholds": {n: list(IOU_THRESHOLDS[n]) for n in classes},
        "iou_aps": {n: _by_level(aps[CLASSES.index(n)]) for n in classes},
        "mean_iou_aps": _by_level(aps.mean(axis=0)),
        "classes": classes,
    }


def _summarize(pairs: NuScenesPairs, num_labels: int) -> dict[str, Any]:
    """Figures of pairs, ``None`` where there are none."""
    tree = summarize(pairs.matched, num_labels)
    for name, errors in zip(VELOCITY_ERRORS, pairs.velocity_errors.T, strict=True):
        tree["errors"][name] = summarize_errors(errors[~np.isnan(errors)])
    return tree


def _by_level(aps: FloatArray) -> Mapping[str, float]:
    """AP ``(2,)`` by name of the level."""
    return dict(zip(IOU_LEVELS, aps.tolist(), strict=True))
