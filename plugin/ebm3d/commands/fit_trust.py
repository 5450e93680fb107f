"""Fit how far to trust an energy beside your detector, on frames that have labels.

A good detector's boxes are better than an energy's own: boxes climb a weighted sum of both. The
weights, the detector's errors and what is systematic in them are fitted by class and number of
points, and the gain to be expected is measured on frames that they were not fitted on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ebm3d.commands.options import add_labelled_options

if TYPE_CHECKING:
    from rich.table import Table

    from ebm3d.refinement.trust_fit import ClassGain

_EXAMPLE = """\
in:   a detector's results on frames with labels: none that detector or energy were trained on
out:  a copy of the energy's file with the trust in it, for ebm3d refine
example:
  ebm3d fit-trust result.pkl data/kitti/training/label_2 data/kitti/training/velodyne \\
      --calib data/kitti/training/calib --energy energy.pt --out trusted.pt"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description, parser.epilog = __doc__, _EXAMPLE
    add_labelled_options(parser, "the energy with its trust")
    add = parser.add_argument
    text = "parts of the frames, each judged by the others' trust (default: %(default)s)"
    add("--folds", type=int, default=5, metavar="N", help=text)
    text = "new folder for the results, each frame refined by the trust of the other parts"
    add("--refined", type=Path, metavar="DIR", help=text)


def run(options: argparse.Namespace) -> int:
    """Read, match, fit, report, write."""
    if options.folds < 2:
        options.usage_error("--folds must be at least 2")
    from ebm3d.commands.console import ERRORS, console, show
    from ebm3d.commands.labelled import read_labelled
    from ebm3d.commands.options import check_new_folder
    from ebm3d.refinement.energy_file import save_energy
    from ebm3d.refinement.trust_fit import fit_trust

    started = time.perf_counter()
    if options.refined is not None:
        detections = options.detections
        check_new_folder("--refined", options.refined, detections, detections.parent)
    data = read_labelled(options, "the gain is overstated")
    with ERRORS.status("Fitting"):
        origin = f"{len(data.frame_ids)} frames of {options.detections.name}"
        fit = fit_trust(data.energy, data.detected, data.true, options.folds, origin)
    save_energy(options.out, data.updated(trust=fit.trust, coverage=None))
    if options.refined is not None:
        data.write(options.refined, fit.refined)
    out = console()
    out.print(_table(fit.gains), highlight=False)
    for gain in fit.gains:
        if not gain.is_trusted:
            show(f"{gain.name}: no gain is to be expected for sure; its boxes will stay.", out)
    show(f"{data.counts} in {time.perf_counter() - started:.0f} s; trust: {options.out}", out)
    return 0


def _table(gains: Sequence[ClassGain]) -> Table:
    """What refinement is worth by class."""
    from ebm3d.evaluation.tables import make_table

    title = "Gain of refinement in 3D IoU of matched boxes, on frames the trust was not fitted on"
    table = make_table(title, ("", "pairs", "mean IoU", "gain, 90 % interval", "share above IoU"))
    for gain in gains:
        mean, low, high = gain.gain
        shares = "; ".join(
            f"{limit:.2f}: {before:.1%} to {after:.1%}"
            for limit, (before, after) in gain.shares.items()
        )
        table.add_row(
            gain.name,
            str(gain.num_pairs),
            f"{gain.iou[0]:.3f} to {gain.iou[1]:.3f}",
            f"{mean:+.3f} ({low:+.3f} to {high:+.3f})",
            shares,
        )
    return table
