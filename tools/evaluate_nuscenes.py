"""Evaluate a nuScenes result file: ``python tools/evaluate_nuscenes.py TABLES_OR_INFOS RESULTS``.

Prints mAP, NDS and the errors of true positives as the development kit computes them, and what NDS
does not see: AP at 3D IoU, and overlaps and errors of matched boxes by class, distance and points.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from ebm3d.datasets.atomic import check_writable, write_atomically
from ebm3d.errors import input_error
from ebm3d.evaluation.localization import DISTANCE_BANDS
from ebm3d.evaluation.nuscenes import evaluate_nuscenes, read_ground_truth, read_results
from ebm3d.evaluation.nuscenes.boxes import GroundTruth
from ebm3d.evaluation.nuscenes.comparison import compare_nuscenes
from ebm3d.evaluation.nuscenes.report import NuScenesReport
from ebm3d.evaluation.nuscenes.tables import comparison_tables, report_tables

_ERRORS = Console(stderr=True)
_MIN_WIDTH = 150


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate and print; 0 if all went well, 1 if the input is at fault."""
    options = _parse(arguments)
    try:
        return _evaluate(options)
    except (OSError, ValueError) as error:
        _ERRORS.print(f"[red]{escape(str(error))}[/]", soft_wrap=True, highlight=False)
        if not isinstance(error, OSError):
            _ERRORS.print("Nothing was evaluated.")
        return 1


def _evaluate(options: argparse.Namespace) -> int:
    """Read, evaluate, print, write."""
    started = time.perf_counter()
    if options.json is not None:
        check_writable("--json", options.json)
        read = [options.ground_truth, options.results, options.before]
        if options.json.resolve() in [path.resolve() for path in read if path is not None]:
            raise input_error("--json", "another file than those that are read", options.json)
    with _ERRORS.status("Reading the labels"):
        truth = read_ground_truth(options.ground_truth, options.version, options.split)
    console = Console(width=max(_MIN_WIDTH, Console().width))
    meta, report = _report(truth, options.results, options, console)
    for table in report_tables(report):
        console.print(table, highlight=False)
    tree = report.as_dict() | {"meta": meta}
    if options.before is not None:
        _, before = _report(truth, options.before, options, console)
        with _ERRORS.status("Resampling scenes"):
            comparison = compare_nuscenes(before, report, num_replicates=options.replicates)
        for table in comparison_tables(comparison):
            console.print(table, highlight=False)
        tree["localization"]["comparison"] = comparison
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.json, (json.dumps(tree, indent=1) + "\n").encode())
        console.print(f"All figures: {options.json}", highlight=False)
    seconds = time.perf_counter() - started
    console.print(f"{len(truth.tokens)} samples in {seconds:.1f} s", highlight=False)
    return 0


def _report(
    truth: GroundTruth, path: Path, options: argparse.Namespace, console: Console
) -> tuple[Any, NuScenesReport]:
    """Read and evaluate one result file."""
    results = read_results(path, progress=_bar(f"Reading {path.name}"))
    detections, num_left_out = results.boxes_of(truth)
    if num_left_out:
        text = f"Note: {num_left_out} samples of {path} are not in {truth.split}: left out."
        console.print(escape(text), highlight=False, soft_wrap=True)
    with _ERRORS.status("Evaluating (the first run compiles, which takes half a minute)"):
        bands = options.distance_bands
        report = evaluate_nuscenes(truth, detections, distance_bands=bands)
    return dict(results.meta), report


def _bar(description: str) -> Any:
    """A progress bar on the terminal; none where errors go to a file."""
    disable = not sys.stderr.isatty()
    return lambda items: track(
        list(items), description, console=_ERRORS, transient=True, disable=disable
    )


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
    add("--json", type=Path, metavar="FILE", help="file for all figures")
    text = "results of the same samples before refinement: differences with bootstrap intervals"
    add("--before", type=Path, metavar="RESULTS_JSON", help=text)
    add("--replicates", type=int, default=1000, help="of the bootstrap (default: %(default)s)")
    text = "borders in meters, 'inf' for none (default: 0 20 40 inf)"
    default = DISTANCE_BANDS
    add("--distance-bands", type=float, nargs="+", default=default, metavar="M", help=text)
    options = parser.parse_args(arguments)
    if options.replicates < 1:
        parser.error(f"--replicates must be at least 1, but got {options.replicates}")
    if np.isnan(options.distance_bands).any():
        parser.error("--distance-bands must be numbers")
    return options


if __name__ == "__main__":
    sys.exit(main())
