"""Fit by how much refined boxes must grow to hold the true ones, on frames that have labels.

Split conformal prediction: `ebm3d refine --coverage 0.95` then writes, beside each refined box, an
outer box that holds the true box with a probability of 95 %, and an inner one that lies in it.
docs/any_detector.md says what is promised and what is not.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from ebm3d.commands.options import add_labelled_options

if TYPE_CHECKING:
    from rich.table import Table

    from ebm3d.evaluation.coverage import CoverageTable

_EXAMPLE = """\
in:   a detector's results on frames with labels: none that detector, energy or trust have seen
out:  a copy of the energy's file with the calibration in it, for ebm3d refine --coverage
example:
  ebm3d fit-coverage result.pkl data/kitti/training/label_2 data/kitti/training/velodyne \\
      --calib data/kitti/training/calib --energy trusted.pt --out calibrated.pt"""
_SHOWN = (0.8, 0.9, 0.95)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description, parser.epilog = __doc__, _EXAMPLE
    add_labelled_options(parser, "the energy with its calibration")


def run(options: argparse.Namespace) -> int:
    """Read, match, refine, score, report, write."""
    from ebm3d.commands.console import ERRORS, console, show
    from ebm3d.commands.labelled import read_labelled
    from ebm3d.refinement.energy_file import save_energy
    from ebm3d.refinement.guarantees import calibrate_coverage
    from ebm3d.refinement.refiner import BoxRefiner

    started = time.perf_counter()
    data = read_labelled(options, "the promise does not hold")
    with ERRORS.status("Refining"):
        refiner = BoxRefiner(data.energy, data.file.trust)
        table = calibrate_coverage(refiner, data.detected, data.true)
    save_energy(options.out, data.updated(coverage=table.as_dict()))
    out = console()
    out.print(_table(table), highlight=False)
    show(f"{data.counts} in {time.perf_counter() - started:.0f} s; calibration: {options.out}", out)
    return 0


def _table(table: CoverageTable) -> Table:
    """By class and band: frames and pairs, and the factors of the outer boxes."""
    from ebm3d.evaluation.tables import make_table

    title = "Standard deviations by which faces move outwards; 95 % interval of the long-run share"
    columns = [column for coverage in _SHOWN for column in (f"{coverage:.0%}", "interval")]
    result = make_table(title, ("", "distance", "frames", "pairs", "calibrated on", *columns))
    summaries = [table.summary(coverage) for coverage in _SHOWN]
    for name, by_band in summaries[0].items():
        for band, row in by_band.items():
            factors = []
            for summary in summaries:
                low, high = summary[name][band]["interval"]
                factors += [f"{summary[name][band]['outer']:.2f}", f"{low:.2f} to {high:.2f}"]
            counts = str(row["num_frames"]), str(row["num_boxes"])
            result.add_row(name, band, *counts, row["group"], *factors)
    return result
