"""Confidence intervals of average precision by resampling frames.

B replicates of F frames drawn with replacement; G labels and D detections. The matching of a frame
does not depend on other frames, so no replicate matches anew.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from ebm3d.boxes.kernels import threads_for
from ebm3d.evaluation.average_precision import sample_cutoffs
from ebm3d.evaluation.kitti_protocol import NUM_SAMPLES
from ebm3d.evaluation.matching import COUNTED, FloatArray, IntArray
from ebm3d.evaluation.matching_problem import MatchingProblem

_SECONDS_PER_LOOK = 1e-9  # to the right power of ten


def draw_weights(num_frames: int, num_replicates: int, seed: int) -> NDArray[np.int32]:
    """Draw how often each frame is part of each replicate, ``(B, F)``; each row sums to F."""
    generator = np.random.default_rng(seed)
    weights = np.zeros((num_replicates, num_frames), dtype=np.int32)
    for row in weights:
        row += np.bincount(generator.integers(0, num_frames, num_frames), minlength=num_frames)
    return weights


def resampled_ap_r40(
    problem: MatchingProblem,
    counts: FloatArray,
    recall_scores: FloatArray,
    label_status: NDArray[np.int8],
    weights: NDArray[np.int32],
) -> FloatArray:
    """Return AP R40 of every replicate at one overlap threshold, percent, ``(B,)``.

    ``counts`` ``(D, 4)`` and ``recall_scores`` ``(G,)`` are those of ``MatchChanges``,
    ``label_status`` is that of the matching, ``weights`` say how often each frame counts.
    """
    frame_of_label = problem.labels.frame_of_object
    recalled = np.flatnonzero(~np.isnan(recall_scores))
    recalled = recalled[np.argsort(-recall_scores[recalled], kind="stable")]
    changing = np.flatnonzero(counts[:, :2].any(axis=1))
    changing = changing[np.argsort(-problem.scores[changing], kind="stable")]
    scores = -problem.scores[changing]
    last = np.searchsorted(scores, -recall_scores[recalled], side="right").astype(np.int64)
    num_looks = weights.size + len(weights) * (len(last) + len(changing))
    with threads_for(num_looks * _SECONDS_PER_LOOK):
        averages: FloatArray = _resampled_ap_r40(
            np.bincount(frame_of_label[label_status == COUNTED], minlength=len(problem.labels)),
            frame_of_label[recalled],
            last,
            problem.detections.frame_of_object[changing],
            counts[changing, 0].astype(np.int64),
            counts[changing, 1].astype(np.int64),
            weights,
        )
    return averages


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
        times = weights[b]
        num_labels = 0
        for frame in range(len(labels_of_frame)):
            num_labels += times[frame] * labels_of_frame[frame]
        ranks = np.cumsum(times[recall_frames])
        cutoffs = sample_cutoffs(ranks, max(num_labels, 1))
        precision = np.zeros(NUM_SAMPLES)
        right = 0
        wrong = 0
        begin = 0
        for k in range(len(cutoffs)):
            end = last_detections[cutoffs[k]]
            for at in range(begin, end):
                right += times[frames[at]] * true_positives[at]
                wrong += times[frames[at]] * false_positives[at]
            begin = max(begin, end)
            precision[k] = right / max(right + wrong, 1)
        best = 0.0
        for k in range(NUM_SAMPLES - 1, 0, -1):
            best = max(best, precision[k])
            averages[b] += best
        averages[b] *= 100.0 / (NUM_SAMPLES - 1)
    return averages
