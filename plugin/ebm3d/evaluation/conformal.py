"""Split conformal prediction: thresholds whose coverage holds in finite samples.

P scores of calibration boxes, in K frames.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, betabinom

from ebm3d.errors import check_count, input_error, is_number, shape_error

FloatArray = NDArray[np.float64]

_ROUNDING = 1e-9  # of K + 1 weights: 20 * 0.95 is 19


def conformal_threshold(
    scores: FloatArray, coverage: float, frames: NDArray[np.int64] | None = None
) -> float:
    r"""The least threshold that a new score stays within with probability ``coverage``.

    .. math::
        \hat c = \min\Big\{c : \sum_{k=1}^{K} \frac1{n_k} \#\{i : s_{ki} \le c\}
            \ge (K + 1)(1 - \alpha)\Big\}

    Exact for any distribution and any K where frames are exchangeable: a box drawn at random from
    those of a new frame has :math:`P(s \le \hat c) \ge 1 - \alpha`, at most :math:`1 - \alpha +
    1/(K+1)` where each frame has one box and scores do not tie. Boxes of one frame may depend on
    each other. Source: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005; for
    several boxes a frame Lee, Barber, Willett, arXiv 2306.06342. docs/method.md, M-37.

    Args:
        scores: ``(P,)``, larger for stranger boxes.
        coverage: :math:`1 - \alpha`, in (0, 1).
        frames: of the scores, ``(P,)``; if left out, each box is a frame by itself.

    Returns:
        An element of ``scores``, or infinity if K is too small for any, below
        :math:`(1-\alpha)/\alpha`.

    Raises:
        ValueError: for shapes that differ, NaN, or a coverage outside (0, 1).
    """
    check_coverage(coverage)
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or (frames is not None and np.shape(frames) != scores.shape):
        got = scores if frames is None else frames
        raise shape_error("scores and frames", "(P,), one per box", got)
    if np.isnan(scores).any():
        raise input_error("scores", "numbers", "NaN", "leave out boxes without a score")
    weights, num_frames = np.ones(len(scores)), len(scores)
    if frames is not None:
        _, index, counts = np.unique(frames, return_inverse=True, return_counts=True)
        weights, num_frames = 1 / counts[index], len(counts)
    order = np.argsort(scores)
    reached = np.cumsum(weights[order]) >= (num_frames + 1) * (coverage - _ROUNDING)
    return float(scores[order[np.argmax(reached)]]) if reached.any() else math.inf


def coverage_interval(
    num_frames: int, coverage: float, num_measured: int | None = None, confidence: float = 0.95
) -> tuple[float, float]:
    r"""Interval of the coverage that a threshold will have, given how many frames it is from.

    .. math:: \text{Beta}(k, K + 1 - k), \qquad k = \lceil (K + 1)(1 - \alpha)\rceil

    the law of the long-run coverage over calibrations of one box a frame, scores without ties; of
    the share that is covered of ``num_measured`` others, the beta-binomial. Vovk, ACML 2012. Boxes
    of one frame that are not copies of each other make it narrower.

    Args:
        num_frames: K.
        coverage: asked for, in (0, 1).
        num_measured: boxes on which a coverage is measured; None for the long run.
        confidence: of the interval, central.
    """
    check_coverage(coverage)
    check_coverage(confidence, "confidence")
    check_count("num_frames", num_frames, 0)
    rank = math.ceil((num_frames + 1) * (coverage - _ROUNDING))
    if rank > num_frames:
        return 1.0, 1.0
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if num_measured is None:
        low, high = beta.ppf(tails, rank, num_frames + 1 - rank)
    else:
        check_count("num_measured", num_measured)
        low, high = betabinom.ppf(tails, num_measured, rank, num_frames + 1 - rank) / num_measured
    return float(low), float(high)


def check_coverage(coverage: float, name: str = "coverage") -> None:
    """Raise unless a probability lies in (0, 1)."""
    if not is_number(coverage) or not 0 < coverage < 1:
        remedy = "0.95 for 95 %" if is_number(coverage) and coverage >= 1 else ""
        raise input_error(name, "in (0, 1)", repr(coverage), remedy)
