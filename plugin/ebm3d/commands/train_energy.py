"""Train an energy on points alone, from labelled clouds; no detector is needed.

The energy f(x, y) says how well a box y fits the points x in and around it. Some hundred frames
train in minutes on a CPU.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebm3d.commands.options import CLOUDS, DETECTIONS, LABELS, add_data_options, add_format_options

if TYPE_CHECKING:
    from rich.table import Table

    from ebm3d.datasets.results import FrameResults
    from ebm3d.refinement.points_energy import PointsEnergy
    from ebm3d.refinement.training import TrainingResult
    from ebm3d.refinement.training_data import TrainingData

_EXAMPLE = """\
in:   labels and the clouds of their frames, or nothing with --simulated
out:  one file for ebm3d refine, fit-trust and audit-labels
examples:
  ebm3d train-energy data/kitti/training/label_2 data/kitti/training/velodyne \\
      --calib data/kitti/training/calib --ids train.txt --map Van=Car --out energy.pt
  ebm3d train-energy --simulated 1000 --seed 0 --out simulated.pt"""
_VAL_SHARE = 0.1


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description, parser.epilog = __doc__, _EXAMPLE
    add = parser.add_argument
    add("labels", type=Path, nargs="?", metavar="LABELS", help=LABELS)
    add("clouds", type=Path, nargs="?", metavar="CLOUDS", help=CLOUDS)
    add("--out", type=Path, required=True, metavar="FILE", help="the energy")
    text = "train on N simulated frames in place of LABELS and CLOUDS"
    add("--simulated", type=int, metavar="N", help=text)
    text = "to train (default: those with 50 labels or more)"
    add("--classes", nargs="+", metavar="NAME", help=text)
    text = (
        f"{DETECTIONS}, of the labelled frames: the noise of the training is fitted to its errors"
    )
    add("--detections", type=Path, metavar="RESULTS", help=text)
    add("--ids", type=Path, metavar="FILE", help="frames to use, one id a line (default: all)")
    text = "frames held out to choose the best step (give whole drives), one id a line"
    add("--val-ids", type=Path, metavar="FILE", help=text)
    text = f"share of frames held out without --val-ids (default: {_VAL_SHARE})"
    add("--val-share", type=float, default=_VAL_SHARE, metavar="S", help=text)
    add("--steps", type=int, default=1500, metavar="N", help="default: %(default)s")
    add("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    text = "energy to start from; its classes, sizes and noise are taken"
    add("--init", type=Path, metavar="FILE", help=text)
    text = "note on the licence of the data, kept in the file"
    add("--licence", default="", metavar="TEXT", help=text)
    add_data_options(parser)
    add_format_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read or simulate, train, write, report."""
    _check(options)
    import torch

    from ebm3d.commands.console import ERRORS, console, progress_bar, show
    from ebm3d.commands.options import check_output_file, find_device
    from ebm3d.devices import seeded
    from ebm3d.refinement.energy_file import EnergyFile, load_energy, save_energy
    from ebm3d.refinement.points_energy import EnergySettings, PointsEnergy
    from ebm3d.refinement.training_data import choose_classes, gather, noise_stds

    started = time.perf_counter()
    check_output_file("--out", options.out, options)
    device = find_device(options.device)
    init = None if options.init is None else load_energy(options.init)
    frames, labels, detections, notes = _read(options)
    if init is not None:
        classes = init.energy.settings.class_names
    else:
        classes = tuple(options.classes or choose_classes(labels))
    held_out = _held_out(options, [frame.frame_id for frame in labels])
    for note in notes:
        show(f"Note: {note}", ERRORS)
    notes = []
    sizes = None if init is None else init.energy.settings.mean_sizes
    data = gather(progress_bar("Reading the clouds")(frames), classes, held_out, sizes)
    by_id = {frame.frame_id: frame for frame in labels}
    if init is None:
        stds, origins = noise_stds(classes, data.mean_sizes, detections, by_id)
        settings = EnergySettings(classes, data.mean_sizes, stds)
    else:
        settings, origins = init.energy.settings, ["the energy of --init"] * len(classes)
    if data.num_sparse:
        notes.append(f"{data.num_sparse} labels with fewer than 5 points are not trained on")
    for name, number in data.others.items():
        notes.append(f"{number} labels of {name} are not trained on")
    for note in notes:
        show(f"Note: {note}", ERRORS)
    with seeded(options.seed, device):
        energy = PointsEnergy(settings)
        if init is not None:
            energy.load_state_dict(init.energy.state_dict())
        result = _train(energy.to(device), data, options)
    training = _record(options, data, origins, result)
    if init is not None:
        seen = [*init.training.get("frame_ids", ()), *training["frame_ids"]]
        training["frame_ids"] = list(dict.fromkeys(seen))
    save_energy(options.out, EnergyFile(energy.to(torch.device("cpu")), training))
    out = console()
    out.print(_table(data, settings.noise_stds, origins), highlight=False)
    loss = f", held-out loss {result.losses[result.best_step]:.3f}" if result.losses else ""
    seconds = time.perf_counter() - started
    show(f"Best step {result.best_step} of {options.steps}{loss}; {seconds:.0f} s", out)
    show(f"Energy: {options.out} ({options.out.stat().st_size / 1024:.0f} kB)", out)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse options that do not fit together."""
    simulated = options.simulated is not None
    if simulated == (options.clouds is not None) or simulated == (options.labels is not None):
        options.usage_error("give LABELS and CLOUDS, or --simulated N in their place")
    if simulated:
        for name in ("calib", "ids", "val_ids", "detections"):
            if getattr(options, name) is not None:
                options.usage_error(f"--{name.replace('_', '-')} is of LABELS and CLOUDS")
        if options.simulated < 1:
            options.usage_error("--simulated must be at least 1")
    if not 0 <= options.val_share < 1:
        options.usage_error("--val-share must be from 0 to below 1")
    if options.steps < 1:
        options.usage_error("--steps must be at least 1")
    if options.seed < 0:
        options.usage_error("--seed must be at least 0")
    if options.init is not None and (options.classes or options.detections):
        options.usage_error("--classes and --detections are settled by --init")


def _read(options: argparse.Namespace) -> tuple[Any, Sequence[FrameResults], Any, list[str]]:
    """Labelled clouds, the labels alone, detections of their frames, and notes."""
    from ebm3d.commands.console import progress_bar
    from ebm3d.commands.options import format_options, name_map
    from ebm3d.datasets.kitti_splits import match_ids, read_ids
    from ebm3d.datasets.problems import Collected
    from ebm3d.datasets.results import (
        FrameClouds,
        doubtful_frame,
        read_label_set,
        read_results,
    )
    from ebm3d.errors import input_error
    from ebm3d.refinement.training_data import simulated_frames, with_names

    names = name_map(options)
    if options.simulated is not None:
        workers = min(os.cpu_count() or 1, max(1, options.simulated // 20))
        made = simulated_frames(options.simulated, options.seed, workers)
        frames = with_names(progress_bar("Simulating")(made, total=options.simulated), names)
        return frames, [frame for frame, _ in frames], None, []
    found = Collected()
    labels = found.attempt(read_label_set, options.labels, options.calib, names)
    clouds = found.attempt(FrameClouds, options.clouds)
    detections = None
    if options.detections is not None:
        extra = format_options(options)
        detections = found.attempt(read_results, options.detections, options.calib, names, **extra)
    if labels is not None and clouds is not None:
        notes = [*clouds.warnings, *(found.attempt(doubtful_frame, labels, clouds) or [])]
    found.check()
    assert labels is not None
    assert clouds is not None
    chosen = {frame.frame_id: frame for frame in labels.frames}
    if options.ids is not None:
        ids = match_ids(read_ids(options.ids), chosen)
        if options.val_ids is not None:
            ids = [*dict.fromkeys([*ids, *match_ids(read_ids(options.val_ids), chosen)])]
        unknown = [frame_id for frame_id in ids if frame_id not in chosen]
        if unknown:
            got = f"{len(unknown)} others, first {unknown[0]}"
            raise input_error("--ids", f"among the {len(chosen)} labelled frames", got)
        chosen = {frame_id: chosen[frame_id] for frame_id in ids}
    missing, _ = clouds.differences(chosen)
    if missing:
        got = f"none for {len(missing)}, first {missing[0]}"
        remedy = "list the frames that have clouds with --ids"
        raise input_error("CLOUDS", f"of all {len(chosen)} labelled frames", got, remedy)
    used = list(chosen.values())
    return ((f, clouds.read(f.frame_id)) for f in used), used, detections, [*map(str, notes)]


def _held_out(options: argparse.Namespace, frame_ids: Sequence[str]) -> set[str]:
    """Ids of the frames that are not trained on."""
    import numpy as np

    from ebm3d.datasets.kitti_splits import match_ids, read_ids
    from ebm3d.errors import input_error

    if options.val_ids is not None:
        held_out = set(match_ids(read_ids(options.val_ids), frame_ids))
        if unknown := sorted(held_out.difference(frame_ids)):
            got = f"{len(unknown)} others, first {unknown[0]}"
            raise input_error("--val-ids", f"among the {len(frame_ids)} frames", got)
    else:
        order = np.random.default_rng(options.seed).permutation(len(frame_ids))
        held_out = {frame_ids[i] for i in order[: round(options.val_share * len(frame_ids))]}
    if len(held_out) == len(frame_ids) > 0:
        name = "--val-share" if options.val_ids is None else "--val-ids"
        got = f"all {len(frame_ids)}"
        raise input_error(name, "some of the frames, others are trained on", got, "hold out fewer")
    return held_out


def _train(energy: PointsEnergy, data: TrainingData, options: argparse.Namespace) -> TrainingResult:
    """Train with a progress bar that shows the loss."""
    import sys

    from rich.progress import Progress

    from ebm3d.commands.console import ERRORS
    from ebm3d.refinement.training import train_energy

    with Progress(console=ERRORS, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("Training", total=options.steps)

        def show(step: int, loss: float) -> None:
            bar.update(task, completed=step, description=f"Training, loss {loss:.2f}")

        return train_energy(
            energy, data.train, data.held_out, options.steps, seed=options.seed, progress=show
        )


def _record(
    options: argparse.Namespace, data: TrainingData, origins: Sequence[str], result: TrainingResult
) -> dict[str, Any]:
    """What the file says of its training; no paths of this machine."""
    from ebm3d import __version__

    simulated = options.simulated is not None
    name = "simulated" if simulated else "/".join(options.labels.resolve().parts[-3:])
    return {
        "data": name,
        "licence": "none: simulated" if simulated and not options.licence else options.licence,
        "frames": len(data.train),
        "held_out_frames": len(data.held_out),
        "frame_ids": [] if simulated else data.frame_ids,
        "boxes": {name: list(numbers) for name, numbers in data.num_boxes.items()},
        "noise": list(origins),
        "steps": options.steps,
        "best_step": result.best_step,
        "held_out_losses": dict(result.losses),
        "seed": options.seed,
        "init": None if options.init is None else options.init.name,
        "ebm3d": __version__,
    }


def _table(data: TrainingData, stds: Sequence[Sequence[float]], origins: Sequence[str]) -> Table:
    """Boxes, sizes and noise by class."""
    from ebm3d.evaluation.tables import make_table

    table = make_table("Boxes by class", ("", "boxes", "held out", "mean l, w, h", "noise", "from"))
    for i, (name, (trained, held_out)) in enumerate(data.num_boxes.items()):
        sizes = ", ".join(f"{value:.2f}" for value in data.mean_sizes[i])
        noise = ", ".join(f"{value:.2f}" for value in stds[i])
        table.add_row(name, str(trained), str(held_out), sizes, noise, origins[i])
    table.caption = "noise: along, across, up (m); length, width, height (log); yaw (rad)"
    return table
