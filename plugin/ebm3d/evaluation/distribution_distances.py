"""Distances of predicted from true distributions: the energy score, the miscalibration area."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ebm3d.errors import input_error, shape_error
from ebm3d.evaluation.localization import wrap

FloatArray = NDArray[np.float64]


def miscalibration_area(probabilities: FloatArray) -> float:
    r"""Area between the distribution function of values ``(P,)`` in [0, 1] and the diagonal.

    .. math:: \int_0^1 |F_P(p) - p|\, dp

    in closed form; 0 for uniform values in the limit, 0.5 at most, NaN of none.
    """
    if len(probabilities) == 0:
        return math.nan
    edges = np.concatenate([[0.0], np.sort(probabilities), [1.0]])
    shares = np.arange(len(probabilities) + 1) / len(probabilities)
    below, above = edges[:-1] - shares, edges[1:] - shares
    # The integral of |p - share| is that of its square's signed half.
    area = (above * np.abs(above) - below * np.abs(below)) / 2
    return float(area.sum())


def energy_scores(
    samples: FloatArray, truths: FloatArray, yaw_period: float = 2 * math.pi
) -> FloatArray:
    r"""Energy score of each pair ``(P,)``, from samples of the predicted density.

    .. math:: \frac1S \sum_k \|s_k - y\| - \frac{1}{S (S - 1)} \sum_{k < l} \|s_k - s_l\|

    Source: Gneiting, Raftery, JASA 2007, section 4.3, beta = 1. The second term is over pairs of
    *different* samples, so that the score is unbiased for any S. Norms are Euclidean; a meter, a
    radian and a meter per second count alike. Time grows with S^2 P, memory with S P.
    docs/method.md, M-16.

    Args:
        samples: boxes, ``(P, S, D)``, S at least 2.
        truths: true boxes in the same frame, ``(P, D)``.
        yaw_period: differences of yaws are taken in half a period on either side of 0, radians.

    Raises:
        ValueError: if the shapes do not fit, or S is below 2.
    """
    if samples.ndim != 3 or samples[:, 0].shape != truths.shape or truths.shape[1] not in (7, 9):
        raise shape_error("samples", f"(P, S, D) for truths of shape {truths.shape}", samples)
    num_samples = samples.shape[1]
    if num_samples < 2:
        raise input_error("samples", "at least two a pair", num_samples)

    def norms(differences: FloatArray) -> FloatArray:
        yaw = wrap(differences[..., 6], yaw_period)
        squares = np.square(differences[..., :6]).sum(axis=-1) + np.square(yaw)
        squares += np.square(differences[..., 7:]).sum(axis=-1)
        return np.asarray(np.sqrt(squares).sum(axis=1))

    between = np.zeros(len(truths))
    for lag in range(1, num_samples):
        between += norms(samples[:, lag:] - samples[:, :-lag])
    to_truth = norms(samples - truths[:, None]) / num_samples
    return np.asarray(to_truth - between / (num_samples * (num_samples - 1)))
