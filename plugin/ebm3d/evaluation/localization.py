"""How well found objects are localized: summaries of matched pairs, in all and by bands."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.errors import input_error
from ebm3d.evaluation.kitti_evaluation import MatchingProblem
from ebm3d.evaluation.matching import COUNTED
from ebm3d.evaluation.pairs import ERRORS, MatchedPairs

FloatArray = NDArray[np.float64]
StatusArray = NDArray[np.int8]

QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.95)
DISTANCE_BANDS = (0.0, 20.0, 40.0, np.inf)
POINT_BANDS = (0.0, 10.0, 50.0, 200.0, np.inf)


def summarize(pairs: MatchedPairs, num_labels: int) -> dict[str, Any]:
    """Summarize the overlaps and errors of pairs.

    Args:
        pairs: of one class, perhaps of one band.
        num_labels: labels that could have been matched.

    Returns:
        ``num_labels``, ``num_matched``, ``mean_iou_3d``, ``mean_iou_bev``, ``quantiles_iou_3d``
        and ``errors``: for each of ``ERRORS`` the bias (``mean``), ``mean_abs`` and ``quantiles``
        of the absolute error. Without pairs the figures are ``None``.
    """
    summary: dict[str, Any] = {"num_labels": num_labels, "num_matched": len(pairs)}
    empty = len(pairs) == 0
    summary["mean_iou_3d"] = None if empty else float(pairs.iou_3d.mean())
    summary["mean_iou_bev"] = None if empty else float(pairs.iou_bev.mean())
    summary["quantiles_iou_3d"] = _quantiles(pairs.iou_3d)
    summary["errors"] = {
        name: {
            "mean": None if empty else float(pairs.errors[:, i].mean()),
            "mean_abs": None if empty else float(np.abs(pairs.errors[:, i]).mean()),
            "quantiles": _quantiles(np.abs(pairs.errors[:, i])),
        }
        for i, name in enumerate(ERRORS)
    }
    return summary


def summarize_bands(
    pairs: MatchedPairs,
    label_values: FloatArray,
    label_status: StatusArray,
    borders: Sequence[float],
) -> dict[str, Any]:
    """Summarize the pairs by bands of a quantity of their labels.

    Args:
        pairs: of one class.
        label_values: the quantity of all labels (distance, points, occlusion), shape ``(G,)``.
        label_status: which labels count, shape ``(G,)``.
        borders: ascending; a band holds its lower border and not its upper one.

    Returns:
        A summary for each band, by the name of ``band_name``.
    """
    summaries = {}
    for low, high in band_limits(borders):
        inside = (label_values >= low) & (label_values < high)
        num_labels = int((inside & (label_status == COUNTED)).sum())
        summaries[band_name(low, high)] = summarize(pairs.select(inside[pairs.labels]), num_labels)
    return summaries


def band_limits(borders: Sequence[float]) -> list[tuple[float, float]]:
    """Return lower and upper border of each band.

    Args:
        borders: ascending, at least two.

    Raises:
        ValueError: if they are not.
    """
    if len(borders) < 2 or not all(np.diff(borders) > 0):
        raise input_error("borders of bands", "two or more ascending values", list(borders))
    return [(float(a), float(b)) for a, b in pairwise(borders)]


def band_name(low: float, high: float) -> str:
    """Return the name of a band: ``"20-40"``, or ``"40-"`` without an upper border."""
    return f"{low:g}-" if np.isinf(high) else f"{low:g}-{high:g}"


def label_distances(problem: MatchingProblem) -> tuple[FloatArray, FloatArray]:
    """Return the horizontal distance from the camera of all labels (G,) and detections (D,)."""
    first, second = (
        np.hypot(objects.location[:, 0], objects.location[:, 2])
        for objects in (problem.labels.objects, problem.detections.objects)
    )
    return first, second


def _quantiles(values: FloatArray) -> dict[str, float | None]:
    """The quantiles of ``QUANTILES``, or ``None`` each."""
    if len(values) == 0:
        return dict.fromkeys(map("{:.2f}".format, QUANTILES))
    found = np.quantile(values, QUANTILES)
    return {f"{q:.2f}": float(value) for q, value in zip(QUANTILES, found, strict=True)}
