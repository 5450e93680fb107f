"""Write simulated drives in the nuScenes layout, with several processes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import track

from ebm3d.datasets.atomic import new_folder, write_into_set
from ebm3d.datasets.processes import map_in_order
from ebm3d.errors import check_count
from ebm3d.simulation.dataset import frame_seed
from ebm3d.simulation.drives.annotations import key_frame
from ebm3d.simulation.drives.drive import SWEEPS, draw_drive
from ebm3d.simulation.drives.tables import (
    CHANNEL,
    DRIVE_TABLES,
    MAP,
    VERSION,
    Record,
    cloud_name,
    drive_tables,
    shared_tables,
)

KEY_FRAMES = 10  # of a drive; 5 seconds
SPLITS = ("sim_train", "sim_val")
_Job = tuple[int, int, int]  # split, drive of the split, key frames to write


def write_drives(
    out: Path,
    *,
    num_train: int,
    num_val: int,
    seed: int,
    workers: int,
    progress: bool = True,
) -> None:
    """Simulate drives and write them in the nuScenes layout.

    The result is ``out/v1.0-sim`` with the 13 tables and ``splits.json`` (sim_train, sim_val),
    ``out/samples/LIDAR_TOP`` and ``out/sweeps/LIDAR_TOP``; an interrupted run leaves no ``out``.
    A drive has 10 key frames, the last of a split as many as are left. Same seed, same bytes, for
    any number of workers.

    Args:
        out: folder to create; must not exist, or be empty.
        num_train: number of key frames for training.
        num_val: number of key frames for validation, of other drives.
        seed: of all randomness, 0 or greater.
        workers: number of processes, see ``map_in_order``.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if an argument is out of range, or ``out`` is not empty.
    """
    counts = {"num_train": num_train, "num_val": num_val}
    for name, value in {**counts, "seed": seed}.items():
        check_count(name, value, 0)
    check_count("num_train + num_val", num_train + num_val)
    check_count("workers", workers, 1)
    jobs = [
        (split, first // KEY_FRAMES, min(KEY_FRAMES, total - first))
        for split, total in enumerate(counts.values())
        for first in range(0, total, KEY_FRAMES)
    ]
    with new_folder(Path(out)) as root:
        for folder in (VERSION, "samples/" + CHANNEL, "sweeps/" + CHANNEL, "maps"):
            (root / folder).mkdir(parents=True)
        write_into_set(root / MAP, b"")
        tables: dict[str, list[Record]] = {name: [] for name in DRIVE_TABLES}
        write = partial(_write_drive, root, seed, KEY_FRAMES)
        done = map_in_order(write, jobs, workers, __name__)
        for records in track(done, "Simulating", total=len(jobs), disable=not progress):
            for name, rows in records.items():
                tables[name] += rows
        tables |= shared_tables([log["token"] for log in tables["log"]])
        for name, rows in tables.items():
            _write_json(root / VERSION / f"{name}.json", rows)
        names = [[scene_name(*job[:2]) for job in jobs if job[0] == split] for split in (0, 1)]
        splits = {split: held for split, held in zip(SPLITS, names, strict=True) if held}
        _write_json(root / VERSION / "splits.json", splits)


def scene_name(split: int, index: int) -> str:
    """Name of a drive: ``sim-train-0000``."""
    return f"{SPLITS[split].replace('_', '-')}-{index:04d}"


def _write_drive(root: Path, seed: int, length: int, job: _Job) -> dict[str, list[Record]]:
    """Simulate a drive of ``length`` key frames and write its clouds; its records, by table."""
    split, index, num_frames = job
    drive = draw_drive(frame_seed(seed, split, index), length)
    scene, place = scene_name(split, index), 2 * index + split
    frames = []
    for step in range((num_frames - 1) * SWEEPS + 1):
        scan = drive.scan(step)
        cloud = np.ascontiguousarray(scan.points, dtype="<f4")
        write_into_set(root / cloud_name(scene, place, step), cloud.tobytes())
        if step % SWEEPS == 0:
            frames.append(key_frame(drive, step, scan.points, scan.visible_share))
    return drive_tables(scene, place, drive, frames)


def _write_json(path: Path, content: object) -> None:
    """Write one table."""
    write_into_set(path, (json.dumps(content, indent=0) + "\n").encode())
