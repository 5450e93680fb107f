"""Two result sets of the same samples: before and after refinement, or model A and model B.

Intervals are percentiles of a paired bootstrap over scenes, whose frames resemble each other: with
the two scenes of mini_val they say little.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.errors import input_error
from ebm3d.evaluation.bootstrap import draw_weights
from ebm3d.evaluation.comparison import NUM_REPLICATES, interval
from ebm3d.evaluation.localization import ERRORS
from ebm3d.evaluation.nuscenes.boxes import FloatArray
from ebm3d.evaluation.nuscenes.evaluation import weighted_figures
from ebm3d.evaluation.nuscenes.localization import (
    VELOCITY_ERRORS,
    find_pairs,
    iou_average_precisions,
)
from ebm3d.evaluation.nuscenes.matching import NuScenesMatching
from ebm3d.evaluation.nuscenes.protocol import IOU_LEVELS, TP_ERRORS
from ebm3d.evaluation.nuscenes.report import NuScenesReport

Weights = NDArray[np.int32]


def compare_nuscenes(
    before: NuScenesReport,
    after: NuScenesReport,
    *,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare two result sets of the same ground truth.

    Args:
        before: report of the first set.
        after: report of the second.
        num_replicates: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        ``before``, ``after``, ``difference``, ``low`` and ``high`` of each figure, by its name:
        ``nd_score``, ``mean_ap``, ``mean_ap_0.5`` to ``mean_ap_4.0``, errors of true positives and
        ``mean_iou_ap_loose`` and ``..._strict`` in ``means``; likewise by class in ``classes``. In
        ``same_pairs`` mean 3D IoU and mean absolute errors of the labels that both sets match, of
        all classes and by class. ``num_scenes``, ``num_replicates``.

    Raises:
        ValueError: if the two have different samples or labels.
    """
    first, second = before.matching, after.matching
    if first.truth.tokens != second.truth.tokens or len(first.labels) != len(second.labels):
        got = f"{len(first.labels)} and {len(second.labels)} labels, or other samples"
        raise input_error("both result sets", "of the same samples and labels", got)
    num_scenes = first.truth.num_scenes
    weights = np.concatenate(
        [np.ones((1, num_scenes), np.int32), draw_weights(num_scenes, num_replicates, seed)]
    )
    means, classes = _figures(first, weights)
    other_means, other_classes = _figures(second, weights)
    by_class: dict[str, Any] = {name: {} for name in first.protocol.class_range}
    for (class_name, name), values in classes.items():
        by_class[class_name][name] = _change(values, other_classes[class_name, name])
    return {
        "num_scenes": num_scenes,
        "num_replicates": num_replicates,
        "means": {name: _change(values, other_means[name]) for name, values in means.items()},
        "classes": by_class,
        "same_pairs": _compare_pairs(first, second, weights),
    }


def _figures(
    matching: NuScenesMatching, weights: Weights
) -> tuple[dict[str, FloatArray], dict[tuple[str, str], FloatArray]]:
    """Replicates ``(B,)`` of the figures over all classes, and by class and name."""
    figures = weighted_figures(matching, weights)
    iou_aps = iou_average_precisions(matching, weights)
    means = {"nd_score": figures.nd_score, "mean_ap": figures.mean_ap}
    classes: dict[tuple[str, str], FloatArray] = {}
    for k, distance in enumerate(matching.protocol.dist_ths):
        means[f"mean_ap_{distance}"] = figures.aps[:, :, k].mean(axis=1)
    means |= dict(zip(TP_ERRORS, figures.tp_errors.T, strict=True))
    means |= {f"mean_iou_ap_{n}": iou_aps[..., i].mean(axis=1) for i, n in enumerate(IOU_LEVELS)}
    for name in matching.protocol.class_range:
        c = CLASSES.index(name)
        classes[name, "ap"] = figures.aps[:, c].mean(axis=1)
        for k, distance in enumerate(matching.protocol.dist_ths):
            classes[name, f"ap_{distance}"] = figures.aps[:, c, k]
        for i, level in enumerate(IOU_LEVELS):
            classes[name, f"iou_ap_{level}"] = iou_aps[:, c, i]
        for i, error in enumerate(TP_ERRORS):
            classes[name, error] = figures.errors[:, c, i]
    return means, classes


def _change(before: FloatArray, after: FloatArray) -> dict[str, float | None]:
    """Both figures and their difference with its interval; row 0 is of all scenes once."""
    change = after - before
    known = change[1:][~np.isnan(change[1:])]
    if np.isnan(change[0]) or len(known) == 0:
        return dict.fromkeys(("before", "after", "difference", "low", "high"))
    both = {"before": float(before[0]), "after": float(after[0]), "difference": float(change[0])}
    return {**both, **interval(known)}


def _compare_pairs(
    first: NuScenesMatching, second: NuScenesMatching, weights: Weights
) -> dict[str, Any]:
    """Mean 3D IoU and absolute errors of the labels that both sets match."""
    sides = [find_pairs(matching) for matching in (first, second)]
    labels = [side.matched.labels for side in sides]
    _, rows, other_rows = np.intersect1d(labels[0], labels[1], return_indices=True)
    sides = [sides[0].select(rows), sides[1].select(other_rows)]
    scenes = first.truth.scene[first.labels.sample[sides[0].matched.labels]]
    tables = [
        np.column_stack(
            [
                s.matched.iou_3d,
                s.matched.iou_bev,
                np.abs(s.matched.errors),
                np.abs(s.velocity_errors),
            ]
        )
        for s in sides
    ]
    names = ("iou_3d", "iou_bev", *ERRORS, *VELOCITY_ERRORS)
    groups = {"all": np.ones(len(scenes), dtype=np.bool_)}
    for name in first.protocol.class_range:
        groups[name] = sides[0].class_index == CLASSES.index(name)
    tree: dict[str, Any] = {}
    for group, inside in groups.items():
        tree[group] = {"num_pairs": int(inside.sum())}
        for column, name in enumerate(names):
            values = [table[inside, column] for table in tables]
            tree[group][name] = _change(*_weighted_means(values, scenes[inside], weights))
    return tree


def _weighted_means(
    values: list[FloatArray], scenes: NDArray[np.int64], weights: Weights
) -> list[FloatArray]:
    """Means of both sides ``(B,)`` over the pairs known to both; NaN of nothing."""
    known = ~np.isnan(values[0]) & ~np.isnan(values[1])
    num_scenes = weights.shape[1]
    num = weights @ np.bincount(scenes[known], minlength=num_scenes)
    with np.errstate(invalid="ignore"):
        return [
            (weights @ np.bincount(scenes[known], side[known], minlength=num_scenes)) / num
            for side in values
        ]
