"""Calibration of scores as probabilities that a box overlaps a true one.

N boxes; G labels and D detections.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.errors import input_error, shape_error
from ebm3d.evaluation.kitti_protocol import NEIGHBORS
from ebm3d.evaluation.matching_problem import MatchingProblem

FloatArray = NDArray[np.float64]

NUM_BINS = 10
_MAX_DONT_CARE_SHARE = 0.5  # of a box in a DontCare region, above which it is not judged
_LEAST = 1e-12  # of a probability in the log loss, which is at most 27.6 nats a box


@dataclass(frozen=True)
class ScoreCalibration:
    r"""How far scores are from the shares of boxes that do overlap a true one.

    .. math::
        \mathrm{Brier} = \frac1N \sum_n (s_n - t_n)^2, \qquad
        \mathrm{ECE} = \sum_b \frac{N_b}{N} \left|\bar s_b - \bar t_b\right|

    Brier, Monthly Weather Review 1950; for ECE Guo et al., ICML 2017, over 10 equal bins of the
    score. docs/method.md, M-31. NaN without boxes.

    Args:
        num_boxes: N.
        share_true: of the boxes, how many overlap a true one.
        brier: 0 is perfect; that of a constant share p is p (1 - p).
        log_loss: mean negative log likelihood of the outcomes, nats.
        ece: 0 is calibrated.
        reliability: per bin ``low``, ``num_boxes``, mean ``score``, ``share_true``; empty bins
            are left out.
    """

    num_boxes: int
    share_true: float
    brier: float
    log_loss: float
    ece: float
    reliability: tuple[dict[str, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return all figures; None in place of NaN."""
        tree = {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in vars(self).items()
        }
        return tree | {"reliability": {f"{row['low']:.1f}": row for row in self.reliability}}


def calibration_of_scores(scores: FloatArray, is_true: NDArray[np.bool_]) -> ScoreCalibration:
    """Measure scores ``(N,)`` as probabilities that a box overlaps a true one.

    Raises:
        ValueError: for shapes that differ, or a score outside [0, 1].
    """
    from sklearn.metrics import brier_score_loss, log_loss

    scores, is_true = as_scores_and_outcomes(scores, is_true)
    num = len(scores)
    if num == 0:
        return ScoreCalibration(0, math.nan, math.nan, math.nan, math.nan, ())
    # A bin holds its lower border, unlike those of sklearn.calibration_curve.
    bins = np.minimum((scores * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    score_sums = np.bincount(bins, scores, NUM_BINS)
    true_sums = np.bincount(bins, is_true, NUM_BINS)
    return ScoreCalibration(
        num,
        float(is_true.mean()),
        float(brier_score_loss(is_true, scores, pos_label=True)),
        float(log_loss(is_true, np.clip(scores, _LEAST, 1 - _LEAST), labels=[False, True])),
        float(np.abs(score_sums - true_sums).sum() / num),
        tuple(
            {
                "low": index / NUM_BINS,
                "num_boxes": float(counts[index]),
                "score": float(score_sums[index] / counts[index]),
                "share_true": float(true_sums[index] / counts[index]),
            }
            for index in np.flatnonzero(counts).tolist()
        ),
    )


def as_scores_and_outcomes(
    scores: FloatArray, is_true: NDArray[np.bool_]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return scores in [0, 1] and booleans as arrays ``(N,)``, or raise a ``ValueError``."""
    scores, outcomes = np.asarray(scores, dtype=np.float64), np.asarray(is_true)
    if scores.ndim != 1:
        raise shape_error("scores", "(N,)", scores)
    if outcomes.shape != scores.shape:
        raise shape_error("is_true", f"{scores.shape}, one value a box", outcomes)
    valid = (scores >= 0) & (scores <= 1)
    if not valid.all():
        row = int(np.argmin(valid))
        raise input_error("scores", "in [0, 1]", f"scores[{row}] = {scores[row]}")
    if not np.isin(outcomes, (0, 1)).all():
        raise input_error("is_true", "booleans", f"{outcomes.dtype}, first {outcomes[:3]}")
    return scores, outcomes.astype(np.bool_)


def detection_outcomes(
    problem: MatchingProblem, min_iou: Mapping[str, float]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which detections are true and which are judged, both ``(D,)``.

    A detection is true from a 3D IoU ``min_iou[class]`` with any label of its class on. Not judged
    are other classes, and boxes that are not true but overlap an object of a neighboring class as
    much or, in the image, lie by half in a DontCare region.
    """
    labels, detections = problem.overlaps.pair_rows(problem.labels, problem.detections)
    in_dont_care = problem.overlaps.dont_care_share > _MAX_DONT_CARE_SHARE
    is_true, is_judged = np.zeros_like(in_dont_care), np.zeros_like(in_dont_care)
    for class_name, limit in min_iou.items():
        name = class_name.lower()
        overlapping = problem.overlaps.iou["3d"] >= limit
        on_object, on_neighbor = np.zeros_like(in_dont_care), np.zeros_like(in_dont_care)
        on_object[detections[overlapping & (problem.label_names == name)[labels]]] = True
        is_neighbor = np.isin(problem.label_names, NEIGHBORS[name])
        on_neighbor[detections[overlapping & is_neighbor[labels]]] = True
        same_class = problem.is_detected(name)
        is_true |= same_class & on_object
        is_judged |= same_class & (on_object | ~(on_neighbor | in_dont_care))
    return is_true, is_judged
