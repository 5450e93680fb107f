"""Evaluate a nuScenes result file: ``python tools/evaluate_nuscenes.py TABLES_OR_INFOS RESULTS``.

Prints mAP, NDS and the errors of true positives as the development kit computes them, and what NDS
does not see: AP at 3D IoU, and overlaps and errors of matched boxes by class, distance and points.
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

from ebm3d.errors import input_error
from ebm3d.evaluation import command_line
from ebm3d.evaluation.nuscenes import evaluate_nuscenes, read_ground_truth, read_results
from ebm3d.evaluation.nuscenes.boxes import GroundTruth
from ebm3d.evaluation.nuscenes.comparison import compare_nuscenes
from ebm3d.evaluation.nuscenes.report import NuScenesReport
from ebm3d.evaluation.nuscenes.tables import comparison_tables, report_tables

_MIN_WIDTH = 150


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate and print; 0 if all went well, 1 if the input is at fault."""
    return command_line.run(_evaluate, _parse(arguments))


def _evaluate(options: argparse.Namespace) -> None:
    """Read, evaluate, print, write."""
    started = time.perf_counter()
    if options.json is not None:
        read = [options.ground_truth, options.results, options.before]
        if options.json.resolve() in [path.resolve() for path in read if path is not None]:
            raise input_error("--json", "another file than those that are read", options.json)
    with command_line.ERRORS.status("Reading the labels"):
        truth = read_ground_truth(options.ground_truth, options.version, options.split)
    console = Console(width=max(_MIN_WIDTH, Console().width))
    meta, report = _report(truth, options.results, options, console)
    tables, tree = [*report_tables(report)], report.as_dict() | {"meta": meta}
    if options.before is not None:
        _, before = _report(truth, options.before, options, console)
        with command_line.ERRORS.status("Resampling scenes"):
            comparison = compare_nuscenes(before, report, num_replicates=options.replicates)
        tables += comparison_tables(comparison)
        tree["localization"]["comparison"] = comparison
    for table in tables:
        console.print(table, highlight=False)
    command_line.write_figures(options.json, tree, console)
    seconds = time.perf_counter() - started
    console.print(f"{len(truth.tokens)} samples in {seconds:.1f} s", highlight=False)


def _report(
    truth: GroundTruth, path: Path, options: argparse.Namespace, console: Console
) -> tuple[Any, NuScenesReport]:
    """Read and evaluate one result file."""
    results = read_results(path, progress=command_line.progress_bar(f"Reading {path.name}"))
    detections, num_left_out = results.boxes_of(truth)
    if num_left_out:
        text = f"Note: {num_left_out} samples of {path} are not in {truth.split}: left out."
        console.print(escape(text), highlight=False, soft_wrap=True)
    with command_line.ERRORS.status(command_line.COMPILING):
        report = evaluate_nuscenes(truth, detections, distance_bands=options.distance_bands)
    return dict(results.meta), report


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    text = "data root, folder of tables (v1.0-mini) or info file (nuscenes_infos_val.pkl)"
    add("ground_truth", type=Path, metavar="TABLES_OR_INFOS", help=text)
    add("results", type=Path, metavar="RESULTS_JSON", help="file as for the leaderboard")
    add("--version", metavar="V", help="folder of the tables, where the root has several")
    text = "official, of splits.json, or a file with a scene a line (default: val, mini_val)"
    add("--split", metavar="S", help=text)
    text = "results of the same samples before refinement: differences with bootstrap intervals"
    add("--before", type=Path, metavar="RESULTS_JSON", help=text)
    command_line.add_options(parser)
    return command_line.parse(parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
