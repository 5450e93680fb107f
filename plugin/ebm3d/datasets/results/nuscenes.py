"""Submissions to nuScenes' detection task: JSON, boxes upright in the global frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ebm3d.datasets.atomic import write_into_set
from ebm3d.datasets.nuscenes.frames import boxes_from_global, global_boxes, lidar_to_global
from ebm3d.datasets.nuscenes.poses import FloatArray, headings
from ebm3d.datasets.nuscenes.tables import find_tables, read_tables
from ebm3d.datasets.point_clouds import cloud_id
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.datasets.results.frames import (
    FrameChanges,
    FrameResults,
    ResultFile,
    mapped,
    raise_problems,
)
from ebm3d.datasets.results.pickles import load_pickle

Record = dict[str, Any]
_FIELDS = ("translation", "size", "rotation", "velocity")


class NuScenesResults(ResultFile):
    """A submission; frames have the names of their clouds, fields are further keys of each box.

    A box that moves keeps the tilt of its rotation, which turns about the global z axis, and its
    velocity unless that changes.

    Args:
        path: the JSON file.
        content: what it holds, ``meta`` and ``results``.
        source: the data root, the folder of the tables, or an info file (version 1.1), for poses.
        name_map: from class names of the file to others.

    Raises:
        DataError: with what is wrong, for samples without pose, and without ``source``.
    """

    format: ClassVar[str] = "nuscenes"

    def __init__(
        self, path: Path, content: Record, source: Path | None, name_map: Mapping[str, str]
    ) -> None:
        self._content = content
        if source is None:
            remedy = "give --nuscenes with the data root or an info file"
            got = "none, and boxes are in the global frame"
            raise DataError([Problem(path, None, "the poses of the samples", got, remedy)])
        poses = _read_poses(source)
        self._tokens: dict[str, str] = {}
        self._poses: dict[str, FloatArray] = {}
        frames, problems = [], []
        for token, records in content["results"].items():
            try:
                frame_id, pose = poses[token]
                frames.append(_frame(frame_id, records, pose, name_map))
                self._tokens[frame_id], self._poses[frame_id] = token, pose
            except (KeyError, TypeError, ValueError) as error:
                expected = f"samples of {source} with lists of boxes"
                got = f"{error!r} in sample {token}"
                problems.append(Problem(path, None, expected, got, "name the data it is of"))
        raise_problems(path, problems)
        super().__init__(path, frames, True)

    def _write(self, folder: Path, changed: Mapping[str, FrameChanges]) -> bool:
        """Write the file with other boxes."""
        results = dict(self._content["results"])
        for frame in self.frames:
            if frame.frame_id in changed:
                token, changes = self._tokens[frame.frame_id], changed[frame.frame_id]
                pose = self._poses[frame.frame_id]
                results[token] = _changed(results[token], frame, changes, pose)
        content = json.dumps({**self._content, "results": results})
        write_into_set(folder / self.path.name, content.encode())
        return True


def _frame(
    frame_id: str, records: list[Record], pose: FloatArray, name_map: Mapping[str, str]
) -> FrameResults:
    """Boxes of a sample in the LiDAR frame."""
    widths = (3, 3, 4, 2)
    columns = [
        np.array([record[name] for record in records], np.float64).reshape(-1, width)
        for name, width in zip(_FIELDS, widths, strict=True)
    ]
    center, size, rotation, velocity = columns
    boxes = boxes_from_global(center, size[:, [1, 0, 2]], headings(rotation), velocity, pose)
    names = mapped([record["detection_name"] for record in records], name_map)
    scores = np.array([record["detection_score"] for record in records], np.float64)
    return FrameResults(frame_id, boxes, names, scores)


def _changed(
    records: list[Record], frame: FrameResults, changes: FrameChanges, pose: FloatArray
) -> list[Record]:
    """Copies of the boxes of a sample, with those that moved changed."""
    center = global_boxes(changes.boxes, pose)[0]
    half = (_yaws(changes.boxes, pose) - _yaws(frame.boxes, pose)) / 2
    velocity = np.linalg.solve(pose[:2, :2].T, changes.boxes[:, 7:9].T).T
    fields = {name: np.asarray(values).tolist() for name, values in changes.fields.items()}
    made = []
    for i, record in enumerate(records):
        new = {**record, **{name: values[i] for name, values in fields.items()}}
        if changes.moved[i]:
            w, x, y, z = record["rotation"]
            c, s = np.cos(half[i]), np.sin(half[i])
            turned = [c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w]
            new["translation"] = center[i].tolist()
            new["size"] = changes.boxes[i, [4, 3, 5]].tolist()
            new["rotation"] = [float(part) for part in turned]
            if (changes.boxes[i, 7:] != frame.boxes[i, 7:]).any() and np.isfinite(
                velocity[i]
            ).all():
                new["velocity"] = velocity[i].tolist()
        made.append(new)
    return made


def _yaws(boxes: FloatArray, pose: FloatArray) -> FloatArray:
    """Yaws in the global frame, ``(N,)``: what ``boxes_from_global`` undoes exactly."""
    heading = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])])
    x, y = np.linalg.solve(pose[:2, :2].T, heading)
    yaws: FloatArray = np.arctan2(y, x)
    return yaws


def _read_poses(source: Path) -> dict[str, tuple[str, FloatArray]]:
    """By sample token, the name of its cloud and the transform from LiDAR to global."""
    if source.is_dir():
        folder = find_tables(source)
        tables = read_tables(folder.parent, folder.name)
        rows = tables.samples.sweeps
        names = [cloud_id(tables.sweeps.filenames[row]) for row in rows.tolist()]
        return dict(
            zip(
                tables.samples.tokens,
                zip(names, lidar_to_global(tables, rows), strict=True),
                strict=True,
            )
        )
    expected = "a data root of nuScenes, or an info file (version 1.1)"
    if not source.exists():
        raise DataError([Problem(source, None, expected, "no such file or folder", "name another")])
    content = load_pickle(source)
    try:
        return {
            info["token"]: (
                cloud_id(info["lidar_points"]["lidar_path"]),
                np.array(info["ego2global"], np.float64)
                @ np.array(info["lidar_points"]["lidar2ego"], np.float64),
            )
            for info in content["data_list"]
        }
    except (KeyError, TypeError, IndexError, ValueError) as error:
        remedy = "write it with tools/create_data.py nuscenes"
        raise DataError([Problem(source, None, expected, repr(error), remedy)]) from error
