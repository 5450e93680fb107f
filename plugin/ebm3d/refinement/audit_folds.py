"""Energies by folds of frames, those of one drive in one fold: none sees what it judges."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.datasets.kitti_splits import match_ids
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.datasets.text import read_lines
from ebm3d.devices import seeded
from ebm3d.errors import check_count, input_error
from ebm3d.refinement.points_energy import EnergySettings, PointsEnergy
from ebm3d.refinement.training import train_energy
from ebm3d.refinement.training_data import LabelledCloud, choose_classes, gather, noise_stds

_COLUMNS = ("group", "drive", "raw_drive", "scene", "sequence", "log")
_REMEDY = "give each frame a line: frame,group"


def read_groups(path: str | Path, frame_ids: Sequence[str]) -> list[str]:
    """Read the group of each frame: its drive, scene or sequence.

    Args:
        path: CSV; the frame in the first column, its group in the second or, with a line of column
            names, in that called group, drive, raw_drive, scene, sequence or log.
        frame_ids: of the frames wanted; 3 is 000003 where that alone is there.

    Raises:
        DataError: naming the first frames without a group.
    """
    path = Path(path)
    rows = list(csv.reader(read_lines(path, "frames and their groups", _REMEDY)))
    named = [column for column in _COLUMNS if rows and column in rows[0]]
    place = rows[0].index(named[0]) if named else 1
    group_of: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        if row and not (named and number == 1):
            if len(row) <= place or not row[place].strip():
                got = f"{len(row)} column{'s' if len(row) != 1 else ''}"
                raise DataError([Problem(path, number, "a frame and its group", got, _REMEDY)])
            group_of[row[0].strip()] = row[place].strip()
    names = match_ids(frame_ids, group_of)
    if missing := [i for i, name in zip(frame_ids, names, strict=True) if name not in group_of]:
        got = f"none for {len(missing)} ({', '.join(missing[:3])}, ...)"
        expected = f"a group for each of {len(names)} frames"
        raise DataError([Problem(path, None, expected, got, _REMEDY)])
    return [group_of[name] for name in names]


def assign_folds(
    groups: Sequence[str], num_labels: Sequence[int], num_folds: int = 3
) -> NDArray[np.int64]:
    """Return the fold of each frame, groups whole, with about as many labels in each fold.

    Args:
        groups: of the frames.
        num_labels: of the frames.
        num_folds: at least 2.

    Raises:
        ValueError: if there are fewer groups than folds.
    """
    check_count("num_folds", num_folds, least=2)
    names, of_frame = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    if len(names) < num_folds:
        expected = f"at most {len(names)}, the number of groups of frames"
        raise input_error("num_folds", expected, num_folds, "each fold needs a group of its own")
    sizes = np.bincount(of_frame, np.asarray(num_labels) + 1e-6)
    fold_of_group = np.zeros(len(names), dtype=np.int64)
    totals = np.zeros(num_folds)
    for group in np.argsort(-sizes, kind="stable"):
        fold_of_group[group] = np.argmin(totals)
        totals[fold_of_group[group]] += sizes[group]
    return fold_of_group[of_frame]


def energies_by_fold(
    frames: Sequence[LabelledCloud],
    folds: NDArray[np.int64],
    num_steps: int,
    init: PointsEnergy | None = None,
    device: torch.device | None = None,
    seed: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
) -> Callable[[int], PointsEnergy]:
    """Return a function of a fold that trains an energy on the frames of all others.

    Args:
        frames: labels with their points.
        folds: of the frames.
        num_steps: of each training.
        init: to start from, trained on other data; its classes, sizes and noise are taken.
        device: to train on; the CPU if left out.
        seed: of weights, order and noise.
        progress: told the fold, the step and its loss.
    """

    def train(fold: int) -> PointsEnergy:
        """An energy that has not seen the fold."""
        others = [frames[row] for row in np.flatnonzero(folds != fold).tolist()]
        if init is None:
            classes = choose_classes(frame for frame, _ in others)
            data = gather(others, classes, set())
            stds, _ = noise_stds(classes, data.mean_sizes)
            settings = EnergySettings(classes, data.mean_sizes, stds)
        else:
            settings = init.settings
            data = gather(others, settings.class_names, set(), settings.mean_sizes)
        where = device or torch.device("cpu")
        with seeded(seed, where):
            energy = PointsEnergy(settings)
            if init is not None:
                energy.load_state_dict(init.state_dict())
            report = None if progress is None else partial(progress, fold)
            train_energy(energy.to(where), data.train, [], num_steps, seed=seed, progress=report)
        return energy

    return train
