"""The ground-truth database of nuScenes: the points of every object in the training frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.datasets.atomic import write_into_set
from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.datasets.nuscenes.clouds import read_sweep, without_close
from ebm3d.datasets.nuscenes.frames import lidar_boxes, sweep_transforms, sweeps_of
from ebm3d.datasets.nuscenes.tables import NuScenesTables
from ebm3d.datasets.problems import DataError, Problem

DATABASE_FOLDER = "nuscenes_gt_database"
_REACH = 200  # meters, of a grid with cells of 1 m; what is beyond falls into its border


@dataclass(frozen=True, eq=False)
class FrameObjects:
    """Clouds of a training frame, and its objects for the database.

    Args:
        index: of the frame in the info file.
        clouds: files relative to the root, the key frame's first, K + 1.
        rotations: from sweeps to the key frame, ``(K, 3, 3)``.
        translations: ``(K, 3)``.
        lags: time of the key frame minus that of the sweep, seconds, ``(K,)``.
        boxes: ``(B, 9)``, z at the bottom center.
        labels: indices in ``CLASSES``, ``(B,)``.
        rows: of the objects in the frame's instances, ``(B,)``.
    """

    index: int
    clouds: list[str]
    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]
    lags: NDArray[np.float64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]

    def path(self, i: int) -> str:
        """File of object ``i``, relative to the root."""
        return f"{DATABASE_FOLDER}/{self.index}_{CLASSES[self.labels[i]]}_{self.rows[i]}.bin"


def frame_objects(tables: NuScenesTables, sample: int, index: int, max_sweeps: int) -> FrameObjects:
    """Objects of the ten classes with LiDAR or radar points and a known velocity."""
    labels, of_frame = tables.annotations, tables.annotations.rows_of(sample)
    past = sweeps_of(tables, sample, max_sweeps)
    boxes = lidar_boxes(tables, sample)
    boxes[:, 2] -= boxes[:, 5] / 2
    num_points = labels.num_lidar_points[of_frame] + labels.num_radar_points[of_frame]
    rows = np.flatnonzero(
        (labels.labels[of_frame] >= 0) & (num_points > 0) & np.isfinite(boxes).all(axis=1)
    )
    rotations, translations = sweep_transforms(tables, sample, past)
    return FrameObjects(
        index=index,
        clouds=[tables.sweeps.filenames[i] for i in (tables.samples.sweeps[sample], *past)],
        rotations=rotations,
        translations=translations,
        lags=1e-6 * (tables.samples.timestamps[sample] - tables.sweeps.timestamps[past]),
        boxes=boxes[rows].astype(np.float32),
        labels=labels.labels[of_frame][rows],
        rows=rows,
    )


def write_objects(root: Path, folder: Path, frame: FrameObjects) -> list[int] | tuple[Problem, ...]:
    """Write the points of each object relative to its box; their numbers, or what is wrong.

    x, y, z, intensity, and the time lag in seconds. Objects without points get no file.
    """
    try:
        points = _points_near(root, frame)
    except DataError as error:
        return error.problems
    inside = points_in_boxes(points, frame.boxes[:, :7])
    for i, box in enumerate(frame.boxes):
        if inside[:, i].any():
            found = points[inside[:, i]]
            found[:, :3] -= box[:3]
            write_into_set(folder / frame.path(i), found.astype("<f4").tobytes())
    return inside.sum(axis=0).tolist()


def database_infos(
    frames: Iterable[tuple[FrameObjects, list[int]]],
) -> dict[str, list[dict[str, Any]]]:
    """Content of the info file of the database: for every class its objects that have points."""
    infos: dict[str, list[dict[str, Any]]] = {name: [] for name in CLASSES}
    group = 0
    for frame, counts in frames:
        for i in np.flatnonzero(counts).tolist():
            name = CLASSES[frame.labels[i]]
            info = {
                "name": name,
                "path": frame.path(i),
                "image_idx": frame.index,
                "gt_idx": int(frame.rows[i]),
                "box3d_lidar": np.array(frame.boxes[i].tolist(), dtype=np.float32),
                "num_points_in_gt": counts[i],
                "difficulty": 0,
                "group_id": group,
            }
            infos[name].append(info)
            group += 1
    return infos


def _points_near(root: Path, frame: FrameObjects) -> NDArray[np.float32]:
    """Points of all clouds around the boxes, in the key frame, ``(P, 5)``; ring becomes lag."""
    is_near = _cells(frame.boxes)
    found = []
    for k, name in enumerate(frame.clouds):
        points = read_sweep(root / name)
        if k:
            points = without_close(points)
            place = points[:, :3] @ frame.rotations[k - 1].T + frame.translations[k - 1]
            points[:, :3] = place
        points[:, 4] = frame.lags[k - 1] if k else 0
        x, y = _cell(points[:, :2]).T
        found.append(points[is_near[x, y]])
    return np.concatenate(found)


def _cells(boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which cells of the grid a box of any yaw reaches."""
    grid = np.zeros((2 * _REACH, 2 * _REACH), dtype=np.bool_)
    reach = np.hypot(boxes[:, 3:4], boxes[:, 4:5]) / 2 + 0.01  # rounding
    low, high = _cell(boxes[:, :2] - reach), _cell(boxes[:, :2] + reach)
    for (x, y), (x_end, y_end) in zip(low.tolist(), high.tolist(), strict=True):
        grid[x : x_end + 1, y : y_end + 1] = True
    return grid


def _cell(positions: NDArray[np.float32]) -> NDArray[np.intp]:
    """Cells of positions ``(P, 2)``."""
    return np.clip(np.floor(positions) + _REACH, 0, 2 * _REACH - 1).astype(np.intp)
