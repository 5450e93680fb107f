"""Predictions of mmdet3d: pickles of ``tools/test.py --out`` and KittiMetric, inferencer's JSON.

Boxes ``(N, 7)`` or ``(N, 9)``, LiDAR frame, z at the bottom; labels are numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ebm3d.datasets.atomic import write_into_set
from ebm3d.datasets.kitti_calibration import boxes_from_camera
from ebm3d.datasets.point_clouds import cloud_id
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.datasets.results.frames import (
    FrameChanges,
    FrameResults,
    ResultFile,
    mapped,
    raise_problems,
)
from ebm3d.datasets.results.kitti import read_calibrations
from ebm3d.datasets.results.openpcdet import move_in_camera
from ebm3d.datasets.results.pickles import dump_pickle, to_array, with_rows
from ebm3d.errors import input_error, shape_error

Entry = dict[str, Any]
_KEYS = ("bboxes_3d", "scores_3d", "labels_3d")
_PART = "pred_instances_3d"


class MMDet3DResults(ResultFile):
    """Predictions of frames; fields are further keys beside ``bboxes_3d``.

    Args:
        path: the pickle, or the folder of JSON files.
        entries: one a frame, with ``pred_instances_3d``, or its keys themselves.
        files: of JSON entries.
        ids: of the entries, for those that name no cloud.
        class_names: in the order of the labels.
        name_map: from these names to others.

    Raises:
        DataError: with what is wrong, without class names, and for boxes of cameras.
    """

    format: ClassVar[str] = "mmdet3d"

    def __init__(
        self,
        path: Path,
        entries: Sequence[Entry],
        files: Sequence[Path],
        ids: Sequence[str],
        class_names: Sequence[str],
        name_map: Mapping[str, str],
    ) -> None:
        self._entries, self._files = entries, files
        if not class_names:
            remedy = "give --class-names NAME ..., in the order of the config's class_names"
            got = "none, and labels are numbers"
            raise DataError([Problem(path, None, "class names", got, remedy)])
        self._names = mapped(class_names, name_map)
        named = all(isinstance(entry, dict) and "lidar_path" in entry for entry in entries)
        if not (files or named):
            check_ids(path, ids, len(entries))
        frames, problems = [], []
        for index, entry in enumerate(entries):
            try:
                file = files[index].stem if files else None
                frames.append(self._read(entry, file or (ids[index] if ids else "")))
            except (KeyError, TypeError, ValueError, IndexError) as error:
                got = f"{error} in entry {index}"
                expected = f"{', '.join(_KEYS)} of LiDAR boxes"
                problems.append(Problem(path, None, expected, got, "predict with a LiDAR model"))
        raise_problems(path, problems)
        super().__init__(path, frames, True)

    def _read(self, entry: Entry, frame_id: str) -> FrameResults:
        """Boxes of an entry."""
        part = _part_of(entry)
        if not is_prediction(entry):
            got = ", ".join(part) if isinstance(part, dict) else type(part).__name__
            raise input_error("keys", f"{', '.join(_KEYS)}", got)
        boxes, scores, labels = (to_array(part[key]) for key in _KEYS)
        kind = entry.get("box_type_3d", "LiDAR")
        kinds = (kind if isinstance(kind, str) else kind.__name__, type(part[_KEYS[0]]).__name__)
        if any(name.startswith(("Camera", "Depth")) for name in kinds):
            raise input_error("box_type_3d", "LiDAR", kinds[0])
        boxes = boxes.astype(np.float64).reshape(-1, boxes.shape[-1] if boxes.size else 7)
        if boxes.shape[1] not in (7, 9):
            raise shape_error("bboxes_3d", "(N, 7) or (N, 9), with velocities", boxes)
        if not all(values.shape == (len(boxes),) for values in (scores, labels)):
            got = f"scores {scores.shape}, labels {labels.shape}"
            raise input_error("lengths", f"those of {len(boxes)} boxes", got)
        if len(labels) and not np.issubdtype(labels.dtype, np.number):
            raise input_error("labels_3d", "numbers", repr(labels.tolist()[0]))
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self._names):
            expected = f"below the number of class names, {len(self._names)}"
            raise input_error("labels_3d", expected, int(labels.max()), "give all class names")
        names = self._names[labels.astype(np.int64).reshape(-1)]
        if "lidar_path" in entry:
            frame_id = entry["lidar_path"]
        return FrameResults(cloud_id(frame_id), boxes, names, scores.astype(np.float64))

    def _write(self, folder: Path, changed: Mapping[str, FrameChanges]) -> bool:
        """Write the entries with other boxes."""
        entries = list(self._entries)
        for index, frame in enumerate(self.frames):
            if frame.frame_id in changed:
                entries[index] = _changed(entries[index], changed[frame.frame_id])
        if not self._files:
            dump_pickle(folder / self.path.name, entries)
        for file, entry in zip(self._files, entries, strict=False):
            write_into_set(folder / file.name, json.dumps(entry).encode())
        return True


def check_ids(path: Path, ids: Sequence[str], number: int) -> None:
    """Raise unless there is an id for each frame of a file that does not name them."""
    if len(ids) != number:
        expected = f"the names of its {number} frames, which it numbers"
        remedy = "give --frame-ids FILE, in the order of the info file (ImageSets/val.txt)"
        raise DataError([Problem(path, None, expected, f"{len(ids)}", remedy)])


def is_prediction(entry: Any) -> bool:
    """Whether an entry has mmdet3d's keys."""
    if not isinstance(entry, dict):
        return False
    part = _part_of(entry)
    return isinstance(part, dict) and set(_KEYS) <= part.keys()


def _part_of(entry: Entry) -> Entry:
    """The dict that holds the boxes."""
    part: Entry = entry.get(_PART, entry)
    return part


def _changed(entry: Entry, changes: FrameChanges) -> Entry:
    """A copy of an entry with other boxes, and the fields: lists beside lists, else arrays."""
    part = dict(_part_of(entry))
    boxes = part["bboxes_3d"]
    is_list = isinstance(boxes, list)
    rows = np.flatnonzero(changes.moved)
    part["bboxes_3d"] = with_rows(boxes, rows, changes.boxes[rows])
    part |= {n: np.asarray(v).tolist() if is_list else v for n, v in changes.fields.items()}
    return {**entry, _PART: part} if _PART in entry else part


class KittiAnnos(ResultFile):
    """What ``KittiMetric`` pickles (``pklfile_prefix``): boxes in the camera frame, by entry.

    Its ``sample_idx`` counts the frames of the info file, so their names are asked for.

    Args:
        path: the pickle.
        entries: one a frame.
        ids: of the entries, in their order.
        calib: folder of calibration files.
        name_map: from class names of the file to others.

    Raises:
        DataError: with what is wrong, without ``ids`` or ``calib``.
    """

    format: ClassVar[str] = "mmdet3d"

    def __init__(
        self,
        path: Path,
        entries: Sequence[Entry],
        ids: Sequence[str],
        calib: Path | None,
        name_map: Mapping[str, str],
    ) -> None:
        self._entries = entries
        check_ids(path, ids, len(entries))
        full = [i for i, entry in zip(ids, entries, strict=True) if len(entry["name"])]
        self._calibrations = read_calibrations(calib, full, "boxes are")
        frames = []
        for frame_id, entry in zip(ids, entries, strict=True):
            boxes = np.zeros((0, 7))
            if len(entry["name"]):
                dimensions = np.asarray(entry["dimensions"])[:, [1, 2, 0]]
                camera = (
                    np.asarray(entry["location"]),
                    dimensions,
                    np.asarray(entry["rotation_y"]),
                )
                boxes = boxes_from_camera(*camera, self._calibrations[frame_id])
            scores = np.asarray(entry["score"], np.float64)
            frames.append(FrameResults(frame_id, boxes, mapped(entry["name"], name_map), scores))
        super().__init__(path, frames, True)

    def _write(self, folder: Path, changed: Mapping[str, FrameChanges]) -> bool:
        """Write the entries with other boxes."""
        entries = [dict(entry) for entry in self._entries]
        for frame, entry in zip(self.frames, entries, strict=True):
            if changes := changed.get(frame.frame_id):
                entry |= changes.fields
                if changes.moved.any():
                    rows = np.flatnonzero(changes.moved)
                    calibration = self._calibrations[frame.frame_id]
                    boxes = (frame.boxes[rows], changes.boxes[rows])
                    move_in_camera(entry, rows, *boxes, calibration)
        dump_pickle(folder / self.path.name, entries)
        return True
