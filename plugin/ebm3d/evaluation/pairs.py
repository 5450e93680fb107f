"""Pairs of labels and detections for the measurement of localization, and their errors.

P matched pairs of a label and a detection; G labels, D detections. The upright frame of
``upright_boxes``: x forward, y left, z up, meters, radians.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from ebm3d.boxes.iou import iou_3d, iou_bev
from ebm3d.boxes.kernels import threads_for
from ebm3d.errors import shape_error
from ebm3d.evaluation.kitti_evaluation import MatchingProblem
from ebm3d.evaluation.matching import COUNTED, SKIPPED
from ebm3d.evaluation.overlaps import upright_boxes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
StatusArray = NDArray[np.int8]

# To the right power of ten.
_SECONDS_PER_PAIR = 1e-8

MIN_OVERLAP: Mapping[str, float] = {"car": 0.5, "pedestrian": 0.25, "cyclist": 0.25}
"""BEV IoU a pair must exceed: the loosest threshold in common use for the class. BEV and not 3D,
so that an error in height cannot hide a pair whose height error is to be measured."""

ERRORS = ("along", "across", "vertical", "length", "width", "height", "yaw", "yaw_mod_pi")


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
    with threads_for(len(problem.overlaps.bev) * _SECONDS_PER_PAIR):
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


def common_pairs(
    first: MatchingProblem,
    second: MatchingProblem,
    class_name: str,
    label_status: StatusArray,
    statuses: tuple[StatusArray, StatusArray],
    partners: IntArray | None = None,
) -> tuple[MatchedPairs, MatchedPairs]:
    """Measure the labels that two result sets have both found.

    With ``partners`` (the second set are the boxes of the first, changed) pairs are formed with
    the first set alone and followed into the second, wherever the box went. Without, each set is
    matched by itself and the labels found by both are kept.

    Args:
        first: labels and the first set of detections.
        second: the same labels and the second set.
        class_name: ``"Car"``, ``"Pedestrian"`` or ``"Cyclist"``.
        label_status: of ``MatchingProblem.label_status``, shape ``(G,)``.
        statuses: of ``detection_status`` of both sets.
        partners: for each detection of the first set its row in the second, -1 where it has none,
            shape ``(D1,)``.

    Returns:
        Pairs of both sets, row by row of the same label.

    Raises:
        ValueError: if ``partners`` does not fit the first set.
    """
    pairs = find_pairs(first, class_name, label_status, statuses[0])
    if partners is None:
        others = find_pairs(second, class_name, label_status, statuses[1])
        _, rows, other_rows = np.intersect1d(pairs.labels, others.labels, return_indices=True)
        return pairs.select(rows), others.select(other_rows)
    if partners.shape != (len(first.scores),):
        raise shape_error("partners", f"({len(first.scores)},), one a detection", partners)
    pairs = pairs.select(partners[pairs.detections] >= 0)
    moved = measure_pairs(
        upright_boxes(first.labels.objects),
        upright_boxes(second.detections.objects),
        pairs.labels,
        partners[pairs.detections],
    )
    return pairs, moved


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
