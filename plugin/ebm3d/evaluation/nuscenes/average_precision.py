"""Curves over recall, as the development kit interpolates them, under weights of the scenes.

D detections of one class, by descending score, G labels, P pairs, K limits of a match; B sets of
weights of the scenes. Where all weights are 1 the results are the official ones; a detection of
weight w counts as w at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from ebm3d.evaluation.nuscenes.boxes import BoolArray, FloatArray, IntArray
from ebm3d.evaluation.nuscenes.protocol import NUM_RECALLS

_RECALLS: FloatArray = np.linspace(0, 1, NUM_RECALLS)


@njit(cache=True, parallel=True, error_model="numpy")
def weighted_aps(
    scenes: IntArray,
    is_match: BoolArray,
    num_labels: IntArray,
    weights: NDArray[np.int32],
    first_recall: int,
    min_precision: float,
) -> FloatArray:
    """Average precision, ``(B, K)``.

    Args:
        scenes: of the detections, ``(D,)``.
        is_match: true positives at each limit, ``(K, D)``.
        num_labels: of each scene.
        weights: of the scenes, ``(B, scenes)``.
        first_recall: index of the first recall that counts.
        min_precision: subtracted from precision.
    """
    aps = np.zeros((len(weights), len(is_match)))
    for b in prange(len(weights)):
        for k in range(len(is_match)):
            curve = _precision_curve(scenes, is_match[k], num_labels, weights[b])
            total = 0.0
            for r in range(first_recall, NUM_RECALLS):
                total += max(curve[r] - min_precision, 0.0)
            aps[b, k] = total / (NUM_RECALLS - first_recall) / (1.0 - min_precision)
    return aps


@njit(cache=True, parallel=True, error_model="numpy")
def weighted_errors(
    scores: FloatArray,
    scenes: IntArray,
    is_match: BoolArray,
    pair_errors: FloatArray,
    num_labels: IntArray,
    weights: NDArray[np.int32],
    first_recall: int,
) -> FloatArray:
    """Errors of true positives, cumulative means averaged over the recalls reached, ``(B, E)``.

    1 where the first recall that counts is not reached.

    Args:
        scores: of the detections, descending, ``(D,)``.
        scenes: of the detections, ``(D,)``.
        is_match: true positives, P of them, ``(D,)``.
        pair_errors: of the true positives in their order, NaN where unknown, ``(P, E)``.
        num_labels: of each scene.
        weights: of the scenes, ``(B, scenes)``.
        first_recall: index of the first recall that counts.
    """
    matched = np.flatnonzero(is_match)
    results = np.ones((len(weights), pair_errors.shape[1]))
    for b in prange(len(weights)):
        times = weights[b]
        confidence = _score_curve(scores, scenes, is_match, num_labels, times)
        last = NUM_RECALLS - 1
        while last > 0 and confidence[last] == 0.0:
            last -= 1
        if last < first_recall:
            continue
        rows = np.flatnonzero(times[scenes[matched]] > 0)
        pair_scores = scores[matched[rows]]
        for e in range(pair_errors.shape[1]):
            means = _cumulative_means(pair_errors[rows, e], times[scenes[matched[rows]]])
            total = 0.0
            at = 0
            for r in range(first_recall, last + 1):
                while at < len(rows) and pair_scores[at] > confidence[r]:
                    at += 1
                total += _between(pair_scores, means, at, confidence[r])
            results[b, e] = total / (last + 1 - first_recall)
    return results


@njit(cache=True, error_model="numpy")
def _precision_curve(
    scenes: IntArray, is_match: BoolArray, num_labels: IntArray, weights: NDArray[np.int32]
) -> FloatArray:
    """Precision at each recall, ``(101,)``; 0 beyond the largest."""
    precision = np.empty(len(scenes))
    right = 0
    total = 0
    for d in range(len(scenes)):
        right += weights[scenes[d]] * is_match[d]
        total += weights[scenes[d]]
        precision[d] = right / max(total, 1)
    return _at_recalls(precision, scenes, is_match, num_labels, weights)


@njit(cache=True, error_model="numpy")
def _score_curve(
    scores: FloatArray,
    scenes: IntArray,
    is_match: BoolArray,
    num_labels: IntArray,
    weights: NDArray[np.int32],
) -> FloatArray:
    """Score at each recall, ``(101,)``; 0 beyond the largest."""
    return _at_recalls(scores, scenes, is_match, num_labels, weights)


@njit(cache=True, error_model="numpy")
def _at_recalls(
    values: FloatArray,
    scenes: IntArray,
    is_match: BoolArray,
    num_labels: IntArray,
    weights: NDArray[np.int32],
) -> FloatArray:
    """Interpolate values ``(D,)`` at the recalls; of equal recalls the last detection's counts."""
    curve = np.zeros(NUM_RECALLS)
    num = 0
    for scene in range(len(weights)):
        num += weights[scene] * num_labels[scene]
    right = 0
    r = 0
    recall = -1.0
    value = 0.0
    for d in range(len(scenes)):
        weight = weights[scenes[d]]
        if weight == 0:
            continue
        right += weight * is_match[d]
        now = right / max(num, 1)
        while recall < now and r < NUM_RECALLS and _RECALLS[r] < now:
            if recall < 0.0:
                curve[r] = values[d]
            else:
                slope = (values[d] - value) / (now - recall)
                curve[r] = slope * (_RECALLS[r] - recall) + value
            r += 1
        recall = now
        value = values[d]
    if r < NUM_RECALLS and _RECALLS[r] == recall:
        curve[r] = value
    return curve if right > 0 else np.zeros(NUM_RECALLS)


@njit(cache=True, error_model="numpy")
def _cumulative_means(values: FloatArray, weights: NDArray[np.int32]) -> FloatArray:
    """Mean of the known values down to each; 0 before the first known one, 1 if none is."""
    means = np.zeros(len(values))
    total = 0.0
    num = 0
    for i in range(len(values)):
        if not np.isnan(values[i]):
            total += weights[i] * values[i]
            num += weights[i]
        if num > 0:
            means[i] = total / num
    if num == 0:
        means[:] = 1.0
    return means


@njit(cache=True, error_model="numpy")
def _between(scores: FloatArray, values: FloatArray, at: int, score: float) -> float:
    """Interpolate at a score; ``at`` is the first row whose score is not above it."""
    if at == len(scores):
        return values[at - 1]
    if at == 0:
        return values[0]
    slope = (values[at - 1] - values[at]) / (scores[at - 1] - scores[at])
    return slope * (score - scores[at]) + values[at]
