"""Write a simulated data set in the KITTI layout, with several processes, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from rich.progress import track

from ebm3d.datasets.kitti_calibration import write_calibration
from ebm3d.datasets.kitti_labels import write_labels
from ebm3d.errors import input_error
from ebm3d.simulation.frame import FieldOfView, simulate_frame
from ebm3d.simulation.sensors import find_sensor

CLOUD_FOLDERS = {"camera": "velodyne_reduced", "full": "velodyne"}
_TRAIN, _VAL = 0, 1
_CHUNK = 8  # frames handed to a process at once


def write_dataset(
    out: Path,
    *,
    num_train: int,
    num_val: int,
    seed: int,
    workers: int,
    sensor: str = "64-beam",
    progress: bool = True,
    field_of_view: FieldOfView = "camera",
) -> None:
    """Simulate a data set and write it in the KITTI layout.

    The result is ``out/ImageSets/{train,val,trainval}.txt`` and, in ``out/training``, the folders
    ``velodyne_reduced`` (``velodyne`` for the full view), ``label_2`` and ``calib``. Frames are
    numbered through, training frames first. Every frame has its own random stream, from the seed,
    its split and its place in the split: the bytes depend neither on ``workers`` nor, frame by
    frame, on how many frames there are.

    Args:
        out: folder to create; must not exist, or be empty.
        num_train: number of training frames.
        num_val: number of validation frames.
        seed: of all randomness, 0 or greater.
        workers: number of processes; 1 works in this one. More are started by "spawn", so a
            script that calls this needs the usual ``if __name__ == "__main__"``.
        sensor: a name in ``ebm3d.simulation.SENSORS``.
        progress: whether to show a progress bar.
        field_of_view: "camera" or "full", as in ``simulate_frame``. Labels are the camera's
            either way.

    Raises:
        ValueError: if an argument is out of range, or ``out`` holds something.
    """
    out = Path(out)
    _check(out, num_train, num_val, seed, workers, field_of_view)
    find_sensor(sensor)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial_out = Path(mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    try:
        for folder in (CLOUD_FOLDERS[field_of_view], "label_2", "calib"):
            (partial_out / "training" / folder).mkdir(parents=True)
        jobs = [(_TRAIN, i, i) for i in range(num_train)]
        jobs += [(_VAL, i, num_train + i) for i in range(num_val)]
        write = partial(_write_frame, partial_out / "training", seed, sensor, field_of_view)
        done = _run(write, jobs, workers)
        for _ in track(done, "Simulating", total=len(jobs), disable=not progress):
            pass
        _write_image_sets(partial_out / "ImageSets", num_train, num_val)
        partial_out.chmod(0o777 & ~_umask())
        if out.exists():
            out.rmdir()
        os.rename(partial_out, out)
    except BaseException:
        shutil.rmtree(partial_out, ignore_errors=True)
        raise


def frame_seed(seed: int, split: int, index: int) -> np.random.SeedSequence:
    """Random stream of one frame: ``split`` is 0 for training, 1 for validation."""
    return np.random.SeedSequence(seed, spawn_key=(split, index))


def _run(write: partial[None], jobs: list[tuple[int, int, int]], workers: int) -> Iterator[None]:
    """Write all frames, in order, in this process or in several."""
    if workers == 1 or len(jobs) <= _CHUNK:
        yield from map(write, jobs)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_use_one_thread) as pool:
        try:
            yield from pool.map(write, jobs, chunksize=_CHUNK)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _use_one_thread() -> None:
    """Keep numba to one thread in each of several processes."""
    from numba import set_num_threads

    set_num_threads(1)


def _write_frame(
    folder: Path, seed: int, sensor: str, field_of_view: FieldOfView, job: tuple[int, int, int]
) -> None:
    """Simulate one frame and write its three files; ``job`` is (split, index, frame id)."""
    split, index, frame_id = job
    frame = simulate_frame(frame_seed(seed, split, index), sensor, field_of_view)
    cloud = folder / CLOUD_FOLDERS[field_of_view] / f"{frame_id:06d}.bin"
    cloud.write_bytes(frame.points.astype("<f4").tobytes())
    write_labels(folder / "label_2" / f"{frame_id:06d}.txt", frame.labels)
    write_calibration(folder / "calib" / f"{frame_id:06d}.txt", frame.calibration)


def _write_image_sets(folder: Path, num_train: int, num_val: int) -> None:
    """Write the lists of frame ids of the splits."""
    folder.mkdir()
    ids = [f"{i:06d}\n" for i in range(num_train + num_val)]
    for name, chosen in (("train", ids[:num_train]), ("val", ids[num_train:]), ("trainval", ids)):
        (folder / f"{name}.txt").write_text("".join(chosen), encoding="ascii")


def _umask() -> int:
    """The permissions that new files are denied."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _check(
    out: Path, num_train: int, num_val: int, seed: int, workers: int, field_of_view: str
) -> None:
    """Raise for arguments out of range."""
    for name, value, least in (
        ("num_train", num_train, 0),
        ("num_val", num_val, 0),
        ("seed", seed, 0),
        ("workers", workers, 1),
    ):
        if value < least:
            raise input_error(name, f"{least} or greater", value)
    if field_of_view not in CLOUD_FOLDERS:
        raise input_error("field_of_view", '"camera" or "full"', repr(field_of_view))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise input_error("out", "a new or empty folder", out, "remove it or choose another")
