r"""Score fusion: a logistic regression from score and features to the probability of a true box.

N boxes; K features of each besides the detector's score. docs/method.md, M-31.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from ebm3d.errors import input_error, shape_error
from ebm3d.evaluation.score_calibration import as_scores_and_outcomes

FloatArray = NDArray[np.float64]

LEAST_SCORE = 1e-6
"""Scores are clipped to [1e-6, 1 - 1e-6], where their logit is finite."""
_PRIOR_VARIANCE = 100.0  # of the weights of standardized inputs: finite if a feature separates


class FusionWeights(NamedTuple):
    r"""Weights of :math:`s' = \sigma(a \log\frac{s}{1 - s} + \sum_k b_k e_k + c)`.

    Args:
        weights: a, then K weights b, then c, ``(K + 2,)``.
        alone: a and c of boxes of which some feature is unknown, from their score alone, ``(2,)``.
    """

    weights: FloatArray
    alone: FloatArray


def fit_score_fusion(
    scores: FloatArray, features: FloatArray, is_true: NDArray[np.bool_]
) -> FusionWeights:
    r"""Fit the probability that a box is a true positive.

    Maximizes

    .. math::
        \sum_n t_n \log s'_n + (1 - t_n) \log (1 - s'_n) - \frac{|w|^2}{2 \cdot 10^2}

    over the weights w of the standardized inputs (the bias is free). Platt, "Probabilistic Outputs
    for Support Vector Machines", 1999, with a Gaussian on the weights in place of his softened
    targets. docs/method.md, M-31.

    Args:
        scores: of the detector, ``(N,)`` in [0, 1].
        features: ``(N, K)``; rows that are not finite take no part in the fit of ``weights``.
        is_true: whether each box overlaps a true one of its class, ``(N,)``.

    Raises:
        ValueError: for a wrong shape, or fewer than two boxes with features of either outcome.
    """
    scores, is_true = as_scores_and_outcomes(scores, is_true)
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) != len(scores):
        raise shape_error("features", f"({len(scores)}, K), a row a box", features)
    score_logit = logit(np.clip(scores, LEAST_SCORE, 1 - LEAST_SCORE))
    inputs = np.column_stack((score_logit, features))
    known = np.isfinite(inputs).all(axis=1)
    num_true, num_known = int(is_true[known].sum()), int(known.sum())
    if min(num_true, num_known - num_true) < 2:
        expected = "two or more true positives and two or more others"
        got = f"{num_true} and {num_known - num_true}"
        remedy = "fit on a split with detected and refined boxes"
        raise input_error("boxes with features", expected, got, remedy)
    return FusionWeights(
        _logistic_regression(inputs[known], is_true[known]),
        _logistic_regression(score_logit[:, None], is_true),
    )


def _logistic_regression(inputs: FloatArray, outcomes: NDArray[np.bool_]) -> FloatArray:
    """Weights of inputs ``(N, K)`` and a bias, ``(K + 1,)``."""
    # Imported here: it takes as long as an evaluation.
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(inputs)
    model = LogisticRegression(C=_PRIOR_VARIANCE, solver="newton-cholesky", tol=1e-10)
    model.fit(scaler.transform(inputs), outcomes)
    slopes: FloatArray = model.coef_[0] / scaler.scale_
    return np.append(slopes, model.intercept_ - slopes @ scaler.mean_)
