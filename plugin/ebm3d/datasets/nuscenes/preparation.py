"""From nuScenes' tables and clouds to the files a training reads, on CPUs alone."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from ebm3d.datasets.nuscenes.clouds import KEY_FRAMES, SWEEPS, check_clouds
from ebm3d.datasets.nuscenes.database import (
    DATABASE_FOLDER,
    FrameObjects,
    database_infos,
    frame_objects,
    write_objects,
)
from ebm3d.datasets.nuscenes.frames import sweeps_of
from ebm3d.datasets.nuscenes.infos import frame_info, metainfo, write_infos
from ebm3d.datasets.nuscenes.report import NuScenesPreparationReport, class_figures
from ebm3d.datasets.nuscenes.splits import kind_of_split, splits_to_prepare
from ebm3d.datasets.nuscenes.tables import NuScenesTables, read_tables
from ebm3d.datasets.outputs import link_inputs, replace_outputs
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.datasets.processes import map_in_order
from ebm3d.errors import check_count, input_error

_DATABASE_INFOS = "nuscenes_dbinfos_train.pkl"


def prepare_nuscenes(
    root: str | Path,
    *,
    version: str,
    out: str | Path | None = None,
    splits: str | Path | None = None,
    max_sweeps: int = 10,
    workers: int = 1,
    progress: bool = False,
) -> NuScenesPreparationReport:
    """Check a data set in nuScenes' layout and write all that a training with LiDAR reads.

    Read are the tables in ``ROOT/VERSION`` and the clouds in ``samples/LIDAR_TOP`` and
    ``sweeps/LIDAR_TOP``; no camera, no map. Every cloud is checked before anything is written.

    Written are ``nuscenes_infos_{train,val,test}.pkl``, for each split whose name ends so, and
    with a training split ``nuscenes_gt_database/`` with ``nuscenes_dbinfos_train.pkl``. The bytes
    do not depend on ``workers``. All are moved into place when they are complete.

    Args:
        root: the data set; may be read-only if ``out`` is another folder.
        version: name of the folder of the tables.
        out: where the outputs go, with links to the inputs; by default ``root``.
        splits: file of splits, see ``splits_to_prepare``; by default the official ones, or those
            of ``ROOT/VERSION/splits.json`` for scenes of other names.
        max_sweeps: greatest number of sweeps before a key frame.
        workers: number of processes.
        progress: whether to show a progress bar on standard error.

    Raises:
        ValueError: if ``version`` is a path.
        DataError: with every missing table, defect of the tables, the splits or the clouds; or if
            an output's place is taken by a file of other origin.
    """
    check_count("workers", workers)
    check_count("max_sweeps", max_sweeps, 0)
    if version in ("", "..") or version != Path(version).name:
        expected = "the name of a folder in the root: v1.0-mini, v1.0-trainval, ..."
        raise input_error("version", expected, repr(version), "name the folder above it as root")
    start = time.perf_counter()
    root = Path(root)
    target = root if out is None else Path(out)
    console = Console(stderr=True)
    with console.status("tables and clouds") if progress else nullcontext():
        tables = read_tables(root, version)
        scenes = splits_to_prepare(
            root / version, tables.scenes, None if splits is None else Path(splits)
        )
        samples = {split: _samples(tables, names) for split, names in scenes.items()}
        chosen = np.concatenate([*samples.values()])
        past = [sweeps_of(tables, sample, max_sweeps) for sample in chosen.tolist()]
        sweeps = np.unique(np.concatenate([tables.samples.sweeps[chosen], *past]))
        check_clouds(root, [tables.sweeps.filenames[row] for row in sweeps.tolist()])
    of_kind = {kind_of_split(split): split for split in samples}
    outputs = [f"nuscenes_infos_{kind}.pkl" for kind in of_kind]
    if "train" in of_kind:
        outputs += [_DATABASE_INFOS, DATABASE_FOLDER]
    database: dict[str, list[dict[str, Any]]] = {}
    with replace_outputs(target, outputs) as folder:
        if "train" in of_kind:
            (folder / DATABASE_FOLDER).mkdir()
            jobs = [
                frame_objects(tables, sample, index, max_sweeps)
                for index, sample in enumerate(samples[of_kind["train"]].tolist())
            ]
            results = map_in_order(partial(write_objects, root, folder), jobs, workers, __name__)
            shown = track(results, "frames", len(jobs), console=console, disable=not progress)
            database = database_infos(_counted(jobs, shown))
            (folder / _DATABASE_INFOS).write_bytes(pickle.dumps(database, protocol=4))
        for kind, split in of_kind.items():
            infos = (
                frame_info(tables, sample, index, max_sweeps)
                for index, sample in enumerate(samples[split].tolist())
            )
            write_infos(folder / f"nuscenes_infos_{kind}.pkl", metainfo(version, split), infos)
        if target.resolve() != root.resolve():
            link_inputs(root, target, [version, "maps", KEY_FRAMES, SWEEPS])
    rows = np.flatnonzero(np.isin(tables.annotations.samples, chosen))
    return NuScenesPreparationReport(
        out=target,
        version=version,
        num_scenes={split: len(names) for split, names in scenes.items()},
        num_frames={split: len(rows) for split, rows in samples.items()},
        num_sweeps=int(np.count_nonzero(~tables.sweeps.is_key_frame[sweeps])),
        num_database_objects={name: len(infos) for name, infos in database.items()},
        classes=dict(class_figures(tables.annotations, rows)),
        warnings=tuple(_warnings(root / version, tables, scenes, database)),
        seconds=time.perf_counter() - start,
    )


def _samples(tables: NuScenesTables, scenes: Sequence[str]) -> NDArray[np.int64]:
    """Key frames of some scenes, in the order of the table."""
    is_in = np.isin(tables.scenes, scenes)
    return np.flatnonzero(is_in[tables.samples.scenes])


def _counted(
    frames: Sequence[FrameObjects], results: Iterable[list[int] | tuple[Problem, ...]]
) -> Iterator[tuple[FrameObjects, list[int]]]:
    """Frames with the numbers of points of their objects; all defects together at the end."""
    problems: list[Problem] = []
    for frame, result in zip(frames, results, strict=True):
        if isinstance(result, tuple):
            problems += result
        else:
            yield frame, result
    if problems:
        raise DataError(problems)


def _warnings(
    folder: Path,
    tables: NuScenesTables,
    scenes: dict[str, tuple[str, ...]],
    database: dict[str, list[dict[str, Any]]],
) -> Iterator[Problem]:
    """What is unusual, and may be meant."""
    left_out = sorted({*tables.scenes} - {name for names in scenes.values() for name in names})
    if left_out:
        got = f"{len(left_out)} in none: {', '.join(left_out[:5])}"
        remedy = "nothing, if they are to be left out; or name them with --splits FILE"
        yield Problem(folder / "scene.json", None, "every scene in a split", got, remedy)
    absent = [kind for kind in ("train", "val") if kind not in map(kind_of_split, scenes)]
    if absent and "test" not in map(kind_of_split, scenes):
        got, remedy = f"none for {' and '.join(absent)}", "nothing, if it is not needed"
        yield Problem(folder, None, "scenes for training and validation", got, remedy)
    empty = [name for name, infos in database.items() if not infos]
    if empty:
        remedy = "train without these classes, or add scenes that have them"
        expected = "objects with points of all ten classes in the training frames"
        yield Problem(folder, None, expected, f"none of {', '.join(empty)}", remedy)
