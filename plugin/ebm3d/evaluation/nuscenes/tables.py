"""Tables of the figures on nuScenes, for the console."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from ebm3d.evaluation.nuscenes.protocol import IOU_LEVELS, TP_ERRORS
from ebm3d.evaluation.nuscenes.report import NuScenesReport
from ebm3d.evaluation.tables import make_table

_ERROR_TITLES = ("ATE", "ASE", "AOE", "AVE", "AAE")
_PAIR_ERRORS = (  # name, title, factor and digits of what is shown
    ("along", "along", 100.0, 0),
    ("across", "across", 100.0, 0),
    ("vertical", "vertical", 100.0, 0),
    ("length", "length", 100.0, 0),
    ("width", "width", 100.0, 0),
    ("height", "height", 100.0, 0),
    ("yaw", "yaw", math.degrees(1.0), 1),
    ("yaw_mod_pi", "mod pi", math.degrees(1.0), 1),
    ("velocity", "velocity", 100.0, 0),
)


def report_tables(report: NuScenesReport, title: str = "") -> Iterator[RenderableType]:
    """Yield the tables of one result set; ``title`` is put before each table's title."""
    yield official_table(report, title)
    yield distance_table(report, title)
    for group, name in (("", "class"), ("by_distance", "distance"), ("by_points", "points")):
        yield localization_table(report, group, f"{title}By {name}: ")
    for kind, reasons in report.matching.num_left_out.items():
        counts = ", ".join(f"{num} {reason.replace('_', ' ')}" for reason, num in reasons.items())
        yield f"{title}Not evaluated, {kind}: {counts}."
    for note in report.notes:
        yield f"Note: {note}"


def official_table(report: NuScenesReport, title: str = "") -> Table:
    """Return AP and errors of true positives by class, in the units of the benchmark."""
    tree = report.as_dict()
    ious = report.localization
    scores = f"mAP {tree['mean_ap']:.4f}, NDS {tree['nd_score']:.4f}"
    errors = zip(_ERROR_TITLES, tree["tp_errors"].values(), strict=True)
    means = ", ".join(f"m{column} {_cell(error)}" for column, error in errors)
    distances = [f"{distance:g} m" for distance in report.matching.protocol.dist_ths]
    iou_titles = [f"IoU {level}" for level in IOU_LEVELS]
    columns = ("", "labels", "AP", *distances, *iou_titles, *_ERROR_TITLES)
    table = make_table(f"{title}{scores}\n{means}", columns)
    for name, aps in tree["label_aps"].items():
        own = tree["label_tp_errors"][name]
        values = [tree["mean_dist_aps"][name], *aps.values(), *ious["iou_aps"][name].values()]
        cells = [_cell(value) for value in (*values, *(own[e] for e in TP_ERRORS))]
        table.add_row(name, str(ious["classes"][name]["num_labels"]), *cells)
    return table


def distance_table(report: NuScenesReport, title: str = "") -> Table:
    """Return AP, mean of the distances of a match, by class and distance from the car."""
    bands = report.by_distance
    table = make_table(f"{title}AP by distance in meters", ("", *bands))
    trees = [figures.as_dict() for figures in bands.values()]
    table.add_row("mAP", *(_cell(tree["mean_ap"]) for tree in trees))
    for name in report.matching.protocol.class_range:
        table.add_row(name, *(_cell(tree["mean_dist_aps"][name]) for tree in trees))
    return table


def localization_table(report: NuScenesReport, group: str = "", title: str = "") -> Table:
    """Return overlaps and errors of the pairs, by class and band of ``group`` if there is one."""
    text = "mean IoU, median absolute error in cm, degrees and cm/s"
    distance = report.matching.protocol.dist_th_tp
    columns = ("", "matched", "3D", "BEV", *(column for _, column, _, _ in _PAIR_ERRORS))
    table = make_table(f"{title}pairs within {distance:g} m; {text}", columns)
    for name, figures in report.localization["classes"].items():
        parts = {name: figures}
        if group:
            parts = {f"{name} {band}": part for band, part in figures[group].items()}
        for label, part in parts.items():
            if part["num_labels"]:
                table.add_row(label, *_pair_cells(part))
    return table


def _pair_cells(part: Mapping[str, Any]) -> list[str]:
    """Cells of one line of the localization table."""
    cells = [f"{part['num_matched']}/{part['num_labels']}"]
    cells += [_cell(part[name]) for name in ("mean_iou_3d", "mean_iou_bev")]
    for name, _, factor, digits in _PAIR_ERRORS:
        median = part["errors"][name]["quantiles"]["0.50"]
        cells.append("-" if median is None else f"{factor * median:.{digits}f}")
    return cells


def comparison_tables(comparison: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield the figures before and after, and their differences with intervals."""
    columns = ("", "before", "after", "difference [95 % interval]")
    table = make_table(f"Bootstrap over {comparison['num_scenes']} scenes", columns)
    for name, part in comparison["means"].items():
        table.add_row(name, *_change_cells(part))
    yield table
    pairs = comparison["same_pairs"]
    num = pairs["all"]["num_pairs"]
    title = f"{num} labels that both match: mean IoU and mean absolute errors, m, rad, m/s"
    table = make_table(title, columns)
    for name, part in pairs["all"].items():
        if isinstance(part, Mapping):
            table.add_row(name, *_change_cells(part))
    yield table
    for figures in (("ap", "ap_0.5", *(f"iou_ap_{level}" for level in IOU_LEVELS)), TP_ERRORS):
        table = make_table("By class: after minus before [95 % interval]", ("", *figures))
        for name, parts in comparison["classes"].items():
            table.add_row(name, *(_difference(parts[figure]) for figure in figures))
        yield table


def _change_cells(part: Mapping[str, float | None]) -> list[str]:
    """Both figures, and their difference with its interval."""
    return [_cell(part["before"]), _cell(part["after"]), _difference(part)]


def _difference(part: Mapping[str, Any]) -> str:
    """A difference with its interval."""
    if part["difference"] is None:
        return "-"
    return f"{part['difference']:+.3f} [{part['low']:+.3f}, {part['high']:+.3f}]"


def _cell(value: float | None) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
