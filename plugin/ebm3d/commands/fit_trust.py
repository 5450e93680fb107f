"""Fit how far to trust an energy beside your detector, on frames that have labels.

A good detector's boxes are better than an energy's own: boxes climb a weighted sum of both. The
weights, the detector's errors and what is systematic in them are fitted by class and number of
points, and the gain to be expected is measured on frames that they were not fitted on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ebm3d.commands.options import CLOUDS, DETECTIONS, LABELS, add_data_options, add_format_options

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
    add = parser.add_argument
    add("detections", type=Path, metavar="DETECTIONS", help=DETECTIONS)
    add("labels", type=Path, metavar="LABELS", help=LABELS)
    add("clouds", type=Path, metavar="CLOUDS", help=CLOUDS)
    add("--out", type=Path, required=True, metavar="FILE", help="the energy with its trust")
    text = "of ebm3d train-energy (default: the one of ebm3d, trained on simulation)"
    add("--energy", type=Path, metavar="FILE", help=text)
    text = "parts of the frames, each judged by the others' trust (default: %(default)s)"
    add("--folds", type=int, default=5, metavar="N", help=text)
    add_data_options(parser)
    add_format_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read, match, fit, report, write."""
    if options.folds < 2:
        options.usage_error("--folds must be at least 2")
    from ebm3d.commands.console import ERRORS, console, progress_bar, show
    from ebm3d.commands.options import find_device, format_options, name_map
    from ebm3d.datasets.atomic import check_writable
    from ebm3d.datasets.kitti_splits import match_ids
    from ebm3d.datasets.problems import Collected
    from ebm3d.datasets.results import FrameClouds, read_label_set, read_results
    from ebm3d.errors import input_error
    from ebm3d.refinement.coverage import calibrate
    from ebm3d.refinement.detections import check_names, detected_frames, true_boxes_of
    from ebm3d.refinement.energy_file import load_energy, save_energy, shipped_energy
    from ebm3d.refinement.trust_fit import fit_trust

    started = time.perf_counter()
    check_writable("--out", options.out)
    device = find_device(options.device)
    names, found = name_map(options), Collected()
    file = found.attempt(load_energy, options.energy or shipped_energy())
    calib, extra = options.calib, format_options(options)
    results = found.attempt(read_results, options.detections, calib, names, **extra)
    labels = found.attempt(read_label_set, options.labels, calib, names)
    clouds = found.attempt(FrameClouds, options.clouds)
    found.check()
    assert file is not None
    assert results is not None
    assert labels is not None
    assert clouds is not None
    known = file.energy.settings.class_names
    notes = [*clouds.warnings, *check_names(results, known)]
    by_id = {frame.frame_id: frame for frame in labels.frames}
    ids = match_ids([frame.frame_id for frame in results.frames], by_id)
    frames = [frame for i, frame in zip(ids, results.frames, strict=True) if i in by_id]
    true_frames = [by_id[i] for i in ids if i in by_id]
    if not frames:
        got = f"none of {len(ids)}, first {ids[0] if ids else '-'}"
        raise input_error("DETECTIONS", f"of some of the {len(by_id)} labelled frames", got)
    for note in notes:
        show(f"Note: {note}", ERRORS)
    seen = set(file.training.get("frame_ids", ())).intersection(ids)
    if seen:
        text = f"the energy was trained on {len(seen)} frames of these names: if they are the same"
        show(f"Warning: {text}, the gain is overstated.", ERRORS, "yellow")
    detected = list(detected_frames(progress_bar("Reading the clouds")(frames), clouds, known))
    true = true_boxes_of(frames, true_frames)
    with ERRORS.status("Fitting"):
        origin = f"{len(frames)} frames of {options.detections.name}"
        fit = fit_trust(file.energy.to(device), detected, true, options.folds, origin)
    coverage = calibrate(fit.refined, true, [frame.names for frame in frames]).as_dict()
    file = replace(file, energy=file.energy.to("cpu"), trust=fit.trust, coverage=coverage)
    save_energy(options.out, file)
    out = console()
    out.print(_table(fit.gains), highlight=False)
    for gain in fit.gains:
        if not gain.is_trusted:
            show(f"{gain.name}: no gain is to be expected for sure; its boxes will stay.", out)
    left = f" ({len(ids) - len(frames)} without labels left out)" if len(frames) < len(ids) else ""
    seconds = time.perf_counter() - started
    show(f"{len(frames)} frames{left} in {seconds:.0f} s; energy and trust: {options.out}", out)
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
