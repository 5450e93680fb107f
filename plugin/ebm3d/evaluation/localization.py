"""Localization of detected objects: matched pairs, their errors in ``upright_boxes``, summaries.

P matched pairs of a label and a detection; G labels, D detections. Meters and radians.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from ebm3d.boxes.iou import iou_3d, iou_bev
from ebm3d.boxes.kernels import threads_for
from ebm3d.errors import input_error, shape_error
from ebm3d.evaluation.kitti_protocol import Difficulty
from ebm3d.evaluation.matching import COUNTED, SKIPPED, FloatArray, IntArray, StatusArray
from ebm3d.evaluation.matching_problem import MatchingProblem
from ebm3d.evaluation.overlaps import upright_boxes

_SECONDS_PER_PAIR = 1e-8  # to the right power of ten
MIN_OVERLAP: Mapping[str, float] = {"car": 0.5, "pedestrian": 0.25, "cyclist": 0.25}
"""BEV IoU a pair must exceed, the loosest in common use; errors in height do not hide a pair."""

ERRORS = ("along", "across", "vertical", "length", "width", "height", "yaw", "yaw_mod_pi")
QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.95)
DISTANCE_BANDS = (0.0, 20.0, 40.0, np.inf)
POINT_BANDS = (0.0, 10.0, 50.0, 200.0, np.inf)


@dataclass(frozen=True, eq=False)
class MatchedPairs:
    """Pairs of a label and a detection, with the errors of the detection.

    ``labels``, ``detections`` (rows), ``iou_bev`` and ``iou_3d`` are ``(P,)``. ``errors``
    ``(P, 8)`` are detection minus label, columns ``ERRORS``: center along and across the label's
    heading and bottom face upwards, the sizes, yaw in [-pi, pi) and in [-pi/2, pi/2).
    """

    labels: IntArray
    detections: IntArray
    iou_bev: FloatArray
    iou_3d: FloatArray
    errors: FloatArray

    def __len__(self) -> int:
        """P."""
        return len(self.labels)

    def select(self, which: NDArray[np.bool_] | IntArray) -> MatchedPairs:
        """Return the pairs chosen by a mask ``(P,)`` or by indices."""
        return MatchedPairs(**{name: values[which] for name, values in vars(self).items()})


def find_pairs(problem: MatchingProblem, class_name: str, difficulty: Difficulty) -> MatchedPairs:
    """Pair labels and detections of one class at the overlap of ``MIN_OVERLAP``, and measure them.

    In each frame the detections that count choose in descending order of score, each the free
    label of largest BEV IoU. Pairs whose label does not count are formed and left out.
    """
    label_status, detection_status = problem.status(class_name, difficulty)
    partner = np.full(len(label_status), -1, dtype=np.int64)
    bev = problem.overlaps.iou["bev"]
    starts = problem.labels.starts, problem.detections.starts, problem.overlaps.pair_starts
    statuses = label_status, detection_status
    min_overlap = MIN_OVERLAP[class_name.lower()]
    with threads_for(len(bev) * _SECONDS_PER_PAIR):
        _match_by_score(*starts, bev, *statuses, problem.scores, min_overlap, partner)
    labels = np.flatnonzero((partner >= 0) & (label_status == COUNTED))
    boxes = upright_boxes(problem.labels.objects), upright_boxes(problem.detections.objects)
    return measure_pairs(*boxes, labels, partner[labels])


def measure_pairs(
    label_boxes: FloatArray, detection_boxes: FloatArray, labels: IntArray, detections: IntArray
) -> MatchedPairs:
    """Measure the errors of pairs: rows ``(P,)`` of boxes ``(G, 7)`` and ``(D, 7)``."""
    truth, predicted = label_boxes[labels], detection_boxes[detections]
    delta = predicted - truth
    cos_yaw, sin_yaw = np.cos(truth[:, 6]), np.sin(truth[:, 6])
    errors = np.column_stack(
        [
            cos_yaw * delta[:, 0] + sin_yaw * delta[:, 1],
            cos_yaw * delta[:, 1] - sin_yaw * delta[:, 0],
            delta[:, 2:6],
            wrap(delta[:, 6], 2 * np.pi),
            wrap(delta[:, 6], np.pi),
        ]
    )
    bev, volume = (iou(truth, predicted, aligned=True) for iou in (iou_bev, iou_3d))
    return MatchedPairs(labels, detections, bev, volume, errors)


def wrap(angles: FloatArray, period: float) -> FloatArray:
    """Return the angles in ``[-period / 2, period / 2)``."""
    return (angles + period / 2) % period - period / 2


def common_pairs(
    first: MatchingProblem,
    second: MatchingProblem,
    class_name: str,
    difficulty: Difficulty,
    partners: IntArray | None = None,
) -> tuple[MatchedPairs, MatchedPairs]:
    """Measure the labels that two result sets have both detected.

    ``partners`` ``(D1,)`` is for each detection of the first set its row in the second, -1 where
    it has none: pairs are then formed with the first set alone and followed into the second,
    wherever the box went. Without, each set is matched by itself. Both are returned row by row of
    the same label.
    """
    pairs = find_pairs(first, class_name, difficulty)
    if partners is None:
        others = find_pairs(second, class_name, difficulty)
        _, rows, other_rows = np.intersect1d(pairs.labels, others.labels, return_indices=True)
        return pairs.select(rows), others.select(other_rows)
    if partners.shape != (len(first.scores),):
        raise shape_error("partners", f"({len(first.scores)},), one a detection", partners)
    pairs = pairs.select(partners[pairs.detections] >= 0)
    boxes = upright_boxes(first.labels.objects), upright_boxes(second.detections.objects)
    return pairs, measure_pairs(*boxes, pairs.labels, partners[pairs.detections])


def summarize(pairs: MatchedPairs, num_labels: int) -> dict[str, Any]:
    """Summarize overlaps and errors of pairs; figures are ``None`` without pairs.

    For each of ``ERRORS``, ``mean`` is the bias; the others are of the absolute error.
    """
    return {
        "num_labels": num_labels,
        "num_matched": len(pairs),
        "mean_iou_3d": _mean(pairs.iou_3d),
        "mean_iou_bev": _mean(pairs.iou_bev),
        "quantiles_iou_3d": _quantiles(pairs.iou_3d),
        "errors": {
            name: summarize_errors(errors)
            for name, errors in zip(ERRORS, pairs.errors.T, strict=True)
        },
    }


def summarize_errors(errors: FloatArray) -> dict[str, Any]:
    """Summarize signed errors ``(P,)``: bias, mean and quantiles of the absolute values."""
    return {
        "mean": _mean(errors),
        "mean_abs": _mean(np.abs(errors)),
        "quantiles": _quantiles(np.abs(errors)),
    }


def summarize_bands(
    pairs: MatchedPairs,
    label_values: NDArray[Any],
    label_status: StatusArray,
    borders: Sequence[float],
) -> dict[str, Any]:
    """Summarize the pairs by :func:`bands` of a quantity ``(G,)`` of the labels."""
    summaries = {}
    for name, low, high in bands(borders):
        inside = (label_values >= low) & (label_values < high)
        num_labels = int((inside & (label_status == COUNTED)).sum())
        summaries[name] = summarize(pairs.select(inside[pairs.labels]), num_labels)
    return summaries


def bands(borders: Sequence[float]) -> list[tuple[str, float, float]]:
    """Return name (``"20-40"``, ``"40-"``), lower border (inside) and upper border of each band."""
    if len(borders) < 2 or not all(np.diff(borders) > 0):
        raise input_error("borders of bands", "two or more ascending values", list(borders))
    return [
        (f"{low:g}-" if np.isinf(high) else f"{low:g}-{high:g}", float(low), float(high))
        for low, high in pairwise(borders)
    ]


def _mean(values: FloatArray) -> float | None:
    """The mean, ``None`` of nothing."""
    return float(values.mean()) if len(values) else None


def _quantiles(values: FloatArray) -> dict[str, float | None]:
    """The quantiles of ``QUANTILES``, or ``None`` each."""
    results = np.quantile(values, QUANTILES).tolist() if len(values) else [None] * len(QUANTILES)
    return {f"{q:.2f}": value for q, value in zip(QUANTILES, results, strict=True)}


@njit(cache=True, parallel=True, error_model="numpy")
def _match_by_score(
    label_starts: IntArray,
    detection_starts: IntArray,
    pair_starts: IntArray,
    overlaps: FloatArray,
    label_status: StatusArray,
    detection_status: StatusArray,
    scores: FloatArray,
    min_overlap: float,
    partner: IntArray,
) -> None:
    """Give each label the row of its detection; -1 stays where there is none."""
    for frame in prange(len(label_starts) - 1):
        first_label, last_label = label_starts[frame], label_starts[frame + 1]
        first, last = detection_starts[frame], detection_starts[frame + 1]
        for j in np.argsort(-scores[first:last], kind="mergesort"):
            if detection_status[first + j] != COUNTED:
                continue
            best = -1
            best_overlap = min_overlap
            for i in range(first_label, last_label):
                if label_status[i] == SKIPPED or partner[i] >= 0:
                    continue
                overlap = overlaps[pair_starts[frame] + (i - first_label) * (last - first) + j]
                if overlap > best_overlap:
                    best = i
                    best_overlap = overlap
            if best >= 0:
                partner[best] = first + j
