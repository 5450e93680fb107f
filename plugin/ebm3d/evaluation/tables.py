"""Evaluation figures as tables for the terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

from ebm3d.evaluation.kitti_evaluation import (
    SIMILARITY_NAMES,
    KittiEvaluation,
    format_threshold,
)
from ebm3d.evaluation.kitti_protocol import DIFFICULTIES, METRICS
from ebm3d.evaluation.kitti_report import KittiReport
from ebm3d.evaluation.localization import ERRORS, MIN_OVERLAP

_METRIC_TITLES = {"bbox": "2D box", "bev": "BEV", "3d": "3D", "aos": "AOS"}
_ANGLES = ("yaw", "yaw_mod_pi")
_WIDTH = 120


def render(*tables: RenderableType) -> str:
    """Return tables as plain text, for logs.

    Args:
        tables: anything rich can print.
    """
    stream = io.StringIO()
    console = Console(file=stream, width=_WIDTH, color_system=None)
    for table in tables:
        console.print(table)
    return stream.getvalue().rstrip()


def report_tables(report: KittiReport, title: str = "") -> Iterator[RenderableType]:
    """Yield the tables of one result set.

    Args:
        report: all figures.
        title: what was evaluated, put before each table's own title.
    """
    for class_name in report.evaluation.num_detections:
        yield precision_table(report.evaluation, class_name, title)
        yield distance_table(report, class_name, title)
        yield localization_table(report.localization[class_name], class_name, title)
    for note in report.evaluation.notes:
        yield f"Note: {note}"


def precision_table(evaluation: KittiEvaluation, class_name: str, title: str = "") -> Table:
    """Return AP R40 (and R11) of one class: a line per threshold, columns by metric and difficulty."""
    counts = ", ".join(
        f"{evaluation.num_labels[class_name, d.name]} {d.name}" for d in DIFFICULTIES
    )
    num = evaluation.num_detections[class_name]
    table = _table(
        f"{title}{class_name}: AP R40 (R11), labels: {counts}; detections: {num}",
        "IoU",
        *(f"{_METRIC_TITLES[m]} {d.name}" for m in (*METRICS, "aos") for d in DIFFICULTIES),
    )
    for threshold in _thresholds(evaluation, class_name):
        cells = [
            _percent(evaluation, class_name, metric, threshold, d.name)
            for metric in (*METRICS, "aos")
            for d in DIFFICULTIES
        ]
        table.add_row(format_threshold(threshold), *cells)
    return table


def distance_table(report: KittiReport, class_name: str, title: str = "") -> Table:
    """Return AP R40 of one class by distance, moderate difficulty."""
    bands = report.by_distance
    table = _table(
        f"{title}{class_name}: AP R40 by distance (m), moderate",
        "IoU",
        *(f"{_METRIC_TITLES[m]} {name}" for m in ("bev", "3d") for name in bands),
    )
    labels = [evaluation.num_labels[class_name, "moderate"] for evaluation in bands.values()]
    table.add_row("labels", *(str(num) for num in labels * 2))
    for threshold in _thresholds(report.evaluation, class_name):
        cells = [
            f"{e.average_precision(class_name, metric, threshold, 'moderate'):.2f}"
            for metric in ("bev", "3d")
            for e in bands.values()
        ]
        table.add_row(format_threshold(threshold), *cells)
    return table


def localization_table(
    summary: Mapping[str, Any], class_name: str, title: str = ""
) -> Table:
    """Return overlap and median absolute errors of matched pairs by difficulty and band."""
    overlap = MIN_OVERLAP[class_name.lower()]
    table = _table(
        f"{title}{class_name}: pairs with BEV IoU > {overlap:g}; median |error| (bias), m and deg",
        "pairs of",
        "found",
        "IoU 3D",
        "BEV",
        *(name.replace("_mod_pi", " mod pi") for name in ERRORS),
    )
    groups: list[tuple[str, Mapping[str, Any]]] = [(d.name, summary[d.name]) for d in DIFFICULTIES]
    for kind, unit in (("by_distance", " m"), ("by_occlusion", ""), ("by_points", " points")):
        groups += [(f"{name}{unit}", part) for name, part in summary.get(kind, {}).items()]
    for name, part in groups:
        cells = [f"{part['num_matched']}/{part['num_labels']}"]
        if part["num_matched"] == 0:
            table.add_row(name, *cells, *["-"] * (2 + len(ERRORS)))
            continue
        cells += [f"{part['mean_iou_3d']:.3f}", f"{part['mean_iou_bev']:.3f}"]
        for error in ERRORS:
            figures = part["errors"][error]
            scale = 57.29577951308232 if error in _ANGLES else 1.0
            digits = 1 if error in _ANGLES else 2
            median, bias = figures["quantiles"]["0.50"] * scale, figures["mean"] * scale
            cells.append(f"{median:.{digits}f} ({bias:+.{digits}f})")
        table.add_row(name, *cells)
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    """A table with a left-aligned first column and right-aligned others."""
    table = Table(title=title, box=box.SIMPLE, title_justify="left", pad_edge=False)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _thresholds(evaluation: KittiEvaluation, class_name: str) -> list[float]:
    """The overlap thresholds at which the class was evaluated."""
    return sorted({key[2] for key in evaluation.curves if key[0] == class_name})


def _percent(
    evaluation: KittiEvaluation, class_name: str, metric: str, threshold: float, difficulty: str
) -> str:
    """R40 and R11 in one cell, or a dash where nothing could be evaluated."""
    if metric in SIMILARITY_NAMES.values():
        r40 = evaluation.average_precision(class_name, metric, threshold, difficulty)
        if r40 != r40:
            return "-"
    if evaluation.num_labels[class_name, difficulty] == 0:
        return "no labels"
    r40, r11 = (
        evaluation.average_precision(class_name, metric, threshold, difficulty, name)
        for name in ("ap_r40", "ap_r11")
    )
    return f"{r40:.2f} ({r11:.2f})"
