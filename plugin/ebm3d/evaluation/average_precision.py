r"""From matches to precision at 41 recall values, and to average precision.

.. math:: AP_{R40} = \tfrac1{40}\sum_{i=1}^{40} \max_{j \ge i} p_j, \qquad
          AP_{R11} = \tfrac1{11}\sum_{i \in \{0, 4, \dots, 40\}} \max_{j \ge i} p_j

K overlap thresholds, D detections, G labels; at most 41 samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ebm3d.evaluation.kitti_protocol import NUM_SAMPLES

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

RECALL_POINTS = {"ap_r40": slice(1, None, 1), "ap_r11": slice(0, None, 4)}
"""Which of the 41 samples each average takes."""


@dataclass(frozen=True, eq=False)
class PrecisionRecallCurve:
    """Precision of one class, metric, overlap threshold and difficulty.

    Attributes:
        num_labels: labels that count: the denominator of recall.
        scores: the score cutoffs at which precision was sampled, descending, at most 41.
        recall: recall at these cutoffs.
        precision: largest precision at this sample or a later one; 0 beyond the last cutoff,
            shape ``(41,)``.
        similarity: the same for the orientation similarity, shape ``(41,)``, or ``None`` where
            the detections give no orientation.
    """

    num_labels: int
    scores: FloatArray
    recall: FloatArray
    precision: FloatArray
    similarity: FloatArray | None

    def average_precision(self, name: str) -> float:
        """Return ``"ap_r40"`` or ``"ap_r11"``, in percent."""
        return 100.0 * float(self.precision[RECALL_POINTS[name]].mean())

    def average_similarity(self, name: str) -> float:
        """Return the same average of the orientation similarity, NaN where there is none."""
        if self.similarity is None:
            return float("nan")
        return 100.0 * float(self.similarity[RECALL_POINTS[name]].mean())


@njit(cache=True, error_model="numpy")
def sample_cutoffs(scores: FloatArray, num_labels: int) -> FloatArray:
    """Choose the score cutoffs whose recalls lie closest to 0, 1/40, ..., 1.

    The cutoff of the i-th best true positive has the recall ``i / num_labels``. Going down, a
    score is passed over while the next one would come closer to the recall sought. The last score
    is always taken.

    Args:
        scores: of the true positives of the first pass, descending, shape ``(T,)``.
        num_labels: labels that count.

    Returns:
        The cutoffs, descending; at most 41.
    """
    cutoffs = np.empty(NUM_SAMPLES)
    num = 0
    sought = 0.0
    for i in range(len(scores)):
        here = (i + 1) / num_labels
        if i < len(scores) - 1 and (i + 2) / num_labels - sought < sought - here:
            continue
        if num < NUM_SAMPLES:
            cutoffs[num] = scores[i]
            num += 1
        sought += 1.0 / (NUM_SAMPLES - 1.0)
    return cutoffs[:num]


def sample_curve(
    recall_scores: FloatArray,
    num_labels: int,
    sorted_scores: FloatArray,
    true_positives: IntArray,
    false_positives: IntArray,
    false_negatives: IntArray,
    similarity: FloatArray | None,
) -> PrecisionRecallCurve:
    """Sample precision, recall and orientation similarity at the protocol's cutoffs.

    Where neither a true nor a false positive lies above a cutoff, which the two passes can bring
    about together, precision is 0 (the official tool divides 0 by 0 there).

    Args:
        recall_scores: of the labels found in the first pass, NaN for the others.
        num_labels: labels that count.
        sorted_scores: scores of the detections, descending, shape ``(D,)``.
        true_positives: their number down to each detection, in the same order, shape ``(D,)``.
        false_positives: likewise.
        false_negatives: likewise.
        similarity: summed orientation similarity likewise, or ``None``.

    Returns:
        The curve.
    """
    found = np.sort(recall_scores[~np.isnan(recall_scores)])[::-1]
    cutoffs = sample_cutoffs(np.ascontiguousarray(found), max(num_labels, 1))
    last = np.searchsorted(-sorted_scores, -cutoffs, side="right") - 1
    right = true_positives[last].astype(np.float64)
    positives = right + false_positives[last]
    wanted = right + false_negatives[last]
    precision = np.zeros(NUM_SAMPLES)
    precision[: len(cutoffs)] = right / np.maximum(positives, 1)
    smooth = None
    if similarity is not None:
        smooth = np.zeros(NUM_SAMPLES)
        smooth[: len(cutoffs)] = similarity[last] / np.maximum(positives, 1)
        smooth = _best_from_here(smooth)
    return PrecisionRecallCurve(
        num_labels, cutoffs, right / np.maximum(wanted, 1), _best_from_here(precision), smooth
    )


def _best_from_here(values: FloatArray) -> FloatArray:
    """Largest value at each place or later."""
    return np.maximum.accumulate(values[::-1])[::-1]
