"""Calibration of scores as probabilities that a box overlaps a true one.

N boxes; B bins of the score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.errors import input_error, shape_error
from ebm3d.evaluation.kitti_evaluation import MatchingProblem
from ebm3d.evaluation.kitti_protocol import DONT_CARE, NEIGHBORS

FloatArray = NDArray[np.float64]

NUM_BINS = 10
_LOST = 0.5  # share of a box in a DontCare region, above which it is not judged
_LEAST = 1e-12  # of a probability in the log loss, which is at most 27.6 nats a box


@dataclass(frozen=True)
class ScoreCalibration:
    r"""How far scores are from the shares of boxes that do overlap a true one.

    .. math::
        \mathrm{Brier} = \frac1N \sum_n (s_n - t_n)^2, \qquad
        \mathrm{ECE} = \sum_b \frac{N_b}{N} \left|\bar s_b - \bar t_b\right|

    Brier, Monthly Weather Review 1950; for ECE Guo et al., ICML 2017, over B equal bins of
    the score. docs/method.md, M-31. NaN without boxes.

    Attributes:
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
        """Return all figures, for a file; None in place of NaN."""
        numbers = {
            name: None if math.isnan(value) else value
            for name, value in (
                ("share_true", self.share_true),
                ("brier", self.brier),
                ("log_loss", self.log_loss),
                ("ece", self.ece),
            )
        }
        bins = {f"{entry['low']:.1f}": dict(entry) for entry in self.reliability}
        return {"num_boxes": self.num_boxes, **numbers, "reliability": bins}


def calibration_of_scores(scores: FloatArray, is_true: NDArray[np.bool_]) -> ScoreCalibration:
    """Measure scores as probabilities.

    Args:
        scores: ``(N,)`` in [0, 1].
        is_true: ``(N,)`` whether the box overlaps a true one.

    Raises:
        ValueError: for shapes that differ, or a score outside [0, 1].
    """
    scores, is_true = as_scores_and_outcomes(scores, is_true)
    number = len(scores)
    if number == 0:
        return ScoreCalibration(0, math.nan, math.nan, math.nan, math.nan, ())
    outcomes = is_true.astype(np.float64)
    of_outcome = np.where(is_true, scores, 1 - scores)
    place = np.minimum((scores * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    counts = np.bincount(place, minlength=NUM_BINS)
    sums = np.bincount(place, scores, NUM_BINS), np.bincount(place, outcomes, NUM_BINS)
    bins = tuple(
        {
            "low": index / NUM_BINS,
            "num_boxes": float(counts[index]),
            "score": float(sums[0][index] / counts[index]),
            "share_true": float(sums[1][index] / counts[index]),
        }
        for index in np.flatnonzero(counts).tolist()
    )
    return ScoreCalibration(
        number,
        float(outcomes.mean()),
        float(np.square(scores - outcomes).mean()),
        float(-np.log(np.maximum(of_outcome, _LEAST)).mean()),
        float(np.abs(sums[0] - sums[1]).sum() / number),
        bins,
    )


def as_scores_and_outcomes(
    scores: FloatArray, is_true: NDArray[np.bool_]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return scores and what came true of them as arrays ``(N,)``.

    Args:
        scores: ``(N,)`` in [0, 1].
        is_true: ``(N,)`` truth values, or zeros and ones.

    Raises:
        ValueError: for shapes that differ, a score outside [0, 1], or other outcomes.
    """
    scores, outcomes = np.asarray(scores, dtype=np.float64), np.asarray(is_true)
    if scores.ndim != 1:
        raise shape_error("scores", "(N,)", scores)
    if outcomes.shape != scores.shape:
        raise shape_error("is_true", f"{scores.shape}, one value a box", outcomes)
    good = (scores >= 0) & (scores <= 1)
    if not good.all():
        bad = int(np.flatnonzero(~good)[0])
        raise input_error("scores", "in [0, 1]", f"scores[{bad}] = {scores[bad]}")
    if outcomes.dtype != np.bool_ and not np.isin(outcomes, (0, 1)).all():
        raise input_error("is_true", "truth values", f"{outcomes.dtype}, first {outcomes[:3]}")
    return scores, outcomes.astype(np.bool_)


def detection_outcomes(
    problem: MatchingProblem, min_iou: Mapping[str, float]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which detections overlap a true box of their class.

    Every label of the class is a true box, of whatever difficulty; two detections may overlap the
    same one.

    Args:
        problem: labels and D detections.
        min_iou: 3D IoU from which a box is true, by class.

    Returns:
        Whether each detection is true, and whether that says anything, both ``(D,)``: it does not
        of other classes, nor of boxes that are not true and overlap as much of an object of a
        neighboring class or, in the picture, lie by half in a DontCare region.
    """
    names = np.char.lower(problem.detections.objects.names)
    label_names = np.char.lower(problem.labels.objects.names)
    is_true, is_judged = np.zeros(len(names), dtype=bool), np.zeros(len(names), dtype=bool)
    overlaps = problem.overlaps
    limits = {name.lower(): limit for name, limit in min_iou.items()}
    for frame, pair in enumerate(overlaps.pair_starts[:-1]):
        rows = slice(*problem.labels.starts[frame : frame + 2])
        columns = slice(*problem.detections.starts[frame : frame + 2])
        shape = rows.stop - rows.start, columns.stop - columns.start
        part = slice(pair, overlaps.pair_starts[frame + 1])
        volume = overlaps.volume[part].reshape(shape)
        in_region = overlaps.bbox[part].reshape(shape)[label_names[rows] == DONT_CARE]
        in_dont_care = (in_region > _LOST).any(axis=0)
        for name, limit in limits.items():
            own = names[columns] == name
            high = volume >= limit
            true = high[label_names[rows] == name].any(axis=0)
            same_class = high[np.isin(label_names[rows], NEIGHBORS[name])].any(axis=0)
            is_true[columns] |= own & true
            is_judged[columns] |= own & (true | ~(same_class | in_dont_care))
    return is_true, is_judged
