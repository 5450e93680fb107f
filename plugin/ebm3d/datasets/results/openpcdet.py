"""Lists of frames as OpenPCDet pickles them: ``result.pkl``, and infos with labels.

Boxes ``(N, 7)`` or ``(N, 9)``, LiDAR frame, z at the CENTER.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.kitti_calibration import FloatArray, KittiCalibration
from ebm3d.datasets.point_clouds import cloud_id
from ebm3d.datasets.problems import Problem
from ebm3d.datasets.results.frames import (
    FrameChanges,
    FrameResults,
    ResultFile,
    camera_change,
    mapped,
    raise_problems,
    turned,
)
from ebm3d.datasets.results.kitti import read_calibrations
from ebm3d.datasets.results.pickles import dump_pickle, with_rows
from ebm3d.errors import input_error, shape_error

Entry = dict[str, Any]
_EXPECTED = "boxes, names and the frame of each entry"
# Of the boxes; by their key: the dict that holds them, and the keys of names and scores.
_FORMS = {
    "boxes_lidar": ("", "name", "score"),
    "gt_boxes_lidar": ("annos", "name", None),
    "gt_boxes": ("", "gt_names", None),
}


class OpenPCDetResults(ResultFile):
    """A list of dicts, one a frame.

    Results have ``boxes_lidar``, ``name``, ``score`` and ``frame_id``; infos of KITTI and custom
    data ``annos`` with ``gt_boxes_lidar`` and ``name``, those of nuScenes ``gt_boxes`` and
    ``gt_names``. Boxes in the camera frame beside them move with them. Fields are further keys.

    Args:
        path: the file.
        content: what it holds.
        calib: folder of calibration files, needed for boxes in the camera frame.
        name_map: from class names of the file to others.

    Raises:
        DataError: with what is wrong, and without ``calib`` where it is needed.
    """

    format: ClassVar[str] = "openpcdet"

    def __init__(
        self, path: Path, content: Sequence[Entry], calib: Path | None, name_map: Mapping[str, str]
    ) -> None:
        self._content = content
        self._key = form_of(content[0]) or "boxes_lidar"
        frames, problems = [], []
        for index, entry in enumerate(content):
            try:
                frames.append(self._read(entry, name_map))
            except (KeyError, TypeError, ValueError, IndexError) as error:
                got = f"{error!r} in entry {index}"
                problems.append(Problem(path, None, _EXPECTED, got, "write the file again"))
        raise_problems(path, problems)
        in_camera = [
            frame.frame_id
            for frame, entry in zip(frames, content, strict=True)
            if "location" in self._part(entry) and len(frame)
        ]
        self._calibrations: dict[str, KittiCalibration] = {}
        if in_camera:
            self._calibrations = read_calibrations(calib, in_camera, "boxes are also")
        super().__init__(path, frames, _FORMS[self._key][2] is not None)

    def _part(self, entry: Entry) -> Entry:
        """The dict that holds the boxes."""
        name = _FORMS[self._key][0]
        part: Entry = entry[name] if name else entry
        return part

    def _read(self, entry: Entry, name_map: Mapping[str, str]) -> FrameResults:
        """Boxes of an entry."""
        _, names, scores = _FORMS[self._key]
        part = self._part(entry)
        boxes = np.array(part[self._key], dtype=np.float64)
        boxes = boxes if boxes.size else np.zeros((0, 7))
        if boxes.ndim != 2 or boxes.shape[1] not in (7, 9):
            raise shape_error(self._key, "(N, 7) or (N, 9), with velocities", boxes)
        boxes[:, 2] -= boxes[:, 5] / 2
        score = np.asarray(part[scores], np.float64) if scores else np.full(len(boxes), np.nan)
        of_boxes = part[names] if scores else part[names][: len(boxes)]  # DontCare comes last
        named = mapped(of_boxes, name_map)
        if not named.shape == score.shape == (len(boxes),):
            got = f"names {named.shape}, scores {score.shape}"
            raise input_error("lengths", f"those of {len(boxes)} boxes", got)
        return FrameResults(_frame_id(entry), boxes, named, score)

    def _write(self, folder: Path, changed: Mapping[str, FrameChanges]) -> bool:
        """Write the list with other boxes."""
        content = list(self._content)
        for index, frame in enumerate(self.frames):
            if frame.frame_id in changed:
                part = self._changed(index, frame, changed[frame.frame_id])
                name = _FORMS[self._key][0]
                content[index] = {**content[index], name: part} if name else part
        dump_pickle(folder / self.path.name, content)
        return True

    def _changed(self, index: int, frame: FrameResults, changes: FrameChanges) -> Entry:
        """A copy of the dict that holds the boxes, with those of a frame changed."""
        part = {**self._part(self._content[index]), **changes.fields}
        rows = np.flatnonzero(changes.moved)
        boxes = changes.boxes[rows].copy()
        if len(rows) and frame.frame_id in self._calibrations:
            calibration = self._calibrations[frame.frame_id]
            move_in_camera(part, rows, frame.boxes[rows], boxes, calibration)
        boxes[:, 2] += boxes[:, 5] / 2
        part[self._key] = with_rows(part[self._key], rows, boxes)
        return part


def form_of(entry: Any) -> str | None:
    """The key of the boxes of OpenPCDet's entries, or None of others."""
    for key, (part, names, _) in _FORMS.items():
        holder = entry.get(part) if part and isinstance(entry, dict) else entry
        if isinstance(holder, dict) and {key, names} <= holder.keys():
            return key
    return None


def move_in_camera(
    part: Entry,
    rows: NDArray[np.int64],
    before: FloatArray,
    boxes: FloatArray,
    calibration: KittiCalibration,
) -> None:
    """Replace rows of location, dimensions (length, height, width), rotation_y and alpha."""
    location, dimensions, angle, turn = camera_change(before, boxes, calibration)
    new = {"location": location, "dimensions": dimensions[:, [2, 0, 1]], "rotation_y": angle}
    if "alpha" in part:
        new["alpha"] = turned(np.asarray(part["alpha"], np.float64)[rows], turn)
    for key, values in new.items():
        if key in part:
            part[key] = with_rows(part[key], rows, values)


def _frame_id(entry: Entry) -> str:
    """Name of the cloud of an entry."""
    if "frame_id" in entry:
        return cloud_id(str(entry["frame_id"]))
    if "point_cloud" in entry:
        return cloud_id(str(entry["point_cloud"]["lidar_idx"]))
    if "lidar_path" in entry:
        return cloud_id(str(entry["lidar_path"]))
    raise KeyError("frame_id")
