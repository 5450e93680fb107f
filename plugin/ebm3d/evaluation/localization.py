"""How well found objects are localized: overlap and error per box dimension of matched pairs.

P matched pairs of a label and a detection. The upright frame of ``upright_boxes``: x forward,
y left, z up, meters, radians.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from ebm3d.boxes.iou import iou_3d, iou_bev
from ebm3d.errors import input_error
from ebm3d.evaluation.kitti_evaluation import MatchingProblem
from ebm3d.evaluation.kitti_protocol import DIFFICULTIES
from ebm3d.evaluation.matching import COUNTED, SKIPPED
from ebm3d.evaluation.overlaps import upright_boxes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
StatusArray = NDArray[np.int8]

MIN_OVERLAP: Mapping[str, float] = {"car": 0.5, "pedestrian": 0.25, "cyclist": 0.25}
"""BEV IoU a pair must exceed: the loosest threshold in common use for the class. BEV and not 3D,
so that an error in height cannot hide a pair whose height error is to be measured."""

ERRORS = ("along", "across", "vertical", "length", "width", "height", "yaw", "yaw_mod_pi")
QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.95)
DISTANCE_BANDS = (0.0, 20.0, 40.0, np.inf)
POINT_BANDS = (0.0, 10.0, 50.0, 200.0, np.inf)


@dataclass(frozen=True, eq=False)
class MatchedPairs:
    """Pairs of a label and a detection, with the errors of the detection.

    Attributes:
        labels: row of each pair's label, shape ``(P,)``.
        detections: row of each pair's detection, shape ``(P,)``.
        iou_bev: overlap seen from above, shape ``(P,)``.
        iou_3d: overlap of the volumes, shape ``(P,)``.
        errors: detection minus label, columns ``ERRORS``, shape ``(P, 8)``: center along and
            across the label's heading and bottom face upwards (m), the sizes (m), yaw in
            [-pi, pi) and in [-pi/2, pi/2) (radians).
    """

    labels: IntArray
    detections: IntArray
    iou_bev: FloatArray
    iou_3d: FloatArray
    errors: FloatArray

    def __len__(self) -> int:
        """The number of pairs P."""
        return len(self.labels)

    def select(self, which: NDArray[np.bool_] | IntArray) -> MatchedPairs:
        """Return the pairs chosen by a mask ``(P,)`` or by indices."""
        return MatchedPairs(
            self.labels[which],
            self.detections[which],
            self.iou_bev[which],
            self.iou_3d[which],
            self.errors[which],
        )


def match_pairs(
    problem: MatchingProblem,
    label_status: StatusArray,
    detection_status: StatusArray,
    min_overlap: float,
) -> tuple[IntArray, IntArray]:
    """Pair labels and detections for the measurement of localization.

    In each frame, detections choose in descending order of score, each the label of largest BEV
    IoU that is still free. Pairs whose label does not count are formed and left out.

    Args:
        problem: labels and detections.
        label_status: of ``MatchingProblem.label_status``, shape ``(G,)``.
        detection_status: of ``MatchingProblem.detection_status``, shape ``(D,)``; only those that
            count take part.
        min_overlap: BEV IoU that a pair must exceed.

    Returns:
        Rows of labels and of detections, each of shape ``(P,)``, ascending by label.
    """
    partner = np.full(len(label_status), -1, dtype=np.int64)
    _match_by_score(
        problem.labels.starts,
        problem.detections.starts,
        problem.overlaps.pair_starts,
        problem.overlaps.bev,
        label_status,
        detection_status,
        problem.scores,
        min_overlap,
        partner,
    )
    labels = np.flatnonzero((partner >= 0) & (label_status == COUNTED))
    return labels, partner[labels]


def measure_pairs(
    label_boxes: FloatArray, detection_boxes: FloatArray, labels: IntArray, detections: IntArray
) -> MatchedPairs:
    """Measure the errors of given pairs.

    Args:
        label_boxes: ``(x, y, z, dx, dy, dz, yaw)``, ``z`` at the bottom, shape ``(G, 7)``.
        detection_boxes: in the same frame, shape ``(D, 7)``.
        labels: rows of ``label_boxes``, shape ``(P,)``.
        detections: rows of ``detection_boxes``, shape ``(P,)``.

    Returns:
        The pairs with overlaps and errors.
    """
    truth, found = label_boxes[labels], detection_boxes[detections]
    delta = found - truth
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
    return MatchedPairs(
        labels,
        detections,
        iou_bev(truth, found, aligned=True),
        iou_3d(truth, found, aligned=True),
        errors,
    )


def wrap(angles: FloatArray, period: float) -> FloatArray:
    """Return the angles in ``[-period / 2, period / 2)``."""
    return (angles + period / 2) % period - period / 2


def find_pairs(
    problem: MatchingProblem,
    class_name: str,
    label_status: StatusArray,
    detection_status: StatusArray,
) -> MatchedPairs:
    """Pair and measure one class at the overlap of ``MIN_OVERLAP``.

    Args:
        problem: labels and detections.
        class_name: ``"Car"``, ``"Pedestrian"`` or ``"Cyclist"``.
        label_status: of ``MatchingProblem.label_status``, shape ``(G,)``.
        detection_status: of ``MatchingProblem.detection_status``, shape ``(D,)``.

    Returns:
        The pairs of the class.
    """
    labels, detections = match_pairs(
        problem, label_status, detection_status, MIN_OVERLAP[class_name.lower()]
    )
    return measure_pairs(
        upright_boxes(problem.labels.objects),
        upright_boxes(problem.detections.objects),
        labels,
        detections,
    )


def same_pairs(
    before: MatchingProblem,
    after: MatchingProblem,
    kept_before: NDArray[np.bool_],
    kept_after: NDArray[np.bool_],
    classes: Sequence[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure the same pairs before and after their boxes were changed.

    Pairs are formed with the boxes before; those whose box is dropped afterwards are left out.

    Args:
        before: labels and the detections kept before.
        after: the same labels and the detections kept after.
        kept_before: which of all detections ``before`` holds, shape ``(A,)``.
        kept_after: which of the same detections ``after`` holds, shape ``(A,)``.
        classes: evaluated classes.

    Returns:
        Summaries before and after: by class and difficulty.
    """
    row_after = np.where(kept_after, np.cumsum(kept_after) - 1, -1)[kept_before]
    boxes_after = upright_boxes(after.detections.objects)
    label_boxes = upright_boxes(before.labels.objects)
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    for class_name in classes:
        first[class_name], second[class_name] = {}, {}
        for difficulty in DIFFICULTIES:
            status = before.label_status(class_name, difficulty)
            pairs = find_pairs(
                before, class_name, status, before.detection_status(class_name, difficulty)
            )
            pairs = pairs.select(row_after[pairs.detections] >= 0)
            moved = measure_pairs(
                label_boxes, boxes_after, pairs.labels, row_after[pairs.detections]
            )
            num_labels = int((status == COUNTED).sum())
            first[class_name][difficulty.name] = summarize(pairs, num_labels)
            second[class_name][difficulty.name] = summarize(moved, num_labels)
    return first, second


def summarize(pairs: MatchedPairs, num_labels: int) -> dict[str, Any]:
    """Summarize the overlaps and errors of pairs.

    Args:
        pairs: of one class, perhaps of one band.
        num_labels: labels that could have been matched.

    Returns:
        ``num_labels``, ``num_matched``, ``mean_iou_3d``, ``mean_iou_bev``, ``quantiles_iou_3d``
        and ``errors``: for each of ``ERRORS`` the bias (``mean``), ``mean_abs`` and ``quantiles``
        of the absolute error. Without pairs the figures are ``None``.
    """
    summary: dict[str, Any] = {"num_labels": num_labels, "num_matched": len(pairs)}
    empty = len(pairs) == 0
    summary["mean_iou_3d"] = None if empty else float(pairs.iou_3d.mean())
    summary["mean_iou_bev"] = None if empty else float(pairs.iou_bev.mean())
    summary["quantiles_iou_3d"] = _quantiles(pairs.iou_3d)
    summary["errors"] = {
        name: {
            "mean": None if empty else float(pairs.errors[:, i].mean()),
            "mean_abs": None if empty else float(np.abs(pairs.errors[:, i]).mean()),
            "quantiles": _quantiles(np.abs(pairs.errors[:, i])),
        }
        for i, name in enumerate(ERRORS)
    }
    return summary


def summarize_bands(
    pairs: MatchedPairs,
    label_values: FloatArray,
    label_status: StatusArray,
    borders: Sequence[float],
) -> dict[str, Any]:
    """Summarize the pairs by bands of a quantity of their labels.

    Args:
        pairs: of one class.
        label_values: the quantity of all labels (distance, points, occlusion), shape ``(G,)``.
        label_status: which labels count, shape ``(G,)``.
        borders: ascending; a band holds its lower border and not its upper one.

    Returns:
        A summary for each band, by the name of ``band_name``.
    """
    summaries = {}
    for low, high in band_limits(borders):
        inside = (label_values >= low) & (label_values < high)
        num_labels = int((inside & (label_status == COUNTED)).sum())
        summaries[band_name(low, high)] = summarize(pairs.select(inside[pairs.labels]), num_labels)
    return summaries


def band_limits(borders: Sequence[float]) -> list[tuple[float, float]]:
    """Return lower and upper border of each band.

    Args:
        borders: ascending, at least two.

    Raises:
        ValueError: if they are not.
    """
    if len(borders) < 2 or not all(np.diff(borders) > 0):
        raise input_error("borders of bands", "two or more ascending values", list(borders))
    return [(float(a), float(b)) for a, b in zip(borders[:-1], borders[1:], strict=True)]


def band_name(low: float, high: float) -> str:
    """Return the name of a band: ``"20-40"``, or ``"40-"`` without an upper border."""
    return f"{low:g}-" if np.isinf(high) else f"{low:g}-{high:g}"


def label_distances(problem: MatchingProblem) -> tuple[FloatArray, FloatArray]:
    """Return the horizontal distance from the camera of all labels ``(G,)``, detections ``(D,)``."""
    first, second = (
        np.hypot(objects.location[:, 0], objects.location[:, 2])
        for objects in (problem.labels.objects, problem.detections.objects)
    )
    return first, second


def _quantiles(values: FloatArray) -> dict[str, float | None]:
    """The quantiles of ``QUANTILES``, or ``None`` each."""
    if len(values) == 0:
        return dict.fromkeys(map("{:.2f}".format, QUANTILES))
    found = np.quantile(values, QUANTILES)
    return {f"{q:.2f}": float(value) for q, value in zip(QUANTILES, found, strict=True)}


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
        order = np.argsort(-scores[first:last], kind="mergesort")
        for j in order:
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
