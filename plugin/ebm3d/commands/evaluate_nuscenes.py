"""Evaluate a nuScenes result file of any detector.

Prints mAP, NDS and the errors of true positives as the development kit computes them, and what NDS
does not see: AP at 3D IoU, and overlaps and errors of matched boxes by class, distance and points.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebm3d.commands.options import add_report_options, check_report_options

if TYPE_CHECKING:
    from rich.console import Console

    from ebm3d.evaluation.nuscenes.boxes import GroundTruth
    from ebm3d.evaluation.nuscenes.report import NuScenesReport

_EXAMPLE = """\
in:   tables or an info file, and a result file as for the leaderboard
out:  tables, and with --json all figures
example:
  ebm3d evaluate-nuscenes data/nuscenes results_nusc.json --version v1.0-mini"""
_MIN_WIDTH = 150


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description, parser.epilog = __doc__, _EXAMPLE
    add = parser.add_argument
    text = "data root, folder of tables (v1.0-mini) or info file (nuscenes_infos_val.pkl)"
    add("ground_truth", type=Path, metavar="TABLES_OR_INFOS", help=text)
    add("results", type=Path, metavar="RESULTS_JSON", help="file as for the leaderboard")
    add("--version", metavar="V", help="folder of the tables, where the root has several")
    text = "official, of splits.json, or a file with a scene a line (default: val, mini_val)"
    add("--split", metavar="S", help=text)
    text = "results of the same samples before refinement: differences with bootstrap intervals"
    add("--before", type=Path, metavar="RESULTS_JSON", help=text)
    add_report_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read, evaluate, print, write."""
    check_report_options(options)
    from ebm3d.commands.console import ERRORS, console, show, write_figures
    from ebm3d.evaluation.nuscenes import read_ground_truth
    from ebm3d.evaluation.nuscenes.comparison import compare_nuscenes
    from ebm3d.evaluation.nuscenes.tables import comparison_tables, report_tables

    started = time.perf_counter()
    with ERRORS.status("Reading the labels"):
        truth = read_ground_truth(options.ground_truth, options.version, options.split)
    out = console(_MIN_WIDTH)
    meta, report = _report(truth, options.results, options, out)
    tables, tree = [*report_tables(report)], report.as_dict() | {"meta": meta}
    if options.before is not None:
        _, before = _report(truth, options.before, options, out)
        with ERRORS.status("Resampling scenes"):
            comparison = compare_nuscenes(before, report, num_replicates=options.replicates)
        tables += comparison_tables(comparison)
        tree["localization"]["comparison"] = comparison
    for table in tables:
        out.print(table, highlight=False)
    write_figures(options.json, tree, out)
    show(f"{len(truth.tokens)} samples in {time.perf_counter() - started:.1f} s", out)
    return 0


def _report(
    truth: GroundTruth, path: Path, options: argparse.Namespace, out: Console
) -> tuple[Any, NuScenesReport]:
    """Read and evaluate one result file."""
    from ebm3d.commands.console import COMPILING, ERRORS, progress_bar, show
    from ebm3d.evaluation.nuscenes import evaluate_nuscenes, read_results

    results = read_results(path, progress=progress_bar(f"Reading {path.name}"))
    detections, num_left_out = results.boxes_of(truth)
    if num_left_out:
        show(f"Note: {num_left_out} samples of {path} are not in {truth.split}: left out.", out)
    with ERRORS.status(COMPILING):
        report = evaluate_nuscenes(truth, detections, distance_bands=options.distance_bands)
    return dict(results.meta), report
