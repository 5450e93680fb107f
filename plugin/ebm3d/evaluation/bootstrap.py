"""Confidence intervals of average precision by resampling frames.

B replicates, F frames. A replicate draws F frames with replacement; a frame drawn twice counts
twice. The matching of a frame does not depend on other frames, so no replicate matches anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from ebm3d.boxes.kernels import threads_for
from ebm3d.evaluation.kitti_protocol import NUM_SAMPLES

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Looking up how often a frame is drawn; to the right power of ten.
_SECONDS_PER_LOOK = 1e-9


@dataclass(frozen=True, eq=False)
class RankedSteps:
    """Matches of one class, metric, threshold and difficulty, ordered by score.

    T labels found in the first pass; E detections that change a count.

    Attributes:
        labels_of_frame: labels that count, shape ``(F,)``.
        recall_scores: scores of the labels found, descending, shape ``(T,)``.
        recall_frames: their frames, shape ``(T,)``.
        scores: scores of the detections, descending, shape ``(E,)``.
        frames: their frames, shape ``(E,)``.
        true_positives: by how much each changes the number of true positives, shape ``(E,)``.
        false_positives: the same for false positives, shape ``(E,)``.
    """

    labels_of_frame: IntArray
    recall_scores: FloatArray
    recall_frames: IntArray
    scores: FloatArray
    frames: IntArray
    true_positives: IntArray
    false_positives: IntArray


def draw_weights(num_frames: int, num_replicates: int, seed: int) -> NDArray[np.int32]:
    """Draw how often each frame is part of each replicate.

    Args:
        num_frames: F.
        num_replicates: B.
        seed: of the random generator.

    Returns:
        Counts, shape ``(B, F)``; each row sums to F.
    """
    generator = np.random.default_rng(seed)
    weights = np.zeros((num_replicates, num_frames), dtype=np.int32)
    for row in weights:
        drawn = generator.integers(0, num_frames, num_frames)
        row += np.bincount(drawn, minlength=num_frames).astype(np.int32)
    return weights


def resampled_ap_r40(steps: RankedSteps, weights: NDArray[np.int32]) -> FloatArray:
    """Return AP R40 of every replicate, percent, shape ``(B,)``.

    Args:
        steps: ordered matches.
        weights: of ``draw_weights``, shape ``(B, F)``.
    """
    last = np.searchsorted(-steps.scores, -steps.recall_scores, side="right").astype(np.int64)
    num_looks = weights.size + len(weights) * (len(last) + len(steps.frames))
    with threads_for(num_looks * _SECONDS_PER_LOOK):
        averages: FloatArray = _resampled_ap_r40(
            steps.labels_of_frame,
            steps.recall_frames,
            last,
            steps.frames,
            steps.true_positives,
            steps.false_positives,
            weights,
        )
    return averages


@njit(cache=True, error_model="numpy")
def _passes_over(rank: int, num_labels: int, sought: float) -> bool:
    """The rule of ``sample_cutoffs``: the next rank comes closer to the recall sought."""
    return (rank + 1) / num_labels - sought < sought - rank / num_labels


@njit(cache=True, error_model="numpy")
def _weighted_cutoffs(ranks: IntArray, num_labels: int, places: IntArray) -> int:
    """``sample_cutoffs`` where the i-th score counts ``ranks[i] - ranks[i - 1]`` times.

    Jumps to each rank that is taken instead of passing over those before it: the rule holds for
    all ranks below one and for none above. Fills ``places`` with indices of scores and returns
    how many there are.
    """
    total = ranks[-1] if len(ranks) else 0
    num = 0
    rank = 0
    sought = 0.0
    while rank < total:
        rank += 1
        guess = min(max(rank, int(sought * num_labels - 0.5)), total)
        while guess > rank and not _passes_over(guess - 1, num_labels, sought):
            guess -= 1
        while guess < total and _passes_over(guess, num_labels, sought):
            guess += 1
        rank = guess
        if num < NUM_SAMPLES:
            places[num] = np.searchsorted(ranks, rank)
            num += 1
        sought += 1.0 / (NUM_SAMPLES - 1.0)
    return num


@njit(cache=True, parallel=True, error_model="numpy")
def _resampled_ap_r40(
    labels_of_frame: IntArray,
    recall_frames: IntArray,
    last_detections: IntArray,
    frames: IntArray,
    true_positives: IntArray,
    false_positives: IntArray,
    weights: NDArray[np.int32],
) -> FloatArray:
    """AP R40 of every replicate, replicates in parallel."""
    averages = np.zeros(len(weights))
    for b in prange(len(weights)):
        drawn = weights[b]
        num_labels = 0
        for frame in range(len(labels_of_frame)):
            num_labels += drawn[frame] * labels_of_frame[frame]
        ranks = np.empty(len(recall_frames), dtype=np.int64)
        rank = 0
        for i in range(len(recall_frames)):
            rank += drawn[recall_frames[i]]
            ranks[i] = rank
        places = np.empty(NUM_SAMPLES, dtype=np.int64)
        num = _weighted_cutoffs(ranks, max(num_labels, 1), places)
        precision = np.zeros(NUM_SAMPLES)
        right = 0
        wrong = 0
        begin = 0
        for k in range(num):
            end = last_detections[places[k]]
            for at in range(begin, end):
                times = drawn[frames[at]]
                right += times * true_positives[at]
                wrong += times * false_positives[at]
            begin = max(begin, end)
            precision[k] = right / max(right + wrong, 1)
        best = 0.0
        for k in range(NUM_SAMPLES - 1, 0, -1):
            best = max(best, precision[k])
            averages[b] += best
        averages[b] *= 100.0 / (NUM_SAMPLES - 1)
    return averages
