"""Refine the boxes of any detector.

Each box climbs to where the energy, which sees the points in and around it, and the detector
together find it most likely. Scores, order and all else of the files stay.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING

from ebm3d.commands.options import CLOUDS, DETECTIONS, add_data_options, add_format_options

if TYPE_CHECKING:
    from ebm3d.evaluation.coverage import CoverageTable
    from ebm3d.refinement.energy_file import EnergyFile

_STEPS = 10  # those of fit-trust and fit-coverage
_MAX_STEPS = 1000  # boxes stand still after some tens
_EXAMPLE = """\
in:   result files of a detector, and the clouds of their frames
out:  --out holds files of the same format with refined boxes; f before and after, standard
      deviations and covariances of the boxes stand in them, or in refinement.npz beside them
examples:
  ebm3d refine result.pkl data/kitti/training/velodyne --out refined
  ebm3d refine results data/kitti/training/velodyne --calib data/kitti/training/calib \\
      --energy energy.pt --map car=Car --out refined --pictures 5"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description, parser.epilog = __doc__, _EXAMPLE
    add = parser.add_argument
    add("detections", type=Path, metavar="DETECTIONS", help=DETECTIONS)
    add("clouds", type=Path, metavar="CLOUDS", help=CLOUDS)
    add("--out", type=Path, required=True, metavar="DIR", help="new folder for the refined files")
    text = "of ebm3d train-energy or fit-trust (default: the one of ebm3d, trained on simulation)"
    add("--energy", type=Path, metavar="FILE", help=text)
    text = "refine these alone (default: all that the energy knows); others stay"
    add("--classes", nargs="+", metavar="NAME", help=text)
    text = "of the ascent (default: %(default)s); 0 gives the files back value for value"
    add("--steps", type=int, default=_STEPS, metavar="N", help=text)
    text = "write outer and inner boxes of this probability, such as 0.95 (after fit-coverage)"
    add("--coverage", type=float, metavar="P", help=text)
    text = "draw the N frames that changed most, into DIR/pictures"
    add("--pictures", type=int, default=0, metavar="N", help=text)
    add_data_options(parser)
    add_format_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read, refine, write, report."""
    if not 0 <= options.steps <= _MAX_STEPS or options.pictures < 0:
        options.usage_error(f"--steps must be from 0 to {_MAX_STEPS}, --pictures at least 0")
    if options.coverage is not None and options.steps != _STEPS:
        options.usage_error(f"--coverage is calibrated for {_STEPS} steps: leave out --steps")
    from ebm3d.commands.console import ERRORS, console, progress_bar, show
    from ebm3d.commands.options import (
        check_drawing,
        check_new_folder,
        find_device,
        format_options,
        name_map,
    )
    from ebm3d.datasets.problems import Collected
    from ebm3d.datasets.results import FrameClouds, doubtful_frame, read_results
    from ebm3d.refinement.detections import check_names, detected_frames
    from ebm3d.refinement.energy_file import load_energy, shipped_energy
    from ebm3d.refinement.refiner import BoxRefiner
    from ebm3d.refinement.summary import RefinementSummary

    check_new_folder("--out", options.out, options.detections, options.detections.parent)
    if options.pictures:
        check_drawing("--pictures")
    device = find_device(options.device)
    found = Collected()
    file = found.attempt(load_energy, options.energy or shipped_energy())
    with ERRORS.status("Reading the results"):
        names, extra = name_map(options), format_options(options)
        results = found.attempt(read_results, options.detections, options.calib, names, **extra)
    clouds = found.attempt(FrameClouds, options.clouds)
    if results is not None and clouds is not None:
        unused = found.attempt(clouds.check, results)
        doubts = None if unused is None else found.attempt(doubtful_frame, results, clouds)
        notes = [*clouds.warnings, *(unused or []), *(doubts or [])]
    found.check()
    assert file is not None
    assert results is not None
    assert clouds is not None
    known = file.energy.settings.class_names
    for note in [*notes, *check_names(results, known, options.classes), *_trust_notes(file)]:
        show(f"Note: {note}", ERRORS)

    started = time.perf_counter()
    refiner = BoxRefiner(file.energy.to(device), file.trust, options.steps)
    table = None if options.coverage is None else _coverage(file, options.coverage)
    summary = RefinementSummary(known, options.pictures, table, options.coverage)
    frames = progress_bar("Refining")(results.frames)
    detected, copies = tee(detected_frames(frames, clouds, known, options.classes))
    changed = {
        frame.frame_id: summary.add(frame, copy, refined)
        for refined, copy, frame in zip(refiner(detected), copies, results.frames, strict=True)
    }
    seconds = time.perf_counter() - started
    written = results.write(options.out, changed if options.steps else {})
    out = console()
    out.print(summary.table(), highlight=False)
    for path in summary.draw(options.out / "pictures"):
        show(f"Picture: {path}", out)
    counts = f"{len(results.frames)} frames, {summary.num_boxes} boxes, {summary.num_moved} moved"
    show(f"{counts}, in {seconds:.1f} s; {len(written)} files in {options.out}", out)
    return 0


def _coverage(file: EnergyFile, coverage: float) -> CoverageTable:
    """The calibration of the file; raises if it has none."""
    from ebm3d.errors import input_error
    from ebm3d.evaluation.conformal import check_coverage
    from ebm3d.evaluation.coverage import CoverageTable

    check_coverage(coverage, "--coverage")
    if file.coverage is None:
        expected = "left out with an energy that is not calibrated"
        raise input_error("--coverage", expected, coverage, "calibrate it by `ebm3d fit-coverage`")
    return CoverageTable.from_dict(file.coverage)


def _trust_notes(file: EnergyFile) -> Iterator[str]:
    """Yield how far the energy is trusted."""
    trust = file.trust
    if trust is None:
        yield (
            "the energy is trusted by the cautious default; fit it to your detector with "
            "`ebm3d fit-trust` where some frames have labels"
        )
        return
    yield f"trust is fitted on {trust.fitted_on}"
    for name, bands in zip(file.energy.settings.class_names, trust.classes, strict=True):
        if all(math.isinf(band.temperature) for band in bands):
            yield f"boxes of {name} stay: fit-trust found no gain to expect, or too few of them"
