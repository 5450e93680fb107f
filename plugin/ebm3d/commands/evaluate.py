"""Evaluate KITTI result files of any detector.

Prints average precision (R40 and R11) by class, metric, overlap threshold and difficulty, AP by
distance, and the localization errors of matched pairs. docs/evaluation.md states the rules.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_EXAMPLE = """\
in:   label_2/000001.txt, ... and result files of the same names with 16 columns
out:  tables, and with --json all figures
example:
  ebm3d evaluate data/kitti/training/label_2 results --classes Car --iou 0.7 0.8"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description, parser.epilog = __doc__, _EXAMPLE
    add = parser.add_argument
    add("label_dir", type=Path, help="folder of label files (label_2)")
    add("detection_dir", type=Path, help="folder of result files, 16 columns")
    text = "frames to evaluate, one id a line (default: those with a result file)"
    add("--ids", type=Path, metavar="FILE", help=text)
    text = "overlap thresholds (default: 0.5 to 0.9 for cars, 0.25 to 0.7 for the others)"
    add("--iou", type=float, nargs="+", metavar="T", help=text)
    add("--classes", nargs="+", metavar="NAME", help="of KITTI's (default: Car Pedestrian Cyclist)")
    add("--json", type=Path, metavar="FILE", help="file for all figures")
    add("--plots", type=Path, metavar="DIR", help="folder for precision-recall pictures")
    text = "second folder of results on the same frames: differences with bootstrap intervals"
    add("--compare", type=Path, metavar="DIR", help=text)
    add("--replicates", type=int, default=1000, help="of the bootstrap (default: %(default)s)")
    text = "take a missing result file as a frame without detections"
    add("--missing-as-empty", action="store_true", help=text)
    text = "borders in meters, 'inf' for none (default: 0 20 40 inf)"
    add("--distance-bands", type=float, nargs="+", metavar="M", help=text)
    add("--velodyne", type=Path, metavar="DIR", help="clouds: errors by points")
    add("--calib", type=Path, metavar="DIR", help="calibrations, with --velodyne")


def run(options: argparse.Namespace) -> int:
    """Read, evaluate, print, write."""
    if (options.velodyne is None) != (options.calib is None):
        options.usage_error("--velodyne and --calib belong together")
    if options.replicates < 1:
        options.usage_error(f"--replicates must be at least 1, but got {options.replicates}")
    if options.distance_bands is not None and any(map(math.isnan, options.distance_bands)):
        options.usage_error("--distance-bands must be numbers")
    from ebm3d.commands.console import ERRORS, console, progress_bar, show
    from ebm3d.datasets.atomic import check_writable
    from ebm3d.evaluation import (
        CLASSES,
        MatchingProblem,
        compare_kitti,
        read_folders,
        read_ids,
        report_kitti,
        resolve_iou_thresholds,
    )
    from ebm3d.evaluation.kitti_folders import count_points
    from ebm3d.evaluation.left_out import count_left_out
    from ebm3d.evaluation.localization import DISTANCE_BANDS
    from ebm3d.evaluation.tables import comparison_tables, left_out_tables, report_tables

    started = time.perf_counter()
    if options.json is not None:
        check_writable("--json", options.json)
    if options.plots is not None:
        check_writable("--plots", options.plots, "folder")
    thresholds = resolve_iou_thresholds(options.classes or CLASSES, options.iou)
    inputs = read_folders(
        options.label_dir,
        options.detection_dir,
        ids=None if options.ids is None else read_ids(options.ids),
        missing_as_empty=options.missing_as_empty,
        progress=progress_bar("Reading"),
    )
    notes = list(inputs.notes)
    num_points = None
    if options.velodyne is not None:
        num_points = count_points(
            inputs.labels, options.velodyne, options.calib, progress_bar("Counting points")
        )
    with ERRORS.status("Evaluating (the first run compiles, which takes half a minute)"):
        problem = MatchingProblem(inputs.labels, inputs.detections)
        report = report_kitti(
            problem,
            thresholds,
            num_points=num_points,
            distance_bands=options.distance_bands or DISTANCE_BANDS,
            num_frames_left_out=inputs.num_frames_left_out,
        )
    out = console()
    for table in report_tables(report):
        out.print(table, highlight=False)
    tree = report.as_dict()
    if options.compare is not None:
        other = read_folders(
            options.label_dir,
            options.compare,
            ids=inputs.labels.frame_ids,
            missing_as_empty=options.missing_as_empty,
            progress=progress_bar("Reading the other results"),
        )
        notes += other.notes
        other_problem = MatchingProblem(inputs.labels, other.detections)
        comparison = compare_kitti(
            problem,
            other_problem,
            thresholds,
            num_replicates=options.replicates,
            progress=progress_bar("Resampling frames"),
        )
        names = [folder.resolve().name for folder in (options.detection_dir, options.compare)]
        if names[0] == names[1]:
            names = [str(options.detection_dir), str(options.compare)]
        for table in comparison_tables(comparison, names):
            out.print(table, highlight=False)
        left_out = count_left_out(other_problem, list(thresholds), inputs.num_frames_left_out)
        for table in left_out_tables(left_out, f"{names[1]}: "):
            out.print(table, highlight=False)
        for class_name, figures in comparison.as_dict().items():
            tree[class_name]["comparison"] = {**figures, "left_out": left_out[class_name]}
    for note in notes:
        show(f"Note: {note}", out)
    _write(options, report, tree, out)
    show(f"{len(inputs.labels)} frames in {time.perf_counter() - started:.1f} s", out)
    return 0


def _write(options: argparse.Namespace, report: Any, tree: Any, out: Console) -> None:
    """Write the JSON file and the pictures, where asked for."""
    from ebm3d.commands.console import show
    from ebm3d.datasets.atomic import write_atomically

    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.json, (json.dumps(tree, indent=1) + "\n").encode())
        show(f"All figures: {options.json}", out)
    if options.plots is not None:
        from ebm3d.evaluation.pictures import save_precision_recall

        for path in save_precision_recall(report.evaluation, options.plots):
            show(f"Picture: {path}", out)
