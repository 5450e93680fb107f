r"""Score fusion: what else is known of a box turns its score into the probability that it fits.

N boxes; K features of each besides the detector's score. docs/method.md, M-31.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from ebm3d.datasets.atomic import write_atomically
from ebm3d.errors import input_error, is_number, shape_error
from ebm3d.evaluation.score_calibration import (
    ScoreCalibration,
    as_scores_and_outcomes,
    calibration_of_scores,
)

FloatArray = NDArray[np.float64]

LEAST_SCORE = 1e-6
"""Scores are taken within [1e-6, 1 - 1e-6], where their logit is finite."""
_PRIOR_STD = 10.0  # of the weights of standardized inputs: holds them where the outcomes do not
_LEAST_GRADIENT = 1e-7  # in nats a box, by the standardized weights: where they are found
_REMEDY = "write it with tools/test.py --fit-fusion"
_LOGIT, _BIAS = "logit", "bias"


@dataclass(frozen=True)
class ScoreFusion:
    r"""Fitted weights of a logistic regression on scores and features.

    .. math:: s' = \sigma\Big(a \log\frac{s}{1 - s} + \sum_k b_k e_k + c\Big)

    docs/method.md, M-31.

    Attributes:
        features: names of the K features.
        weights: a, then K weights b, then c.
        alone: a and c of boxes of which some feature is unknown, from their score alone.

    Raises:
        ValueError: for no feature, one named twice, another number of weights than K + 2 and 2, or
            weights that are not finite.
    """

    features: tuple[str, ...]
    weights: tuple[float, ...]
    alone: tuple[float, float] = (1.0, 0.0)

    def __post_init__(self) -> None:
        """Take any sequences, and check them."""
        for name in ("features", "weights", "alone"):
            values = getattr(self, name)
            if not isinstance(values, list | tuple):
                raise input_error(name, "a list", repr(values), _REMEDY)
            object.__setattr__(self, name, tuple(values))
        names = set(self.features)
        is_named = all(isinstance(name, str) for name in self.features)
        if not is_named or not 0 < len(names) == len(self.features) or names & {_LOGIT, _BIAS}:
            expected = f"one or more names, each once, none of them {_LOGIT} or {_BIAS}"
            raise input_error("features", expected, self.features)
        for name, number in (("weights", len(self.features) + 2), ("alone", 2)):
            values = getattr(self, name)
            if len(values) != number or not all(is_number(value) for value in values):
                raise input_error(name, f"{number} finite numbers", values)

    def __call__(self, scores: Tensor, features: Tensor) -> Tensor:
        """Return fused scores.

        Args:
            scores: ``(N,)`` in [0, 1].
            features: ``(N, K)``; a row that is not finite has no features.

        Returns:
            ``(N,)`` probabilities, in the dtype of ``scores``.

        Raises:
            ValueError: for a wrong shape, or scores of whole numbers.
        """
        if scores.ndim != 1 or not scores.is_floating_point():
            got = f"{scores.dtype} of shape {tuple(scores.shape)}"
            raise input_error("scores", "(N,) of a floating-point type", got)
        expected = (len(scores), len(self.features))
        if features.shape != expected:
            raise shape_error("features", f"{expected}, a column a feature", features)
        wide = features.double()
        logit = torch.logit(scores.double(), eps=LEAST_SCORE)
        known = torch.isfinite(wide).all(dim=1)
        slope, *weights, bias = self.weights
        joint = slope * logit + wide @ wide.new_tensor(weights) + bias
        alone = self.alone[0] * logit + self.alone[1]
        return torch.sigmoid(torch.where(known, joint, alone)).to(scores.dtype)


@dataclass(frozen=True)
class FusionFit:
    """A fitted fusion, and what it was fitted on.

    Attributes:
        fusion: the weights.
        min_iou: 3D IoU with a true box whose probability it gives, by class.
        num_known: boxes of which all features are known.
        before: calibration of the detector's scores as that probability.
        after: of the fused ones, on the same boxes.
    """

    fusion: ScoreFusion
    min_iou: Mapping[str, float]
    num_known: int
    before: ScoreCalibration
    after: ScoreCalibration


def fit_score_fusion(
    scores: FloatArray,
    features: Mapping[str, FloatArray],
    is_true_positive: NDArray[np.bool_],
    min_iou: Mapping[str, float],
) -> FusionFit:
    r"""Fit the probability that a box is a true positive.

    Maximizes

    .. math::
        \sum_n t_n \log s'_n + (1 - t_n) \log (1 - s'_n) - \frac{|w|^2}{2 \cdot 10^2}

    over the weights w of the inputs after they were standardized (that of the constant is free):
    logistic regression, convex, by Newton's method in a trust region. Platt, "Probabilistic Outputs
    for Support Vector Machines", 1999, with a Gaussian on the weights in place of his softened
    targets: it holds them finite where the inputs separate the outcomes, and says next to nothing
    where there are hundreds of boxes. docs/method.md, M-31.

    Args:
        scores: ``(N,)`` of the detector, in [0, 1].
        features: K arrays ``(N,)`` by name; boxes of which one is not finite take no part in the
            fit of the joint weights.
        is_true_positive: ``(N,)`` whether the box overlaps a true one of its class.
        min_iou: by how much, by class; noted in the result.

    Returns:
        The weights, with calibration before and after.

    Raises:
        ValueError: for a wrong shape, no feature, fewer than two boxes with features of either
            outcome, or a maximum that is not found.
    """
    scores, is_true_positive = as_scores_and_outcomes(scores, is_true_positive)
    columns = [np.asarray(column, dtype=np.float64) for column in features.values()]
    given = dict(zip(features, columns, strict=True))
    for name, column in given.items():
        if column.shape != scores.shape:
            raise shape_error(name, f"{scores.shape}, one value a box", column)
    logit = _logit(scores)
    inputs = np.column_stack((logit, *columns))
    known = np.isfinite(inputs).all(axis=1)
    outcomes = is_true_positive[known]
    if min(outcomes.sum(), (~outcomes).sum()) < 2:
        raise input_error(
            "boxes with features",
            "two or more true positives and two or more others",
            f"{outcomes.sum()} and {(~outcomes).sum()}",
            "fit on a split in which boxes are found and refined",
        )
    weights = _logistic_regression(inputs[known], outcomes)
    slope, bias = _logistic_regression(logit[:, None], is_true_positive)
    fusion = ScoreFusion(tuple(features), tuple(weights.tolist()), (float(slope), float(bias)))
    fused = fusion(torch.from_numpy(scores), torch.from_numpy(inputs[:, 1:])).numpy()
    return FusionFit(
        fusion,
        dict(min_iou),
        int(known.sum()),
        calibration_of_scores(scores, is_true_positive),
        calibration_of_scores(fused, is_true_positive),
    )


def write_score_fusion(path: str | Path, fit: FusionFit) -> None:
    """Write fitted weights as JSON; whole or not at all.

    Args:
        path: the file; its folder is made if absent.
        fit: what :func:`fit_score_fusion` returns.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fusion = fit.fusion
    names = (_LOGIT, *fusion.features, _BIAS)
    tree = {
        "weights": dict(zip(names, fusion.weights, strict=True)),
        "alone": dict(zip((_LOGIT, _BIAS), fusion.alone, strict=True)),
        "min_iou": dict(fit.min_iou),
        "num_known": fit.num_known,
        "before": fit.before.as_dict(),
        "after": fit.after.as_dict(),
    }
    write_atomically(path, (json.dumps(tree, indent=1) + "\n").encode())


def read_score_fusion(path: str | Path) -> ScoreFusion:
    """Read the weights of a file of :func:`write_score_fusion`.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not hold finite weights of the logit, of features and of a bias.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"score fusion: expected a file that --fit-fusion wrote: {path}")
    try:
        tree = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise input_error(f"score fusion {path}", "a JSON file", str(error), _REMEDY) from error
    weights = _table(tree, "weights", path)
    alone = _table(tree, "alone", path)
    features = [name for name in weights if name not in (_LOGIT, _BIAS)]
    if not features:
        raise input_error(f"weights in score fusion {path}", "of a feature", "none", _REMEDY)
    return ScoreFusion(
        tuple(features),
        tuple(weights[name] for name in (_LOGIT, *features, _BIAS)),
        (alone[_LOGIT], alone[_BIAS]),
    )


def _logistic_regression(inputs: FloatArray, outcomes: NDArray[np.bool_]) -> FloatArray:
    """Weights of inputs ``(N, K)`` and a bias, ``(K + 1,)``."""
    center, spread = inputs.mean(axis=0), inputs.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    rows = np.column_stack(((inputs - center) / spread, np.ones(len(inputs))))
    signs = np.where(outcomes, 1.0, -1.0)
    precision = np.append(np.full(inputs.shape[1], _PRIOR_STD**-2), 0.0)

    def value(w: FloatArray) -> float:
        return float(np.logaddexp(0, -signs * (rows @ w)).sum() + 0.5 * precision @ w**2)

    def gradient(w: FloatArray) -> FloatArray:
        slope: FloatArray = -rows.T @ (signs * expit(-signs * (rows @ w))) + precision * w
        return slope

    def hessian(w: FloatArray) -> FloatArray:
        p = expit(rows @ w)
        curvature: FloatArray = (rows * (p * (1 - p))[:, None]).T @ rows + np.diag(precision)
        return curvature

    start = np.zeros(rows.shape[1])
    # One more true and one more false box: a finite start, also where all outcomes are alike.
    start[-1] = math.log((outcomes.sum() + 1) / ((~outcomes).sum() + 1))
    # Per box: below it, the gain of a step drowns in the rounding of the sum of all boxes.
    gtol = _LEAST_GRADIENT * len(rows)
    found = minimize(
        value, start, jac=gradient, hess=hessian, method="trust-exact", options={"gtol": gtol}
    )
    if not found.success:
        raise input_error(
            "logistic regression of the scores",
            "converged",
            f"gradient {np.linalg.norm(found.jac):.2g} on {len(rows)} boxes: {found.message}",
            "look for features that are equal or too large to be squared",
        )
    slopes: FloatArray = found.x[:-1] / spread
    return np.append(slopes, found.x[-1] - slopes @ center)


def _logit(scores: FloatArray) -> FloatArray:
    """Log odds of scores within the limits."""
    limited = np.clip(scores, LEAST_SCORE, 1 - LEAST_SCORE)
    odds: FloatArray = np.log(limited) - np.log1p(-limited)
    return odds


def _table(tree: Any, key: str, path: Path) -> dict[str, float]:
    """Finite numbers by name, of a file."""
    table = tree.get(key) if isinstance(tree, dict) else None
    if not isinstance(table, dict) or not {_LOGIT, _BIAS} <= set(table):
        got = sorted(table) if isinstance(table, dict) else type(table).__name__
        name, expected = f"{key} in score fusion {path}", f"numbers with {_LOGIT} and {_BIAS}"
        raise input_error(name, expected, got, _REMEDY)
    for name, value in table.items():
        if not is_number(value):
            name = f"weight of {name} in score fusion {path}"
            raise input_error(name, "a finite number", repr(value), _REMEDY)
    return {name: float(value) for name, value in table.items()}
