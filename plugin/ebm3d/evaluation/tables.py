"""Evaluation figures as tables for the terminal."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box as box_styles
from rich.console import Console, RenderableType
from rich.table import Table

from ebm3d.evaluation.calibration import COVERAGES, VELOCITIES, CalibrationReport
from ebm3d.evaluation.comparison import KittiComparison
from ebm3d.evaluation.kitti_evaluation import KittiEvaluation, format_threshold
from ebm3d.evaluation.kitti_protocol import DIFFICULTIES
from ebm3d.evaluation.kitti_report import KittiReport
from ebm3d.evaluation.left_out import REASONS
from ebm3d.evaluation.localization import ERRORS, MIN_OVERLAP

_TITLES = {"bbox": "2D box", "bev": "BEV", "3d": "3D", "aos": "AOS"}
_ANGLES = ("yaw", "yaw_mod_pi")
_WIDTH = 160


def render(*tables: RenderableType) -> str:
    """Return tables as plain text, for logs."""
    stream = io.StringIO()
    console = Console(file=stream, width=_WIDTH, color_system=None)
    for table in tables:
        console.print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


def report_tables(report: KittiReport, title: str = "") -> Iterator[RenderableType]:
    """Yield the tables of one result set; ``title`` is put before each table's title."""
    for class_name in report.evaluation.num_detections:
        yield precision_table(report.evaluation, class_name, title)
        yield distance_table(report, class_name, title)
        yield localization_table(report.localization[class_name], class_name, title)
    yield from left_out_tables(report.left_out, title)
    for note in report.evaluation.notes:
        yield f"Note: {note}"


def precision_table(evaluation: KittiEvaluation, class_name: str, title: str = "") -> Table:
    """Return AP of one class: lines by threshold, R40 and R11; columns by metric."""
    counts = ", ".join(
        f"{evaluation.num_labels[class_name, d.name]} {d.name}" for d in DIFFICULTIES
    )
    num = evaluation.num_detections[class_name]
    names = "/".join(d.name for d in DIFFICULTIES)
    metrics = (*evaluation.metrics, *(["aos"] if "bbox" in evaluation.metrics else []))
    table = make_table(
        f"{title}{class_name}: average precision, {names}\nlabels: {counts}; detections: {num}",
        ("IoU", "", *(_TITLES[metric] for metric in metrics)),
    )
    for threshold in evaluation.thresholds(class_name):
        for name, label in (("ap_r40", "R40"), ("ap_r11", "R11")):
            cells = [
                " ".join(
                    _percent(evaluation, class_name, metric, threshold, d.name, name)
                    for d in DIFFICULTIES
                )
                for metric in metrics
            ]
            shown = format_threshold(threshold) if name == "ap_r40" else ""
            table.add_row(shown, label, *cells)
    return table


def distance_table(report: KittiReport, class_name: str, title: str = "") -> Table:
    """Return AP R40 of one class by distance, moderate difficulty."""
    bands = report.by_distance
    table = make_table(
        f"{title}{class_name}: AP R40 by distance in meters, moderate",
        ("IoU", *(f"{_TITLES[m]} {name}" for m in ("bev", "3d") for name in bands)),
    )
    labels = [str(evaluation.num_labels[class_name, "moderate"]) for evaluation in bands.values()]
    table.add_row("labels", *labels, *labels)
    for threshold in report.evaluation.thresholds(class_name):
        cells = [
            _percent(evaluation, class_name, metric, threshold, "moderate")
            for metric in ("bev", "3d")
            for evaluation in bands.values()
        ]
        table.add_row(format_threshold(threshold), *cells)
    return table


def localization_table(summary: Mapping[str, Any], class_name: str, title: str = "") -> Table:
    """Return overlaps and errors of matched pairs, of ``KittiReport.localization``."""
    overlap = MIN_OVERLAP[class_name.lower()]
    table = make_table(
        f"{title}{class_name}: pairs with BEV IoU > {overlap:g}; mean IoU, "
        "median absolute error and bias in cm and degrees",
        ("", "matched", "3D", "BEV", *(name.replace("yaw_mod_pi", "mod pi") for name in ERRORS)),
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
            scale, digits = (math.degrees(1.0), 1) if error in _ANGLES else (100.0, 0)
            median, bias = figures["quantiles"]["0.50"] * scale, figures["mean"] * scale
            cells.append(f"{median:.{digits}f} {bias:+.{digits}f}")
        table.add_row(name, *cells)
    return table


def left_out_tables(left_out: Mapping[str, Any], title: str = "") -> Iterator[RenderableType]:
    """Yield what was left out of ``KittiReport.left_out``: a line by reason, a column by class."""
    table = make_table(f"{title}Left out, easy/moderate/hard", ("", *left_out))
    for kind in ("labels", "detections"):
        for reason, name in REASONS.items():
            nums = [figures[kind].get(reason, 0) for figures in left_out.values()]
            cells = [[*n.values()] if isinstance(n, Mapping) else [n] for n in nums]
            if any(map(any, cells)):
                table.add_row(f"{kind} {name}", *("/".join(map(str, cell)) for cell in cells))
    if table.row_count:
        yield table
    figures = next(iter(left_out.values()))
    for kind, counts in figures["other_classes"].items():
        if counts:
            shown = ", ".join(f"{num} {name}" for name, num in counts.items())
            yield f"{title}Left out, {kind} of classes that are not evaluated: {shown}."
    if figures["frames"]:
        yield f"{title}Left out, labeled frames without predictions: {figures['frames']}."


def calibration_table(reports: Mapping[str, CalibrationReport], title: str) -> Table:
    """Return the calibration of predicted densities: a column for each report."""
    table = make_table(title, ("", *reports))
    columns = list(map(_calibration_cells, reports.values()))
    for name in _calibration_cells(next(iter(reports.values()))):
        table.add_row(name, *(cells[name].replace("nan", "-") for cells in columns))
    return table


def _calibration_cells(r: CalibrationReport) -> dict[str, str]:
    """One column of the calibration table, cells by name of the row."""
    cells = {
        "pairs": str(r.num_pairs),
        "pairs without density": str(r.num_without_density),
        "NLL (nats, m and rad): mean ± its error": f"{r.nll:.2f} ± {r.nll_standard_error:.2f}",
        "NLL, median": f"{r.nll_median:.2f}",
        "NLL without headings flipped by pi (how many)": (
            f"{r.nll_not_flipped:.2f} ({r.num_flipped})"
        ),
        "entropy (nats)": f"{r.entropy:.2f}",
        "energy score": f"{r.energy_score:.4f}",
        "ECE, mean of the dimensions (by chance)": f"{r.ece:.3f} ({r.ece_by_chance:.3f})",
        "QCE, joint (by chance)": f"{r.qce:.3f} ({r.ece_by_chance:.3f})",
    }
    for share, inside in zip(COVERAGES, r.coverage[-1], strict=True):
        cells[f"in the ellipsoid of {100 * share:g} %"] = f"{100 * inside:.1f} %"
    for group in r.groups:
        cells[f"miscalibration area, {group}"] = f"{100 * r.mca(group):.2f} %"
    for i, name in enumerate(r.dimensions):
        scale, unit = (math.degrees(1.0), "deg") if name == "yaw" else (100.0, "cm")
        unit = "cm/s" if name in VELOCITIES else unit
        cells[f"{name}: ECE, mean std ({unit}), error / std"] = (
            f"{r.calibration_error[i]:.3f}, {scale * r.sharpness[i]:.1f}, "
            f"{r.rms_standardized_error[i]:.2f}"
        )
    return cells


def comparison_tables(
    comparison: KittiComparison, names: Sequence[str]
) -> Iterator[RenderableType]:
    """Yield differences with intervals, and the boxes that changed most; names of both sets."""
    first, second = names
    for class_name, figures in comparison.average_precision.items():
        table = make_table(
            f"{class_name}: AP R40 of {second} minus {first} [95 % interval], moderate",
            ("IoU", *(_TITLES[metric] for metric in figures)),
        )
        for threshold in next(iter(figures.values())):
            parts = [by_threshold[threshold]["moderate"] for by_threshold in figures.values()]
            table.add_row(threshold, *(_change(part, "difference", 2) for part in parts))
        yield table
        table = make_table(
            f"{class_name}: mean 3D IoU of the pairs common to both",
            ("difficulty", "pairs", first, second, "difference [95 % interval]"),
        )
        for difficulty, part in comparison.same_pairs[class_name].items():
            num = part["first"]["num_matched"]
            if num:
                means = [f"{part[side]['mean_iou_3d']:.4f}" for side in ("first", "second")]
                change = _change(part, "mean_iou_3d_difference", 4)
                table.add_row(difficulty, str(num), *means, change)
            else:
                table.add_row(difficulty, "0", "-", "-", "-")
        yield table
        changed = [*comparison.worsened[class_name][:5], *comparison.improved[class_name][:5]]
        if not changed:
            continue
        table = make_table(
            f"{class_name}: boxes that changed most (3D IoU)",
            ("frame", "label", "distance", *names, "change"),
        )
        for box in sorted(changed, key=lambda box: box.change):
            ious = (f"{box.iou_first:.3f}", f"{box.iou_second:.3f}", f"{box.change:+.3f}")
            table.add_row(box.frame_id, str(box.label), f"{box.distance:.1f} m", *ious)
        yield table


def _change(part: Mapping[str, float], key: str, digits: int) -> str:
    """A difference with its interval."""
    low, high = f"{part['low']:+.{digits}f}", f"{part['high']:+.{digits}f}"
    return f"{part[key]:+.{digits}f} [{low}, {high}]"


def make_table(title: str, columns: Sequence[str]) -> Table:
    """A table with a left-aligned first column and right-aligned others."""
    table = Table(
        title=title, box=box_styles.SIMPLE, title_justify="left", pad_edge=False, padding=(0, 1)
    )
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _percent(
    evaluation: KittiEvaluation,
    class_name: str,
    metric: str,
    threshold: float,
    difficulty: str,
    name: str = "ap_r40",
) -> str:
    """One figure, or a dash where nothing could be evaluated."""
    value = evaluation.average_precision(class_name, metric, threshold, difficulty, name)
    if math.isnan(value) or evaluation.num_labels[class_name, difficulty] == 0:
        return f"{'-':>6}"
    return f"{value:6.2f}"
