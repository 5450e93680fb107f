"""The greedy matching of the KITTI protocol, for any number of overlap thresholds at once.

F frames, G labels, D detections of all frames, K overlap thresholds.

The protocol matches each frame anew for each of up to 41 score cutoffs. What a frame contributes
changes only where the cutoff passes the score of one of its detections, so this module matches
each frame once per such score and stores, at that detection, by how much the counts change when
it enters. The counts at any cutoff are then sums over the detections above it, and another
weighting of the frames (a bootstrap) costs no further matching. Detections that overlap no label
enough enter as false positives by themselves and are not part of any matching.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from ebm3d.boxes.kernels import threads_for

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
StatusArray = NDArray[np.int8]

# And per threshold; to the right power of ten.
_SECONDS_PER_DETECTION = 1e-7

SKIPPED = -1
"""Status of an object of another class: takes no part."""
COUNTED = 0
"""Status of an object that counts."""
IGNORED = 1
"""Status of an object that may be matched but counts neither as right nor as wrong."""
NO_FALSE_POSITIVE = 2
"""Status of a detection that counts when matched, but is no false positive when not."""


@dataclass(frozen=True, eq=False)
class MatchSteps:
    """What each detection changes when the score cutoff falls below its score.

    Of detections of one frame with equal scores, one carries the change of all.

    Attributes:
        true_positives: change of their number, shape ``(K, D)``.
        false_positives: the same for false positives, shape ``(K, D)``.
        false_negatives: the same for false negatives, shape ``(K, D)``.
        similarity: change of the summed orientation similarity, shape ``(K, D)``.
        recall_scores: for each label the score at which it is found in the first pass, NaN where
            it is not, shape ``(K, G)``.
    """

    true_positives: NDArray[np.int32]
    false_positives: NDArray[np.int32]
    false_negatives: NDArray[np.int32]
    similarity: FloatArray
    recall_scores: FloatArray


def match_frames(
    label_starts: IntArray,
    detection_starts: IntArray,
    pair_starts: IntArray,
    overlaps: FloatArray,
    label_status: StatusArray,
    detection_status: StatusArray,
    scores: FloatArray,
    in_dont_care: NDArray[np.bool_],
    label_angles: FloatArray,
    detection_angles: FloatArray,
    thresholds: FloatArray,
) -> MatchSteps:
    """Match all frames at all overlap thresholds.

    Args:
        label_starts: first label of each frame, shape ``(F + 1,)``.
        detection_starts: first detection of each frame, shape ``(F + 1,)``.
        pair_starts: first pair of each frame in ``overlaps``, shape ``(F + 1,)``.
        overlaps: labels x detections of each frame, row by row.
        label_status: ``SKIPPED``, ``COUNTED`` or ``IGNORED``, shape ``(G,)``.
        detection_status: the same or ``NO_FALSE_POSITIVE``, shape ``(D,)``.
        scores: of the detections, shape ``(D,)``.
        in_dont_care: whether a detection lies in a DontCare region by more than the threshold,
            shape ``(K, D)``.
        label_angles: for the orientation similarity, radians, shape ``(G,)``.
        detection_angles: the same, shape ``(D,)``.
        thresholds: overlap that a match must exceed, shape ``(K,)``.

    Returns:
        The changes by detection.
    """
    shape = (len(thresholds), len(scores))
    steps = MatchSteps(
        np.zeros(shape, dtype=np.int32),
        np.zeros(shape, dtype=np.int32),
        np.zeros(shape, dtype=np.int32),
        np.zeros(shape),
        np.full((len(thresholds), len(label_status)), np.nan),
    )
    with threads_for(steps.similarity.size * _SECONDS_PER_DETECTION):
        _match_frames(
            label_starts,
            detection_starts,
            pair_starts,
            overlaps,
            label_status,
            detection_status,
            scores,
            in_dont_care,
            label_angles,
            detection_angles,
            thresholds,
            steps.true_positives,
            steps.false_positives,
            steps.false_negatives,
            steps.similarity,
            steps.recall_scores,
        )
    return steps


@njit(cache=True, error_model="numpy")
def find_recall_scores(
    overlaps: FloatArray,
    threshold: float,
    label_status: StatusArray,
    detection_status: StatusArray,
    scores: FloatArray,
    recall_scores: FloatArray,
) -> None:
    """First pass of the protocol on one frame: each label takes its best scored detection.

    Args:
        overlaps: labels x detections.
        threshold: overlap that a match must exceed.
        label_status: shape ``(labels,)``.
        detection_status: shape ``(detections,)``.
        scores: shape ``(detections,)``.
        recall_scores: receives the score of every true positive, shape ``(labels,)``.
    """
    assigned = np.zeros(len(scores), dtype=np.bool_)
    for i in range(len(label_status)):
        if label_status[i] == SKIPPED:
            continue
        best = -1
        for j in range(len(scores)):
            if detection_status[j] == SKIPPED or assigned[j] or not overlaps[i, j] > threshold:
                continue
            if best < 0 or scores[j] > scores[best]:
                best = j
        if best >= 0:
            assigned[best] = True
            if label_status[i] == COUNTED and detection_status[best] != IGNORED:
                recall_scores[i] = scores[best]


@njit(cache=True, error_model="numpy")
def count_at_cutoff(
    overlaps: FloatArray,
    threshold: float,
    label_status: StatusArray,
    detection_status: StatusArray,
    scores: FloatArray,
    cutoff: float,
    candidates: IntArray,
    in_dont_care: NDArray[np.bool_],
    label_angles: FloatArray,
    detection_angles: FloatArray,
    assigned: NDArray[np.bool_],
) -> tuple[int, int, int, float]:
    """Second pass on one frame: each label takes the detection that overlaps it most.

    A detection that counts is preferred to an ignored one, however small its overlap; of several
    ignored ones the first is taken.

    Args:
        overlaps: labels x detections.
        threshold: overlap that a match must exceed.
        label_status: shape ``(labels,)``.
        detection_status: shape ``(detections,)``.
        scores: shape ``(detections,)``.
        cutoff: detections with a lower score are absent.
        candidates: the detections that may match at all.
        in_dont_care: shape ``(detections,)``.
        label_angles: radians, shape ``(labels,)``.
        detection_angles: radians, shape ``(detections,)``.
        assigned: scratch, shape ``(detections,)``.

    Returns:
        True positives, false positives among the candidates, false negatives, and the sum of
        ``(1 + cos(angle difference)) / 2`` over the true positives.
    """
    true_positives = 0
    false_negatives = 0
    similarity = 0.0
    for j in candidates:
        assigned[j] = False
    for i in range(len(label_status)):
        if label_status[i] == SKIPPED:
            continue
        best = -1
        best_overlap = 0.0
        best_is_ignored = False
        for j in candidates:
            if scores[j] < cutoff or assigned[j] or not overlaps[i, j] > threshold:
                continue
            if detection_status[j] != IGNORED:
                if best < 0 or best_is_ignored or overlaps[i, j] > best_overlap:
                    best = j
                    best_overlap = overlaps[i, j]
                    best_is_ignored = False
            elif best < 0:
                best = j
                best_is_ignored = True
        if best < 0:
            false_negatives += label_status[i] == COUNTED
            continue
        assigned[best] = True
        if label_status[i] == COUNTED and not best_is_ignored:
            true_positives += 1
            similarity += 0.5 * (1.0 + math.cos(label_angles[i] - detection_angles[best]))
    false_positives = 0
    for j in candidates:
        if detection_status[j] == COUNTED and scores[j] >= cutoff:
            false_positives += not (assigned[j] or in_dont_care[j])
    return true_positives, false_positives, false_negatives, similarity


@njit(cache=True, parallel=True, error_model="numpy")
def _match_frames(
    label_starts: IntArray,
    detection_starts: IntArray,
    pair_starts: IntArray,
    overlaps: FloatArray,
    label_status: StatusArray,
    detection_status: StatusArray,
    scores: FloatArray,
    in_dont_care: NDArray[np.bool_],
    label_angles: FloatArray,
    detection_angles: FloatArray,
    thresholds: FloatArray,
    true_positives: NDArray[np.int32],
    false_positives: NDArray[np.int32],
    false_negatives: NDArray[np.int32],
    similarity: FloatArray,
    recall_scores: FloatArray,
) -> None:
    """Fill the steps, frames in parallel; every frame writes to its own detections only."""
    for frame in prange(len(label_starts) - 1):
        g = slice(label_starts[frame], label_starts[frame + 1])
        d = slice(detection_starts[frame], detection_starts[frame + 1])
        num_labels = g.stop - g.start
        num_detections = d.stop - d.start
        if num_detections == 0 or detection_status[d].max() == SKIPPED:
            continue
        matrix = overlaps[pair_starts[frame] : pair_starts[frame + 1]].reshape(
            (num_labels, num_detections)
        )
        num_counted = 0
        for i in range(g.start, g.stop):
            num_counted += label_status[i] == COUNTED
        best_overlap = np.zeros(num_detections)
        for i in range(num_labels):
            if label_status[g.start + i] != SKIPPED:
                for j in range(num_detections):
                    best_overlap[j] = max(best_overlap[j], matrix[i, j])
        order = np.argsort(-scores[d], kind="mergesort")
        assigned = np.zeros(num_detections, dtype=np.bool_)
        for k in range(len(thresholds)):
            find_recall_scores(
                matrix,
                thresholds[k],
                label_status[g],
                detection_status[d],
                scores[d],
                recall_scores[k, g],
            )
            candidates = np.empty(num_detections, dtype=np.int64)
            num_candidates = 0
            for j in range(num_detections):
                status = detection_status[d.start + j]
                if status == SKIPPED:
                    continue
                if best_overlap[j] > thresholds[k]:
                    candidates[num_candidates] = j
                    num_candidates += 1
                elif status == COUNTED and not in_dont_care[k, d.start + j]:
                    false_positives[k, d.start + j] = 1
            candidates = candidates[:num_candidates]
            before = (0, 0, num_counted, 0.0)
            at = 0
            while at < num_detections:
                first = order[at]
                cutoff = scores[d.start + first]
                changed = False
                while at < num_detections and scores[d.start + order[at]] == cutoff:
                    j = order[at]
                    changed |= detection_status[d.start + j] != SKIPPED and (
                        best_overlap[j] > thresholds[k]
                    )
                    at += 1
                if not changed:
                    continue
                now = count_at_cutoff(
                    matrix,
                    thresholds[k],
                    label_status[g],
                    detection_status[d],
                    scores[d],
                    cutoff,
                    candidates,
                    in_dont_care[k, d],
                    label_angles[g],
                    detection_angles[d],
                    assigned,
                )
                true_positives[k, d.start + first] += now[0] - before[0]
                false_positives[k, d.start + first] += now[1] - before[1]
                false_negatives[k, d.start + first] += now[2] - before[2]
                similarity[k, d.start + first] += now[3] - before[3]
                before = now
