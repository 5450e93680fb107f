r"""From matches to precision at 41 recall values, and to average precision.

.. math:: AP_{R40} = \tfrac1{40}\sum_{i=1}^{40} \max_{j \ge i} p_j, \qquad
          AP_{R11} = \tfrac1{11}\sum_{i \in \{0, 4, \dots, 40\}} \max_{j \ge i} p_j
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

    Args:
        num_labels: labels that count: the denominator of recall.
        scores: the score cutoffs at which precision was sampled, descending, at most 41.
        recall: recall at these cutoffs.
        precision: largest at this sample or a later one, ``(41,)``; 0 beyond the last cutoff.
        similarity: likewise of the orientation; ``None`` where detections have no orientation.
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
def sample_cutoffs(counts: IntArray, num_labels: int) -> IntArray:
    """Choose the true positives whose recalls lie closest to 0, 1/40, ..., 1.

    The k-th true positive has recall ``k / num_labels``. Going down, a rank is passed over while
    the next one comes closer to the recall sought; the last rank is always taken. ``counts``
    ``(T,)`` are the true positives down to each one by descending score (in a bootstrap one counts
    several times, or not at all). Returns at most 41 indices into ``counts``.
    """
    total = counts[-1] if len(counts) else 0
    chosen = np.empty(NUM_SAMPLES, dtype=np.int64)
    num = 0
    rank = 0
    sought = 0.0
    while rank < total and num < NUM_SAMPLES:
        rank += 1
        # Solves the rule for the rank up to rounding; the loops then apply it as the tool does.
        guess = min(max(rank, int(sought * num_labels - 0.5)), total)
        while guess > rank and not _is_passed_over(guess - 1, num_labels, sought):
            guess -= 1
        while guess < total and _is_passed_over(guess, num_labels, sought):
            guess += 1
        rank = guess
        chosen[num] = np.searchsorted(counts, rank)
        num += 1
        sought += 1.0 / (NUM_SAMPLES - 1.0)
    return chosen[:num]


@njit(cache=True, error_model="numpy")
def _is_passed_over(rank: int, num_labels: int, sought: float) -> bool:
    """Whether the rank after this one comes closer to the recall sought."""
    return (rank + 1) / num_labels - sought < sought - rank / num_labels


def sample_curve(
    recall_scores: FloatArray,
    num_labels: int,
    sorted_scores: FloatArray,
    counts: FloatArray,
    with_similarity: bool,
) -> PrecisionRecallCurve:
    """Sample precision, recall and orientation similarity at the protocol's cutoffs.

    Where neither a true nor a false positive lies above a cutoff, precision is 0 (the official
    tool divides 0 by 0 there).

    Args:
        recall_scores: scores of the first pass by label, NaN for labels that are not detected.
        num_labels: labels that count.
        sorted_scores: scores of the detections, descending, ``(D,)``.
        counts: sums of ``MatchChanges.counts`` down to each of them, ``(D, 4)``.
        with_similarity: whether the detections give an orientation.
    """
    scores = np.sort(recall_scores[~np.isnan(recall_scores)])[::-1]
    cutoffs = scores[sample_cutoffs(np.arange(1, len(scores) + 1), max(num_labels, 1))]
    last = np.searchsorted(-sorted_scores, -cutoffs, side="right") - 1
    true_positives, false_positives, matched_labels, similarity = counts[last].T
    positives = np.maximum(true_positives + false_positives, 1)
    expected = np.maximum(true_positives + num_labels - matched_labels, 1)
    return PrecisionRecallCurve(
        num_labels,
        cutoffs,
        true_positives / expected,
        _best_from_here(true_positives / positives),
        _best_from_here(similarity / positives) if with_similarity else None,
    )


def _best_from_here(values: FloatArray) -> FloatArray:
    """Largest value at each sample or later, ``(41,)``; 0 beyond the last value."""
    padded = np.zeros(NUM_SAMPLES)
    padded[: len(values)] = values
    return np.maximum.accumulate(padded[::-1])[::-1]
