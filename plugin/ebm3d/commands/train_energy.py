"""Train an energy on points alone, from labelled clouds; no detector is needed.

The energy f(x, y) says how well a box y fits the points x in and around it. Some hundred frames
train in minutes on a CPU.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebm3d.commands.options import CLOUDS, DETECTIONS, LABELS, add_data_options

if TYPE_CHECKING:
    import torch
    from rich.table import Table

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
    text = f"{DETECTIONS}, of the labelled frames: the noise of the training is fitted to its errors"
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


def run(options: argparse.Namespace) -> int:
    """Read or simulate, train, write, report."""
    _check(options)
    import torch

    from ebm3d.commands.console import ERRORS, console, progress_bar, show
    from ebm3d.commands.options import find_device
    from ebm3d.datasets.atomic import check_writable
    from ebm3d.devices import seeded
    from ebm3d.refinement.energy_file import EnergyFile, load_energy, save_energy
    from ebm3d.refinement.points_energy import EnergySettings, PointsEnergy
    from ebm3d.refinement.training_data import choose_classes, gather, noise_stds, simulated_frames

    started = time.perf_counter()
    check_writable("--out", options.out)
    device = find_device(options.device)
    init = None if options.init is None else load_energy(options.init)
    frames, labels, detections, notes = _read(options)
    if init is not None:
        classes = init.energy.settings.class_names
    else:
        classes = tuple(options.classes or choose_classes(labels))
    held_out = _held_out(options, [frame.frame_id for frame in labels])
    data = gather(progress_bar("Reading the clouds")(frames), classes, held_out)
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
    save_energy(options.out, EnergyFile(energy.to(torch.device("cpu")), training))
    out = console()
    out.print(_table(data, settings.noise_stds, origins), highlight=False)
    loss = f", held-out loss {result.losses[result.best_step]:.3f}" if result.losses else ""
    seconds = time.perf_counter() - started
    show(f"Best step {result.best_step} of {options.steps}{loss}; {seconds:.0f} s", out)
    show(f"Energy: {options.out} ({options.out.stat().st_size / 1024:.0f} kB)", out)
    return 0
