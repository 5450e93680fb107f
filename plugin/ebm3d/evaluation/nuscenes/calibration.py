r"""Calibration of predicted standard deviations of boxes and velocities.

P pairs of a prediction and a label; D dimensions, by default nine. Predictions are taken as
Gaussian. docs/method.md, M-16.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr

from ebm3d.errors import input_error, shape_error
from ebm3d.evaluation.calibration import DIMENSIONS, LEVELS
from ebm3d.evaluation.nuscenes.boxes import FloatArray

BOX_AND_VELOCITY = (*DIMENSIONS, "vx", "vy")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "xyz": ("x", "y", "z"),
    "size": ("dx", "dy", "dz"),
    "yaw": ("yaw",),
    "velocity": ("vx", "vy"),
}


def gaussian_calibration(
    errors: FloatArray, stds: FloatArray, names: Sequence[str] = BOX_AND_VELOCITY
) -> dict[str, Any]:
    r"""Measure NLL, ECE and MCA of each dimension and of ``GROUPS``.

    With :math:`z = e / \sigma`, ECE is that of ``report_calibration``: the mean of
    :math:`|\hat P(\Phi(z) \le p) - p|` over 15 levels; MCA is the area between the curve of central
    intervals and the diagonal, :func:`miscalibration_area` of :math:`2 \Phi(|z|) - 1`. Both are
    fractions, not percent. Source of MCA: Query2Uncertainty, arXiv 2605.05328, Tab. 1, there in
    percent. Pairs with NaN in a dimension (unknown velocities) are left out of it.

    Args:
        errors: predicted minus true, yaw in [-pi, pi), ``(P, D)``; meters, radians, m/s.
        stds: standard deviations in the same units, positive, ``(P, D)``.
        names: of the D dimensions.

    Returns:
        By name and group ``num_pairs``, ``nll`` (nats; of a group the mean of its dimensions),
        ``ece``, ``mca``, ``sharpness`` (mean std) and ``rms_standardized_error``; ``None`` without
        pairs.

    Raises:
        ValueError: if the shapes differ, or a standard deviation is not positive and finite.
    """
    if errors.ndim != 2 or errors.shape[1] != len(names):
        raise shape_error("errors", f"(P, {len(names)}), columns {', '.join(names)}", errors)
    if stds.shape != errors.shape:
        raise shape_error("stds", f"{errors.shape} as errors", stds)
    valid = np.isnan(errors) | ((stds > 0) & np.isfinite(stds))
    if not valid.all():
        row, column = np.argwhere(~valid)[0]
        got = f"stds[{row}, {column}] = {stds[row, column]}"
        raise input_error("stds", "positive and finite", got, "leave boxes without one out")
    tree = {name: _calibration(errors[:, i], stds[:, i]) for i, name in enumerate(names)}
    for group, members in GROUPS.items():
        if len(members) > 1 and set(members) <= set(names):
            tree[group] = _mean_of([tree[name] for name in members])
    return tree


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


def _calibration(errors: FloatArray, stds: FloatArray) -> dict[str, Any]:
    """Figures of one dimension."""
    known = ~np.isnan(errors)
    num = int(known.sum())
    keys = ("nll", "ece", "mca", "sharpness", "rms_standardized_error")
    if num == 0:
        return {"num_pairs": 0, **dict.fromkeys(keys)}
    std = stds[known]
    z = errors[known] / std
    nll = 0.5 * np.square(z) + np.log(std) + 0.5 * math.log(2 * math.pi)
    observed = (ndtr(z) <= LEVELS[:, None]).mean(axis=1)
    figures = (
        nll.mean(),
        np.abs(observed - LEVELS).mean(),
        miscalibration_area(2 * ndtr(np.abs(z)) - 1),
        std.mean(),
        math.sqrt(np.square(z).mean()),
    )
    return {"num_pairs": num, **dict(zip(keys, map(float, figures), strict=True))}


def _mean_of(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means of the figures of several dimensions; the number of pairs is the smallest."""
    means: dict[str, Any] = {"num_pairs": min(part["num_pairs"] for part in parts)}
    for key in parts[0].keys() - {"num_pairs"}:
        values = [part[key] for part in parts]
        means[key] = None if None in values else float(np.mean(values))
    return means
