"""Figures of refinement heads on one detector, as tables and as a picture."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from ebm3d.adapters.engine.head_evaluation import (
    HeadRun,
    calibration_pairs,
    kitti_figures,
    number_of_parameters,
)
from ebm3d.evaluation.calibration import report_calibration

ERRORS = ("along", "across", "vertical", "length", "width", "height", "yaw_mod_pi")
_FAR = 20.0  # median deviations from the median
_CURVES = ("reliability", "pit_histogram", "coverage")  # left out of the file: long


def figures_of(
    run: HeadRun,
    head: Any,
    temperature: Sequence[float] | None,
    evaluator: Mapping[str, Any],
    meta: Any,
    thresholds: Sequence[float],
) -> dict[str, Any]:
    """Return all figures of one head and seed.

    Args:
        run: of the frames.
        head: for its parameters.
        temperature: of :func:`ebm3d.adapters.engine.head_evaluation.fit_run_temperature`.
        evaluator: config of the ``EBM3DKittiMetric``.
        meta: ``metainfo`` of the data set.
        thresholds: of the overlap.

    Returns:
        A tree of numbers; ``raw`` and ``scaled`` only of heads with a density.
    """
    tree = kitti_figures(run, evaluator, meta, thresholds)
    after, before = tree["after"]["Car"], tree["before"]["Car"]
    pairs = after["localization_same_pairs"]["hard"]
    figures: dict[str, Any] = {
        "ap_3d": {t: v["moderate"]["ap_r40"] for t, v in after["3d"].items()},
        "ap_bev": {t: v["moderate"]["ap_r40"] for t, v in after["bev"].items()},
        "ap_3d_before": {t: v["moderate"]["ap_r40"] for t, v in before["3d"].items()},
        "mean_iou_3d": pairs["mean_iou_3d"],
        "mean_iou_3d_before": before["localization_same_pairs"]["hard"]["mean_iou_3d"],
        "errors": {e: pairs["errors"][e]["mean_abs"] for e in ERRORS},
        "parameters": number_of_parameters(head),
        "seconds": statistics.median(run.seconds),
    }
    for name, factors in (("raw", None), ("scaled", temperature)):
        measured = None if name == "scaled" and factors is None else calibration_pairs(run, factors)
        if measured is not None:
            report = report_calibration(measured).as_dict()
            figures[name] = {k: v for k, v in report.items() if k not in _CURVES}
    return figures


def rows_of(result: Mapping[str, Any], thresholds: Sequence[float]) -> list[list[str]]:
    """Return the head of a table, and a row for each head: medians over the seeds, and ranges.

    Args:
        result: of :func:`ebm3d.adapters.engine.head_selection.compare_heads`.
        thresholds: of the overlap.
    """
    head = ["head", *(f"AP {t:.2f}" for t in thresholds), "mean IoU"]
    head += [f"{e}, {'degrees' if e.startswith('yaw') else 'm'}" for e in ERRORS]
    head += ["NLL", "NLL scaled", "ECE", "ECE scaled", "energy score", "parameters", "ms a frame"]
    rows = [head]
    for name, entry in result["heads"].items():
        seeds = list(entry["seeds"].values())
        row = [name]
        row += [cell(seeds, ("ap_3d", f"{t:.2f}"), 1) for t in thresholds]
        row.append(cell(seeds, ("mean_iou_3d",), 3))
        for error in ERRORS:
            unit, digits = (math.degrees(1), 2) if error.startswith("yaw") else (1.0, 3)
            row.append(cell(seeds, ("errors", error), digits, unit))
        for figure in ("nll", "ece"):
            digits = 2 if figure == "nll" else 3
            row += [cell(seeds, (part, figure, "mean"), digits) for part in ("raw", "scaled")]
        row.append(cell(seeds, ("raw", "energy_score"), 3))
        row.append(f"{seeds[0]['parameters']:,}")
        row.append(cell(seeds, ("seconds",), 0, 1e3))
        rows.append(row)
    return rows


def markdown_of(rows: Sequence[Sequence[str]], num_thresholds: int) -> str:
    """Return three tables narrow enough to read: accuracy, errors, densities and cost.

    Args:
        rows: of :func:`rows_of`.
        num_thresholds: how many columns of AP they have.
    """
    accuracy, errors = 2 + num_thresholds, 2 + num_thresholds + len(ERRORS)
    tables = []
    for part in (slice(1, accuracy), slice(accuracy, errors), slice(errors, None)):
        cells = [[row[0], *row[part]] for row in rows]
        lines = ["| " + " | ".join(row) + " |" for row in cells]
        tables.append("\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]]))
    return "\n\n".join(tables) + "\n"


def draw_comparison(result: Mapping[str, Any], thresholds: Sequence[float], path: Path) -> None:
    """Draw AP by threshold, and NLL and ECE after temperature scaling, as one picture.

    Args:
        result: of :func:`ebm3d.adapters.engine.head_selection.compare_heads`.
        thresholds: of the overlap.
        path: PNG file to write; its folder is made.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    colors = plt.get_cmap("tab20" if len(result["heads"]) > 10 else "tab10")
    densities: dict[str, list[tuple[float, float]]] = {}
    for index, (name, entry) in enumerate(result["heads"].items()):
        seeds = list(entry["seeds"].values())
        curve = [statistics.median(s["ap_3d"][f"{t:.2f}"] for s in seeds) for t in thresholds]
        left.plot(thresholds, curve, marker="o", ms=4, color=colors(index), label=name)
        points = [
            (s["scaled"]["nll"]["mean"], s["scaled"]["ece"]["mean"]) for s in seeds if "scaled" in s
        ]
        if points:
            densities[name] = points
            right.scatter(*zip(*points, strict=True), color=colors(index), s=26)
    _look_at_the_middle(right, densities)
    before = next(iter(next(iter(result["heads"].values()))["seeds"].values()))["ap_3d_before"]
    alone = [before[f"{t:.2f}"] for t in thresholds]
    left.plot(thresholds, alone, "k--", lw=1, label="detector alone")
    left.set(xlabel="3D IoU threshold", ylabel="3D AP R40, moderate (%)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right", fontsize=9, frameon=False)
    right.set(xlabel="NLL after scaling (nats)", ylabel="ECE after scaling")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _look_at_the_middle(axes: Any, densities: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Leave heads far from the others outside the picture, and say which."""
    medians = {
        n: [statistics.median(axis) for axis in zip(*p, strict=True)] for n, p in densities.items()
    }
    if len(medians) < 4:
        return
    outside = set()
    for axis in (0, 1):
        middle = statistics.median(m[axis] for m in medians.values())
        spread = statistics.median(abs(m[axis] - middle) for m in medians.values())
        outside |= {n for n, m in medians.items() if abs(m[axis] - middle) > _FAR * spread > 0}
    kept = [point for n, points in densities.items() if n not in outside for point in points]
    for values, limit in zip(zip(*kept, strict=True), (axes.set_xlim, axes.set_ylim), strict=True):
        margin = 0.08 * (max(values) - min(values)) + 1e-6
        limit(min(values) - margin, max(values) + margin)
    if outside:
        axes.set_title(f"outside: {', '.join(sorted(outside))}", fontsize=9)


def cell(seeds: Sequence[Any], path: Sequence[str], digits: int, unit: float = 1.0) -> str:
    """Return median over the seeds and range, or a dash where a seed has no such figure.

    Args:
        seeds: trees of figures.
        path: of a number in each.
        digits: behind the point.
        unit: factor of the number.
    """
    found = [reduce(getitem, path, seed) if path[0] in seed else None for seed in seeds]
    values = [unit * float(value) for value in found if value is not None]
    if len(values) < len(found):
        return "-"
    middle = f"{statistics.median(values):.{digits}f}"
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return middle if len(values) == 1 or low == high else f"{middle} ({low} to {high})"
