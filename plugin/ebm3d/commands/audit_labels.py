"""Find labels that are wrong: rank them by how far they are from an energy's boxes.

Without --energy, energies are trained on the labels themselves, by folds: no label is judged by one
that has seen its frame. The labels are left as they are; a corrected copy is written beside a table
of all labels and a page of pictures, the least likely first.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebm3d.refinement.audit import LabelAudit

_EXAMPLE = """\
in:   labels (KITTI's label_2 with --calib, labels in the LiDAR frame, info files of OpenPCDet)
      and clouds (.bin, .pcd.bin, .npy, .ply, .pcd)
out:  DIR/labels.csv, DIR/index.html with DIR/pictures, DIR/corrected
examples:
  ebm3d audit-labels training/label_2 training/velodyne --calib training/calib --out audit
  ebm3d audit-labels LABELS CLOUDS --energy energy.pt --out audit     # trained on other frames
  ebm3d audit-labels LABELS CLOUDS --groups frames.csv --out audit    # drives stay in one fold"""
_NUM_SHOWN = 10


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description, parser.epilog = __doc__, _EXAMPLE
    add = parser.add_argument
    add("labels", type=Path, help="folder or file of labels")
    add("clouds", type=Path, help="folder of point clouds, named as the frames of the labels")
    add("--out", type=Path, required=True, metavar="DIR", help="new or empty folder")
    text = "folder of KITTI calibration files, for labels in the camera frame"
    add("--calib", type=Path, metavar="DIR", help=text)
    text = "an energy that has not seen these frames (default: train by folds)"
    add("--energy", type=Path, metavar="FILE", help=text)
    add("--folds", type=int, default=3, help="of the frames (default: %(default)s)")
    text = "CSV: a frame and its group (drive, scene), which stays in one fold (default: none)"
    add("--groups", type=Path, metavar="FILE", help=text)
    text = "of the training of each fold (default: %(default)s)"
    add("--steps", type=int, default=1500, help=text)
    text = "class names of the labels that mean others: car=Car"
    add("--map", nargs="+", default=[], metavar="NAME=NAME", help=text)
    text = "labels of this unlikeliness or more (standard deviations above the class's median) are "
    text += "replaced in the copy (default: %(default)g)"
    add("--threshold", type=float, default=3.0, metavar="U", help=text)
    add("--pictures", type=int, default=20, metavar="N", help="(default: %(default)s)")
    add("--device", default="cpu", help="cpu or cuda (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Read, judge, print, write."""
    from ebm3d.commands.console import ERRORS, console, show
    from ebm3d.datasets.atomic import check_writable
    from ebm3d.datasets.results import FrameClouds, LabelledFrames, read_label_set
    from ebm3d.refinement.audit import audit_labels
    from ebm3d.refinement.audit_page import PAGE, corrected_labels, write_audit
    from ebm3d.refinement.energy_file import load_energy

    name_map = dict(pair.split("=", 1) for pair in options.map if "=" in pair)
    if len(name_map) < len(options.map):
        options.usage_error(f"--map must be NAME=NAME, but got {' '.join(options.map)}")
    started = time.perf_counter()
    check_writable("--out", options.out, "folder")
    labels = read_label_set(options.labels, options.calib, name_map)
    frames = LabelledFrames(labels, FrameClouds(options.clouds))
    for warning in frames.warnings:
        show(f"Note: {warning}", ERRORS)
    if options.energy is not None:
        audit = audit_labels(frames, load_energy(options.energy).energy.to(options.device))
    else:
        audit = audit_labels(frames, *_by_folds(options, frames))
    out = console()
    out.print(_table(audit), highlight=False)
    write_audit(options.out, frames, audit, options.threshold, options.pictures)
    judged, number = (
        int(audit.is_judged.sum()),
        int(corrected_labels(audit, options.threshold).sum()),
    )
    show(f"{judged} of {len(audit)} labels were judged; {number} of {options.threshold:g} or more "
         f"are replaced in {options.out / 'corrected'}", out)  # fmt: skip
    show(f"Page: {options.out / PAGE} ({time.perf_counter() - started:.0f} s)", out)
    return 0


def _by_folds(options: argparse.Namespace, frames: Any) -> tuple[Any, Any]:
    """Training by fold, and the folds."""
    from ebm3d.commands.console import ERRORS, show
    from ebm3d.refinement.audit_folds import assign_folds, read_groups
    from ebm3d.refinement.from_labels import energy_without

    results = frames.labels.frames
    ids = [frame.frame_id for frame in results]
    groups = ids if options.groups is None else read_groups(options.groups, ids)
    if options.groups is None:
        show("Note: frames of one drive may be in different folds; --groups keeps them together",
             ERRORS)  # fmt: skip
    folds = assign_folds(groups, [len(frame) for frame in results], options.folds)

    def progress(fold: int, step: int, loss: float) -> None:
        if step % 100 == 0:
            line = f"fold {fold + 1} of {options.folds}: step {step} of {options.steps}, "
            show(f"{line}loss {loss:.2f}", ERRORS)

    device, steps = options.device, options.steps
    return energy_without(frames, folds, steps, device=device, progress=progress), folds


def _table(audit: LabelAudit) -> Any:
    """The least likely labels."""
    from rich.table import Table

    from ebm3d.refinement.audit_page import differences

    table = Table(title="The least likely labels, and what their proposals change")
    columns = ("frame", "row", "class", "unlikeliness", "points", "along m", "across m", "up m")
    for name in (*columns, "length m", "width m", "height m", "yaw degrees"):
        table.add_column(name, justify="left" if name in ("frame", "class") else "right")
    moved = differences(audit)
    for i in audit.order()[:_NUM_SHOWN].tolist():
        if audit.is_judged[i]:
            cells = [f"{value:+.2f}" for value in moved[i, :6]]
            degrees = f"{moved[i, 6] * 57.29578:+.1f}"
            start = (audit.frame_ids[i], str(audit.rows[i]), audit.names[i])
            facts = (f"{audit.unlikeliness[i]:.1f}", str(audit.num_points[i]))
            table.add_row(*start, *facts, *cells, degrees)
    return table
