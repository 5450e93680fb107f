"""Find labels that are wrong: rank them by how unlikely an energy finds them.

Without --energy, energies are trained on the labels themselves, by folds: no label is judged by one
that has seen its frame. The labels are left as they are; a corrected copy is written beside a table
of all labels and a page of pictures, the least likely first.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebm3d.commands.options import CLOUDS, LABELS, add_data_options

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from ebm3d.datasets.results import LabelledFrames
    from ebm3d.refinement.audit import LabelAudit
    from ebm3d.refinement.points_energy import PointsEnergy

_EXAMPLE = """\
in:   labels and the clouds of their frames
out:  DIR/labels.csv, DIR/index.html with DIR/pictures, DIR/corrected
examples:
  ebm3d audit-labels training/label_2 training/velodyne --calib training/calib --out audit
  ebm3d audit-labels LABELS CLOUDS --energy energy.pt --out audit   # trained on other frames
  ebm3d audit-labels LABELS CLOUDS --init energy.pt --groups drives.csv --out audit"""
_NUM_SHOWN = 10
_REPORT_EVERY = 100


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description, parser.epilog = __doc__, _EXAMPLE
    add = parser.add_argument
    add("labels", type=Path, metavar="LABELS", help=LABELS)
    add("clouds", type=Path, metavar="CLOUDS", help=CLOUDS)
    add("--out", type=Path, required=True, metavar="DIR", help="new or empty folder")
    text = "an energy that has not seen these frames (default: one is trained for each fold)"
    add("--energy", type=Path, metavar="FILE", help=text)
    text = "energy to start the trainings from, made on other frames, such as simulated ones"
    add("--init", type=Path, metavar="FILE", help=text)
    add("--folds", type=int, default=3, metavar="N", help="of frames (default: %(default)s)")
    text = "CSV of frames and their groups (drives), which stay in one fold (default: none)"
    add("--groups", type=Path, metavar="FILE", help=text)
    text = "of the training of each fold (default: %(default)s)"
    add("--steps", type=int, default=1500, metavar="N", help=text)
    text = "labels of this unlikeliness or more (standard deviations above the median of the "
    text += "class) are replaced in the copy (default: %(default)g)"
    add("--threshold", type=float, default=3.0, metavar="U", help=text)
    text = "of the least likely labels (default: %(default)s)"
    add("--pictures", type=int, default=20, metavar="N", help=text)
    add_data_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read, judge, print, write."""
    if options.energy is not None and options.init is not None:
        options.usage_error("--energy judges as it is, --init is trained further: give one")
    if options.folds < 2 or options.steps < 1 or options.pictures < 0:
        options.usage_error("--folds must be at least 2, --steps 1, --pictures 0")
    if not math.isfinite(options.threshold):
        options.usage_error(f"--threshold must be a finite number, but got {options.threshold}")
    from ebm3d.commands.console import ERRORS, console, show
    from ebm3d.commands.labelled import warn_of_seen
    from ebm3d.commands.options import check_drawing, check_new_folder, find_device, name_map
    from ebm3d.datasets.problems import Collected
    from ebm3d.datasets.results import (
        FrameClouds,
        LabelledFrames,
        doubtful_frame,
        read_label_set,
    )
    from ebm3d.refinement.audit import audit_labels
    from ebm3d.refinement.audit_page import PAGE, corrected_labels, write_audit
    from ebm3d.refinement.energy_file import load_energy

    started = time.perf_counter()
    source = options.energy or options.init
    check_new_folder("--out", options.out, options.labels, options.clouds)
    if options.pictures:
        check_drawing("--pictures")
    device = find_device(options.device)
    found = Collected()
    labels = found.attempt(read_label_set, options.labels, options.calib, name_map(options))
    clouds = found.attempt(FrameClouds, options.clouds)
    file = None if source is None else found.attempt(load_energy, source)
    found.check()
    assert labels is not None
    assert clouds is not None
    frames = LabelledFrames(labels, clouds)
    for warning in [*frames.warnings, *doubtful_frame(labels, clouds)]:
        show(f"Note: {warning}", ERRORS)
    if file is not None:
        ids = [frame.frame_id for frame in labels.frames]
        warn_of_seen(file, ids, "it judges what it was trained on")
    energy = None if file is None else file.energy
    if energy is not None and options.init is None:
        audit = audit_labels(frames, energy.to(device))
    else:
        audit = audit_labels(frames, *_by_folds(options, frames, energy, device))
    out = console()
    out.print(_table(audit), highlight=False)
    write_audit(options.out, frames, audit, options.threshold, options.pictures)
    judged, number = audit.is_judged.sum(), corrected_labels(audit, options.threshold).sum()
    text = f"{judged} of {len(audit)} labels were judged; {number} of {options.threshold:g} or more"
    show(f"{text} are replaced in {options.out / 'corrected'}", out)
    show(f"Page: {options.out / PAGE} ({time.perf_counter() - started:.0f} s)", out)
    return 0


def _by_folds(
    options: argparse.Namespace,
    frames: LabelledFrames,
    init: PointsEnergy | None,
    device: torch.device,
) -> tuple[Any, Any]:
    """The training of each fold, and the folds."""
    from ebm3d.commands.console import ERRORS, show
    from ebm3d.refinement.audit_folds import assign_folds, energies_by_fold, read_groups

    results = frames.labels.frames
    groups = ids = [frame.frame_id for frame in results]
    if options.groups is not None:
        groups = read_groups(options.groups, ids)
    else:
        show("Note: folds may split drives, whose frames are alike; give --groups", ERRORS)
    folds = assign_folds(groups, [len(frame) for frame in results], options.folds)

    def progress(fold: int, step: int, loss: float) -> None:
        """Say how far a training is."""
        if step % _REPORT_EVERY == 0:
            text = f"Fold {fold + 1} of {options.folds}: step {step} of {options.steps}"
            show(f"{text}, loss {loss:.2f}", ERRORS)

    train = energies_by_fold(frames, folds, options.steps, init, device, progress=progress)
    return train, folds


def _table(audit: LabelAudit) -> Table:
    """The least likely labels."""
    from ebm3d.evaluation.tables import make_table
    from ebm3d.refinement.audit_page import differences

    moves = ("along", "across", "up", "length", "width", "height", "yaw")
    table = make_table(
        "The least likely labels, and what their proposals change (m, degrees)",
        ("frame", "row", "class", "unlikely", "points", *moves),
    )
    changes = differences(audit)
    for i in audit.order()[:_NUM_SHOWN].tolist():
        if audit.is_judged[i]:
            cells = [f"{value:+.2f}" for value in changes[i, :6]]
            start = (audit.frame_ids[i], str(audit.rows[i]), audit.names[i])
            facts = (f"{audit.unlikeliness[i]:.1f}", str(audit.num_points[i]))
            table.add_row(*start, *facts, *cells, f"{math.degrees(changes[i, 6]):+.1f}")
    return table
