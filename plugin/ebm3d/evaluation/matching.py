"""The greedy matching of the KITTI protocol, for any number of overlap thresholds at once.

F frames; G labels and D detections of all frames; K overlap thresholds; g and d: of one frame.

The protocol matches each frame anew for each of up to 41 score cutoffs. This module matches it once
per score of its detections and stores, at that detection, by how much the counts change when it
enters: counts at any cutoff are sums over the detections above it, and a bootstrap costs no further
matching. Detections that overlap no label enough are false positives and take no part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from ebm3d.boxes.kernels import threads_for

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
StatusArray = NDArray[np.int8]

_SECONDS_PER_DETECTION = 1e-7  # and per threshold; to the right power of ten

SKIPPED = -1  # status of an object of another class: takes no part
COUNTED = 0
IGNORED = 1  # may be matched but counts neither as right nor as wrong
NO_FALSE_POSITIVE = 2  # a detection that counts when matched, but is no false positive when not


class Frame(NamedTuple):
    """One frame of a matching."""

    overlaps: FloatArray  # (g, d)
    label_status: StatusArray  # (g,)
    label_angles: FloatArray  # (g,) radians
    detection_status: StatusArray  # (d,)
    detection_angles: FloatArray  # (d,)
    scores: FloatArray  # (d,)
    dont_care_share: FloatArray  # (d,) of the detection's 2D box, in a DontCare region


@dataclass(frozen=True, eq=False)
class MatchChanges:
    """What each detection changes when the score cutoff falls below its score.

    Args:
        counts: change of the numbers of true positives, false positives and matched labels that
            count, and of the summed orientation similarity, ``(K, D, 4)``. Of detections of one
            frame with equal scores, the first carries the change of all.
        recall_scores: for each label the score at which it is detected in the first pass, NaN where
            it is not, ``(K, G)``.
    """

    counts: FloatArray
    recall_scores: FloatArray


def match_frames(
    label_starts: IntArray,
    detection_starts: IntArray,
    pair_starts: IntArray,
    frames: Frame,
    thresholds: FloatArray,
) -> MatchChanges:
    """Match all frames at all overlap thresholds.

    Args:
        label_starts: first label of each frame, ``(F + 1,)``.
        detection_starts: first detection, ``(F + 1,)``.
        pair_starts: first pair, ``(F + 1,)``.
        frames: the arrays of all frames, one after the other; overlaps flat.
        thresholds: overlap that a match must exceed, and share in a DontCare region above which
            a detection is no false positive, ``(K,)``.
    """
    changes = MatchChanges(
        np.zeros((len(thresholds), len(frames.scores), 4)),
        np.full((len(thresholds), len(frames.label_status)), np.nan),
    )
    with threads_for(changes.counts[..., 0].size * _SECONDS_PER_DETECTION):
        starts = label_starts, detection_starts, pair_starts
        _match_frames(*starts, frames, thresholds, changes.counts, changes.recall_scores)
    return changes


@njit(cache=True, parallel=True, error_model="numpy")
def _match_frames(
    label_starts: IntArray,
    detection_starts: IntArray,
    pair_starts: IntArray,
    frames: Frame,
    thresholds: FloatArray,
    counts: FloatArray,
    recall_scores: FloatArray,
) -> None:
    """Fill the changes, frames in parallel; every frame writes to its detections only."""
    for index in prange(len(label_starts) - 1):
        g = slice(label_starts[index], label_starts[index + 1])
        d = slice(detection_starts[index], detection_starts[index + 1])
        shape = (g.stop - g.start, d.stop - d.start)
        if shape[1] == 0 or frames.detection_status[d].max() == SKIPPED:
            continue
        frame = Frame(
            frames.overlaps[pair_starts[index] : pair_starts[index + 1]].reshape(shape),
            frames.label_status[g],
            frames.label_angles[g],
            frames.detection_status[d],
            frames.detection_angles[d],
            frames.scores[d],
            frames.dont_care_share[d],
        )
        best_overlaps = _best_overlaps(frame)
        order = np.argsort(-frame.scores, kind="mergesort")
        for k in range(len(thresholds)):
            _match_frame(
                frame, thresholds[k], best_overlaps, order, counts[k, d], recall_scores[k, g]
            )


@njit(cache=True, error_model="numpy")
def _best_overlaps(frame: Frame) -> FloatArray:
    """Largest overlap of each detection with a label, of those that take part, ``(d,)``."""
    best = np.zeros(len(frame.scores))
    for i in range(len(frame.label_status)):
        if frame.label_status[i] != SKIPPED:
            for j in range(len(best)):
                if frame.detection_status[j] != SKIPPED:
                    best[j] = max(best[j], frame.overlaps[i, j])
    return best


@njit(cache=True, error_model="numpy")
def _match_frame(
    frame: Frame,
    threshold: float,
    best_overlaps: FloatArray,
    order: IntArray,
    counts: FloatArray,
    recall_scores: FloatArray,
) -> None:
    """Fill the changes ``(d, 4)`` and recall scores ``(g,)`` of one frame."""
    candidates = np.empty(len(order), dtype=np.int64)
    num = 0
    for j in range(len(order)):
        if best_overlaps[j] > threshold:
            candidates[num] = j
            num += 1
        else:
            counts[j, 1] = _is_false_positive(
                frame.detection_status[j], frame.dont_care_share[j], threshold
            )
    if num == 0:
        return
    candidates = candidates[:num]
    assigned = np.zeros(len(order), dtype=np.bool_)
    _find_recall_scores(frame, threshold, candidates, assigned, recall_scores)
    before = (0.0, 0.0, 0.0, 0.0)
    for j in order:
        if best_overlaps[j] > threshold:
            now = _count_at_cutoff(frame, threshold, frame.scores[j], candidates, assigned)
            for column in range(4):
                counts[j, column] = now[column] - before[column]
            before = now


@njit(cache=True, error_model="numpy")
def _find_recall_scores(
    frame: Frame,
    threshold: float,
    candidates: IntArray,
    assigned: NDArray[np.bool_],
    recall_scores: FloatArray,
) -> None:
    """First pass of the protocol: each label takes its best scored detection."""
    for i in range(len(frame.label_status)):
        if frame.label_status[i] == SKIPPED:
            continue
        best = -1
        for j in candidates:
            if assigned[j] or not frame.overlaps[i, j] > threshold:
                continue
            if best < 0 or frame.scores[j] > frame.scores[best]:
                best = j
        if best >= 0:
            assigned[best] = True
            if frame.label_status[i] == COUNTED and frame.detection_status[best] != IGNORED:
                recall_scores[i] = frame.scores[best]


@njit(cache=True, error_model="numpy")
def _is_false_positive(status: int, dont_care_share: float, threshold: float) -> bool:
    """Whether a detection is a false positive if no label takes it."""
    return status == COUNTED and not dont_care_share > threshold


@njit(cache=True, error_model="numpy")
def _count_at_cutoff(
    frame: Frame,
    threshold: float,
    cutoff: float,
    candidates: IntArray,
    assigned: NDArray[np.bool_],
) -> tuple[float, float, float, float]:
    """Second pass among the detections of at least a score: each label takes the largest overlap.

    A detection that counts is preferred to an ignored one, however small its overlap; of several
    ignored ones the first is taken.

    Returns true positives, false positives among the candidates, matched labels that count, and the
    sum of ``(1 + cos(angle difference)) / 2`` over the true positives. ``assigned`` is scratch.
    """
    true_positives = 0
    matched_labels = 0
    similarity = 0.0
    for j in candidates:
        assigned[j] = False
    for i in range(len(frame.label_status)):
        if frame.label_status[i] == SKIPPED:
            continue
        best = -1
        best_is_ignored = False
        for j in candidates:
            if frame.scores[j] < cutoff or assigned[j] or not frame.overlaps[i, j] > threshold:
                continue
            is_ignored = frame.detection_status[j] == IGNORED
            if best < 0 or (
                not is_ignored
                and (best_is_ignored or frame.overlaps[i, j] > frame.overlaps[i, best])
            ):
                best = j
                best_is_ignored = is_ignored
        if best < 0:
            continue
        assigned[best] = True
        if frame.label_status[i] == COUNTED:
            matched_labels += 1
            if not best_is_ignored:
                true_positives += 1
                angle = frame.label_angles[i] - frame.detection_angles[best]
                similarity += 0.5 * (1.0 + math.cos(angle))
    false_positives = 0
    for j in candidates:
        if frame.scores[j] >= cutoff and not assigned[j]:
            false_positives += _is_false_positive(
                frame.detection_status[j], frame.dont_care_share[j], threshold
            )
    return float(true_positives), float(false_positives), float(matched_labels), similarity
