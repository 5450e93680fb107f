"""Write a simulated data set in the KITTI layout, with several processes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import track

from ebm3d.datasets.atomic import new_folder
from ebm3d.datasets.frame_files import FULL_FOLDER, REDUCED_FOLDER
from ebm3d.datasets.kitti_calibration import write_calibration
from ebm3d.datasets.kitti_labels import write_labels
from ebm3d.datasets.point_clouds import write_cloud
from ebm3d.datasets.processes import map_in_order
from ebm3d.errors import check_count, input_error
from ebm3d.simulation.frame import FieldOfView, simulate_frame
from ebm3d.simulation.sensors import find_sensor

CLOUD_FOLDERS = {"camera": REDUCED_FOLDER, "full": FULL_FOLDER}


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
    ``velodyne_reduced`` (``velodyne`` for the full view), ``label_2`` and ``calib``; an interrupted
    run leaves no ``out``. A frame depends on the seed, its split and its place in the split alone,
    not on ``workers`` nor on how many frames there are.

    Args:
        out: folder to create; must not exist, or be empty.
        num_train: number of training frames, which have the first ids.
        num_val: number of validation frames.
        seed: of all randomness, 0 or greater.
        workers: number of processes, see ``map_in_order``.
        sensor: a name in ``ebm3d.simulation.SENSORS``.
        progress: whether to show a progress bar.
        field_of_view: "camera" or "full", of the clouds; labels are always the camera's.

    Raises:
        ValueError: if an argument is out of range, or ``out`` is not empty.
    """
    out = Path(out)
    counts = {"num_train": num_train, "num_val": num_val, "seed": seed}
    for name, value in counts.items():
        check_count(name, value, 0)
    check_count("workers", workers, 1)
    if field_of_view not in CLOUD_FOLDERS:
        raise input_error("field_of_view", '"camera" or "full"', repr(field_of_view))
    find_sensor(sensor)
    splits = {"train": range(num_train), "val": range(num_train, num_train + num_val)}
    with new_folder(out) as root:
        for name in (CLOUD_FOLDERS[field_of_view], "label_2", "calib"):
            (root / "training" / name).mkdir(parents=True)
        (root / "ImageSets").mkdir()
        for name, ids in {**splits, "trainval": range(num_train + num_val)}.items():
            (root / "ImageSets" / f"{name}.txt").write_text("".join(f"{i:06d}\n" for i in ids))
        jobs = [
            (split, index, frame_id)
            for split, ids in enumerate(splits.values())
            for index, frame_id in enumerate(ids)
        ]
        write = partial(_write_frame, root / "training", seed, sensor, field_of_view)
        done = map_in_order(write, jobs, workers, __name__)
        for _ in track(done, "Simulating", total=len(jobs), disable=not progress):
            pass


def frame_seed(seed: int, split: int, index: int) -> np.random.SeedSequence:
    """Random stream of one frame: ``split`` is 0 for training, 1 for validation."""
    return np.random.SeedSequence(seed, spawn_key=(split, index))


def _write_frame(
    folder: Path, seed: int, sensor: str, field_of_view: FieldOfView, job: tuple[int, int, int]
) -> None:
    """Simulate one frame and write its three files; ``job`` is (split, index, frame id)."""
    split, index, frame_id = job
    frame = simulate_frame(frame_seed(seed, split, index), sensor, field_of_view)
    write_cloud(folder / CLOUD_FOLDERS[field_of_view] / f"{frame_id:06d}.bin", frame.points)
    write_labels(folder / "label_2" / f"{frame_id:06d}.txt", frame.labels)
    write_calibration(folder / "calib" / f"{frame_id:06d}.txt", frame.calibration)
