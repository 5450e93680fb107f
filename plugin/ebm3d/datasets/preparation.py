"""From a data set in the KITTI layout to the files a training reads, on CPUs alone."""

from __future__ import annotations

import os
import pickle
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track

from ebm3d.datasets.atomic import scratch_folder, write_atomically
from ebm3d.datasets.frame_files import REDUCED_FOLDER, KittiFrame, read_frame
from ebm3d.datasets.kitti_infos import (
    DATABASE_FOLDER,
    database_infos,
    database_paths,
    frame_info,
    info_file,
)
from ebm3d.datasets.kitti_labels import DONT_CARE
from ebm3d.datasets.kitti_splits import read_splits
from ebm3d.datasets.point_clouds import write_cloud
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.datasets.processes import map_in_order
from ebm3d.errors import check_count

# Tells outputs from files of other origin; unfinished runs write beside it.
_LIST_OF_OUTPUTS = ".prepared/outputs.txt"
_FULL_FOLDER = "velodyne"
_REDUCED_CLOUDS = f"training/{REDUCED_FOLDER}"
_DATABASE_INFOS = "kitti_dbinfos_train.pkl"
_INPUTS = ("ImageSets", "training/calib", "training/label_2", "training/image_2", "training/planes")


@dataclass(frozen=True)
class PreparationReport:
    """What ``prepare_kitti`` read and wrote.

    ``num_frames`` is by split, the numbers of objects (DontCare among them) are by class;
    ``reduced`` says whether camera-view clouds were made from full scans.
    """

    out: Path
    num_frames: dict[str, int]
    num_objects: dict[str, int]
    num_database_objects: dict[str, int]
    num_empty_frames: int  # without any object but DontCare
    num_default_sizes: int  # frames without an image
    reduced: bool
    seconds: float = field(compare=False)


def prepare_kitti(
    root: str | Path, *, out: str | Path | None = None, workers: int = 1, progress: bool = False
) -> PreparationReport:
    """Check a data set in the KITTI layout and write all that a training reads beside it.

    Read are ``ImageSets/{train,val}.txt`` and, in ``training/``, ``calib``, ``label_2``, the clouds
    (``velodyne_reduced``, or full scans in ``velodyne``), and ``image_2`` (for sizes) and
    ``planes`` where they exist.

    Written are ``kitti_infos_{train,val,trainval}.pkl``, ``kitti_gt_database/`` with
    ``kitti_dbinfos_train.pkl``, and from full scans ``training/velodyne_reduced/``; the bytes do
    not depend on ``workers``. They are moved into place when all are complete: an interrupted run
    changes nothing, or leaves no infos, so that nothing reads outputs of two runs.

    Args:
        root: the data set; may be read-only if ``out`` is another folder.
        out: where the outputs go, with links to the inputs; by default ``root``.
        workers: number of processes.
        progress: whether to show a progress bar on standard error.

    Raises:
        DataError: with every defect of every file of every frame, or if an output's place is taken
            by a file of other origin.
    """
    check_count("workers", workers)
    start = time.perf_counter()
    root = Path(root)
    target = root if out is None else Path(out)
    clouds = _find_clouds(root)
    reduces = clouds == _FULL_FOLDER
    splits = read_splits(root / "ImageSets")
    outputs = [f"kitti_infos_{split}.pkl" for split in (*splits, "trainval")]
    outputs += [_DATABASE_INFOS, DATABASE_FOLDER, *([_REDUCED_CLOUDS] if reduces else [])]
    with _replace_outputs(target, outputs) as folder:
        (folder / DATABASE_FOLDER).mkdir()
        (folder / _REDUCED_CLOUDS).mkdir(parents=True)
        frames = _process_frames(root / "training", clouds, splits, folder, workers, progress)
        database = database_infos([frames[frame_id] for frame_id in splits["train"]])
        for split, ids in {**splits, "trainval": list(frames)}.items():
            infos = info_file([frame_info(frames[frame_id]) for frame_id in ids])
            _dump(folder / f"kitti_infos_{split}.pkl", infos)
        _dump(folder / _DATABASE_INFOS, database)
        if target.resolve() != root.resolve():
            _link_inputs(root, target, [*_INPUTS, f"training/{clouds}"])
    names = Counter(name for frame in frames.values() for name in frame.objects.names.tolist())
    return PreparationReport(
        out=target,
        num_frames={split: len(ids) for split, ids in splits.items()},
        num_objects=dict(names.most_common()),
        num_database_objects={name: len(infos) for name, infos in database.items()},
        num_empty_frames=sum(set(f.objects.names) <= {DONT_CARE} for f in frames.values()),
        num_default_sizes=sum(f.image_size is None for f in frames.values()),
        reduced=reduces,
        seconds=time.perf_counter() - start,
    )


def _find_clouds(root: Path) -> str:
    """Folder of the clouds to read: reduced ones, unless they were made here from full scans."""
    full, reduced = root / "training" / _FULL_FOLDER, root / _REDUCED_CLOUDS
    if full.is_dir() and (not reduced.is_dir() or _REDUCED_CLOUDS in _outputs_of(root)):
        return _FULL_FOLDER
    if reduced.is_dir():
        return REDUCED_FOLDER
    got, remedy = f"neither it nor {reduced}", "unpack the clouds of the data set there"
    raise DataError([Problem(full, None, "a folder of clouds", got, remedy)])


def _process_frames(
    training: Path,
    clouds: str,
    splits: dict[str, list[str]],
    folder: Path,
    workers: int,
    progress: bool,
) -> dict[str, KittiFrame]:
    """Read all frames, in the order of the splits, and write their clouds; all defects together."""
    tasks = [(frame_id, split == "train") for split, ids in splits.items() for frame_id in ids]
    process = partial(_process_frame, training, clouds, folder)
    results = map_in_order(process, tasks, workers, __name__)
    console = Console(stderr=True)
    frames: dict[str, KittiFrame] = {}
    problems: list[Problem] = []
    for result in track(results, "frames", len(tasks), console=console, disable=not progress):
        if isinstance(result, KittiFrame):
            frames[result.frame_id] = result
        else:
            problems += result
    if problems:
        raise DataError(problems)
    return frames


def _process_frame(
    training: Path, clouds: str, folder: Path, task: tuple[str, bool]
) -> KittiFrame | tuple[Problem, ...]:
    """Read one frame, write its reduced cloud and, for training, its objects; or its defects."""
    frame_id, is_training = task
    try:
        frame, points, inside = read_frame(training, clouds, frame_id)
    except DataError as error:
        return error.problems
    if clouds == _FULL_FOLDER:
        write_cloud(folder / _REDUCED_CLOUDS / f"{frame_id}.bin", points)
    if is_training:
        for row, path in database_paths(frame):
            object_points = points[inside[row]]
            object_points[:, :3] -= frame.boxes[row, :3]
            write_cloud(folder / path, object_points)
    return frame


@contextmanager
def _replace_outputs(root: Path, outputs: Sequence[str]) -> Iterator[Path]:
    """Yield a folder to write the outputs to, then move them to their places below ``root``."""
    earlier = _outputs_of(root)
    expected, got = "no such file, or one made by an earlier run", "one of other origin"
    remedy = "move it away, or choose another output folder"
    foreign = [name for name in outputs if os.path.lexists(root / name) and name not in earlier]
    if foreign:
        raise DataError(Problem(root / name, None, expected, got, remedy) for name in foreign)
    store = (root / _LIST_OF_OUTPUTS).parent
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "choose an output folder that can be written"
        problem = Problem(root, None, "a folder that can be written", str(error), remedy)
        raise DataError([problem]) from error
    with scratch_folder(store / "run-") as folder:
        yield folder
        write_atomically(root / _LIST_OF_OUTPUTS, "\n".join(sorted({*outputs, *earlier})).encode())
        # Infos go first and come last: they are absent while the rest is of two runs.
        for index, output in enumerate(outputs):
            (root / output).parent.mkdir(parents=True, exist_ok=True)
            if (root / output).exists():
                os.replace(root / output, folder / f"replaced-{index}")
        for output in reversed(outputs):
            os.replace(folder / output, root / output)


def _outputs_of(root: Path) -> set[str]:
    """The outputs below ``root`` that earlier runs made."""
    path = root / _LIST_OF_OUTPUTS
    return set(path.read_text().splitlines()) if path.exists() else set()


def _link_inputs(root: Path, out: Path, inputs: Sequence[str]) -> None:
    """Make links to the inputs in ``out``, so that a config needs no other folder."""
    for name in inputs:
        link, target = out / name, (root / name).resolve()
        if not target.exists() or (link.exists() and link.samefile(target)):
            continue
        if link.exists() and not link.is_symlink():
            expected = f"a link to {target}, or nothing"
            remedy = "move it away, or choose another output folder"
            raise DataError([Problem(link, None, expected, "other data", remedy)])
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent.resolve()))


def _dump(path: Path, content: object) -> None:
    """Pickle with a fixed protocol."""
    path.write_bytes(pickle.dumps(content, protocol=4))
