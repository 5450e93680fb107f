"""From a data set in the KITTI layout to the files a training reads, on CPUs alone."""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ebm3d.datasets.atomic import is_published, link_to, replace_together, write_atomically
from ebm3d.datasets.frame_files import FrameSource, KittiFrame, read_frame
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

_REDUCED_FOLDER = "velodyne_reduced"
_DATABASE_INFOS = "kitti_dbinfos_train.pkl"
_SPLITS = ("train", "val", "trainval")
_INPUTS = ("ImageSets", "training/calib", "training/label_2", "training/image_2", "training/planes")
_PICKLE_PROTOCOL = 4


@dataclass(frozen=True)
class PreparationReport:
    """What ``prepare_kitti`` read and wrote.

    Attributes:
        out: the folder of the outputs, ``data_root`` of a config.
        num_frames: frames of each split.
        num_objects: labels of each class, DontCare among them, in both splits.
        num_database_objects: objects of each class in the ground-truth database.
        num_empty_frames: frames without any object but DontCare.
        num_default_sizes: frames whose picture is absent, so that the default size was taken.
        reduced: whether camera-view clouds were made (from full scans).
        seconds: wall-clock time.
    """

    out: Path
    num_frames: dict[str, int]
    num_objects: dict[str, int]
    num_database_objects: dict[str, int]
    num_empty_frames: int
    num_default_sizes: int
    reduced: bool
    seconds: float = field(compare=False)

    @property
    def frames_per_second(self) -> float:
        """Frames read, checked and written per second."""
        return (self.num_frames["train"] + self.num_frames["val"]) / self.seconds


def prepare_kitti(
    root: str | Path, *, out: str | Path | None = None, workers: int = 1, progress: bool = False
) -> PreparationReport:
    """Check a data set in the KITTI layout and write all that a training reads beside it.

    Read are ``ImageSets/{train,val}.txt`` and, in ``training/``, ``calib``, ``label_2``, and the
    clouds: ``velodyne_reduced`` where the folder exists, else ``velodyne``. Pictures (for their
    size) and ``planes`` are read where they exist.

    Written are ``kitti_infos_{train,val,trainval}.pkl``, ``kitti_gt_database/`` with
    ``kitti_dbinfos_train.pkl``, and from full scans ``training/velodyne_reduced/``. They appear
    all together, when everything is done and faultless, or not at all; the bytes do not depend on
    ``workers``. Inputs are never touched.

    Args:
        root: the data set; may be read-only if ``out`` is another folder.
        out: where the outputs go; by default ``root``. Elsewhere, ``out`` also gets links to the
            inputs, so that it can serve as ``data_root`` alone.
        workers: number of processes.
        progress: whether to show a progress bar on standard error.

    Returns:
        Counts of what was read and written.

    Raises:
        DataError: with every defect of every file of every frame, in the order of the frames.
        ValueError: if ``workers`` is less than one.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, but got {workers}.")
    start = time.perf_counter()
    root = Path(root)
    target = root if out is None else Path(out)
    source = _find_clouds(root / "training")
    splits = read_splits(root / "ImageSets")
    places = {f"kitti_infos_{split}.pkl": f"kitti_infos_{split}.pkl" for split in _SPLITS}
    places |= {DATABASE_FOLDER: DATABASE_FOLDER, _DATABASE_INFOS: _DATABASE_INFOS}
    if not source.reduced:
        places[f"training/{_REDUCED_FOLDER}"] = _REDUCED_FOLDER
    with replace_together(target, places) as folder:
        (folder / DATABASE_FOLDER).mkdir()
        if not source.reduced:
            (folder / _REDUCED_FOLDER).mkdir()
        frames = _process_frames(source, splits, folder, workers, progress)
        train = [frames[frame_id] for frame_id in splits["train"]]
        val = [frames[frame_id] for frame_id in splits["val"]]
        database = database_infos(train)
        infos = [frame_info(frame) for frame in train + val]
        chosen = (infos[: len(train)], infos[len(train) :], infos)
        for split, split_infos in zip(_SPLITS, chosen, strict=True):
            _dump(folder / f"kitti_infos_{split}.pkl", info_file(split_infos))
        _dump(folder / _DATABASE_INFOS, database)
        if target.resolve() != root.resolve():
            _link_inputs(root, target, source)
    return PreparationReport(
        out=target,
        num_frames={"train": len(train), "val": len(val)},
        num_objects=_count(name for frame in train + val for name in frame.objects.names.tolist()),
        num_database_objects={name: len(infos) for name, infos in database.items()},
        num_empty_frames=sum(bool((f.objects.names == DONT_CARE).all()) for f in train + val),
        num_default_sizes=sum(
            not (root / "training" / "image_2" / f"{f.frame_id}.png").is_file() for f in train + val
        ),
        reduced=not source.reduced,
        seconds=time.perf_counter() - start,
    )


def _find_clouds(training: Path) -> FrameSource:
    """Choose between camera-view clouds and full scans."""
    reduced, full = training / _REDUCED_FOLDER, training / "velodyne"
    if reduced.is_dir() and not is_published(reduced):
        return FrameSource(training, reduced=True)
    if full.is_dir():
        return FrameSource(training, reduced=False)
    if is_published(reduced):
        got = f"only {reduced}, an output made from it"
        remedy = f"restore {full}, or replace the link {reduced} by a copy of what it points to"
    else:
        got = f"neither it nor {reduced}"
        remedy = "unpack the clouds of the data set there"
    raise DataError([Problem(full, None, "a folder of clouds", got, remedy)])


def _process_frames(
    source: FrameSource, splits: dict[str, list[str]], folder: Path, workers: int, progress: bool
) -> dict[str, KittiFrame]:
    """Read all frames, in ``workers`` processes, and write their clouds; all problems together."""
    training = set(splits["train"])
    tasks = [(frame_id, frame_id in training) for frame_id in splits["train"] + splits["val"]]
    process = partial(_process_frame, source, folder)
    frames: dict[str, KittiFrame] = {}
    problems: list[Problem] = []
    with _progress_bar(len(tasks), progress) as bar, _mapper(workers, len(tasks)) as parallel_map:
        for result in parallel_map(process, tasks):
            if isinstance(result, KittiFrame):
                frames[result.frame_id] = result
            else:
                problems += result
            bar.advance(bar.task_ids[0])
    if problems:
        raise DataError(problems)
    return frames


def _process_frame(
    source: FrameSource, folder: Path, task: tuple[str, bool]
) -> KittiFrame | tuple[Problem, ...]:
    """Read one frame, write its reduced cloud and, if it trains, its objects; or its defects."""
    frame_id, trains = task
    try:
        frame, points, inside = read_frame(source, frame_id)
    except DataError as error:
        return error.problems
    if not source.reduced:
        write_cloud(folder / _REDUCED_FOLDER / f"{frame_id}.bin", points)
    if trains:
        for row, path in database_paths(frame):
            chosen = points[inside[row]]
            chosen[:, :3] -= frame.boxes[row, :3]
            write_cloud(folder / path, chosen)
    return frame


@contextmanager
def _mapper(workers: int, num_tasks: int) -> Iterator[Any]:
    """A ``map`` that keeps the order and works in this process or in several."""
    if workers == 1:
        yield map
        return
    # Not forked from here: the progress bar's thread, and torch's in a larger program, forbid it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(workers, mp_context=context) as executor:
        chunk = max(1, min(32, num_tasks // (4 * workers)))
        try:
            yield partial(executor.map, chunksize=chunk)
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise


@contextmanager
def _progress_bar(total: int, shown: bool) -> Iterator[Progress]:
    """A progress bar over the frames with the time left, on standard error."""
    columns = (TextColumn("frames"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        bar.add_task("frames", total=total)
        yield bar


def _link_inputs(root: Path, out: Path, source: FrameSource) -> None:
    """Give ``out`` links to the inputs, so that a config needs no other folder."""
    folders = [*_INPUTS, f"training/{source.clouds.name}"]
    for name in folders:
        if (root / name).exists() and not _is_same(out / name, root / name):
            if (out / name).exists() and not (out / name).is_symlink():
                expected = f"a link to {root / name}, or nothing"
                remedy = "move it away, or choose another output folder"
                raise DataError([Problem(out / name, None, expected, "other data", remedy)])
            link_to(out / name, (root / name).resolve())


def _is_same(first: Path, second: Path) -> bool:
    """Whether both paths lead to one file or folder."""
    return first.exists() and first.samefile(second)


def _dump(path: Path, content: Any) -> None:
    """Pickle with a fixed protocol."""
    write_atomically(path, pickle.dumps(content, protocol=_PICKLE_PROTOCOL))


def _count(names: Iterator[str]) -> dict[str, int]:
    """How often each name occurs, the most frequent first."""
    return dict(Counter(names).most_common())
