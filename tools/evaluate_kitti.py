"""Evaluate KITTI result files of any detector: ``python tools/evaluate_kitti.py LABELS RESULTS``.

Prints average precision (R40 and R11) by class, metric, overlap threshold and difficulty, AP by
distance, and the localization errors of matched pairs. docs/evaluation.md states the rules.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from ebm3d.datasets.atomic import check_writable
from ebm3d.evaluation import (
    CLASSES,
    MatchingProblem,
    command_line,
    compare_kitti,
    read_folders,
    read_ids,
    report_kitti,
    resolve_iou_thresholds,
)
from ebm3d.evaluation.kitti_folders import count_points
from ebm3d.evaluation.left_out import count_left_out
from ebm3d.evaluation.tables import comparison_tables, left_out_tables, report_tables

_MIN_WIDTH = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate and print; 0 if all went well, 1 if the input is at fault."""
    return command_line.run(_evaluate, _parse(arguments))


def _evaluate(options: argparse.Namespace) -> None:
    """Read, evaluate, print, write."""
    started = time.perf_counter()
    if options.plots is not None:
        check_writable("--plots", options.plots, "folder")
    thresholds = resolve_iou_thresholds(options.classes, options.iou)
    inputs = read_folders(
        options.label_dir,
        options.detection_dir,
        ids=None if options.ids is None else read_ids(options.ids),
        missing_as_empty=options.missing_as_empty,
        progress=command_line.progress_bar("Reading"),
    )
    other = None
    if options.compare is not None:
        other = read_folders(
            options.label_dir,
            options.compare,
            ids=inputs.labels.frame_ids,
            missing_as_empty=options.missing_as_empty,
            progress=command_line.progress_bar("Reading the other results"),
        )
    notes = list(inputs.notes)
    num_points = None
    if options.velodyne is not None:
        num_points = count_points(
            inputs.labels,
            options.velodyne,
            options.calib,
            command_line.progress_bar("Counting points"),
        )
    with command_line.ERRORS.status(command_line.COMPILING):
        problem = MatchingProblem(inputs.labels, inputs.detections)
        report = report_kitti(
            problem,
            thresholds,
            num_points=num_points,
            distance_bands=options.distance_bands,
            num_frames_left_out=inputs.num_frames_left_out,
        )
    console = Console(width=max(_MIN_WIDTH, Console().width))
    for table in report_tables(report):
        console.print(table, highlight=False)
    tree = report.as_dict()
    if other is not None:
        notes += other.notes
        other_problem = MatchingProblem(inputs.labels, other.detections)
        comparison = compare_kitti(
            problem,
            other_problem,
            thresholds,
            num_replicates=options.replicates,
            progress=command_line.progress_bar("Resampling frames"),
        )
        names = [folder.resolve().name for folder in (options.detection_dir, options.compare)]
        if names[0] == names[1]:
            names = [str(options.detection_dir), str(options.compare)]
        for table in comparison_tables(comparison, names):
            console.print(table, highlight=False)
        left_out = count_left_out(other_problem, list(thresholds), inputs.num_frames_left_out)
        for table in left_out_tables(left_out, f"{names[1]}: "):
            console.print(table, highlight=False)
        for class_name, figures in comparison.as_dict().items():
            tree[class_name]["comparison"] = {**figures, "left_out": left_out[class_name]}
    for note in notes:
        console.print(f"Note: {escape(note)}", highlight=False, soft_wrap=True)
    _write(options, report, tree, console)
    seconds = time.perf_counter() - started
    console.print(f"{len(inputs.labels)} frames in {seconds:.1f} s", highlight=False)


def _write(options: argparse.Namespace, report: Any, tree: Any, console: Console) -> None:
    """Write the JSON file and the pictures, where asked for."""
    command_line.write_figures(options.json, tree, console)
    if options.plots is not None:
        from ebm3d.evaluation.pictures import save_precision_recall

        for path in save_precision_recall(report.evaluation, options.plots):
            console.print(f"Picture: {path}", highlight=False)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("label_dir", type=Path, help="folder of label files (label_2)")
    add("detection_dir", type=Path, help="folder of result files, 16 columns")
    text = "frames to evaluate, one id a line (default: those with a result file)"
    add("--ids", type=Path, metavar="FILE", help=text)
    text = "overlap thresholds (default: 0.5 to 0.9 for cars, 0.25 to 0.7 for the others)"
    add("--iou", type=float, nargs="+", metavar="T", help=text)
    add("--classes", nargs="+", default=CLASSES, metavar="NAME", help="of KITTI's")
    add("--plots", type=Path, metavar="DIR", help="folder for precision-recall pictures")
    text = "second folder of results on the same frames: differences with bootstrap intervals"
    add("--compare", type=Path, metavar="DIR", help=text)
    text = "take a missing result file as a frame without detections"
    add("--missing-as-empty", action="store_true", help=text)
    command_line.add_options(parser)
    add("--velodyne", type=Path, metavar="DIR", help="clouds: errors by points")
    add("--calib", type=Path, metavar="DIR", help="calibrations, with --velodyne")
    options = command_line.parse(parser, arguments)
    if (options.velodyne is None) != (options.calib is None):
        parser.error("--velodyne and --calib belong together")
    return options


if __name__ == "__main__":
    sys.exit(main())
