"""Folders of KITTI text: results (16 columns), labels (15), and labels in the LiDAR frame."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.atomic import write_into_set
from ebm3d.datasets.kitti_calibration import (
    FloatArray,
    KittiCalibration,
    boxes_from_camera,
    read_calibration,
)
from ebm3d.datasets.kitti_frames import KittiFrames, read_frames, stack_frames
from ebm3d.datasets.kitti_labels import DONT_CARE, LABEL_COLUMNS, KittiObjects
from ebm3d.datasets.lidar_labels import AXES_ONLY, read_lidar_labels
from ebm3d.datasets.problems import DataError, Problem, unreadable
from ebm3d.datasets.results.frames import (
    FrameChanges,
    FrameResults,
    ResultFile,
    camera_change,
    mapped,
    raise_problems,
    turned,
)
from ebm3d.datasets.text import is_number, is_plain, read_lines, split_words

_SPACES = re.compile(r"(\s+)")
_DECIMALS = 4


class KittiResults(ResultFile):
    """A folder of text files, one a frame, in the camera frame or, ``origin`` given, the LiDAR's.

    DontCare and results without a 3D box are no boxes, and are written back. Rows that do not move
    keep their text; of those that move, location, dimensions, rotation_y and alpha (unless -10) are
    written with four decimals, and the 2D box stays that of the file.

    Args:
        folder: of the files.
        calib: folder of calibration files, in the camera frame.
        name_map: from class names of the file to others.
        scores: ``True`` for results, ``False`` for labels.
        origin: "center" or "bottom": where z is, of labels in the LiDAR frame.

    Raises:
        DataError: with the first 20 defects of files and calibrations.
    """

    format: ClassVar[str] = "kitti"

    def __init__(
        self,
        folder: Path,
        calib: Path | None,
        name_map: Mapping[str, str],
        *,
        scores: bool,
        origin: str | None = None,
    ) -> None:
        self._origin = origin
        files = sorted(folder.glob("[!.]*.txt"))
        ids = [path.stem for path in files]
        if origin is None:
            table = read_frames(folder, ids, scores=scores)
            self._calibrations = read_calibrations(calib, ids, "KITTI's text files are")
        else:
            table = _read_lidar_frames(folder, ids, origin)
            self._calibrations = dict.fromkeys(ids, AXES_ONLY)
        objects = table.objects
        is_box = (objects.dimensions > 0).all(axis=1)
        is_box &= np.char.lower(objects.names) != DONT_CARE.lower()
        names = mapped(objects.names, name_map)
        score = np.full(len(objects), np.nan) if objects.score is None else objects.score
        boxes = _boxes(table, self._calibrations)
        frames = []
        self._rows: dict[str, NDArray[np.int64]] = {}
        for frame_id, start, end in zip(ids, table.starts, table.starts[1:], strict=False):
            rows = np.flatnonzero(is_box[start:end])
            at = rows + start
            frames.append(FrameResults(frame_id, boxes[at], names[at], score[at]))
            self._rows[frame_id] = rows
        super().__init__(folder, frames, scores)

    def calibration_of(self, frame_id: str) -> KittiCalibration | None:
        """See ``ResultFile``."""
        return self._calibrations[frame_id] if self._origin is None else None

    def _write(self, folder: Path, changed: Mapping[str, FrameChanges]) -> bool:
        """Copy files; write those with moved boxes line by line."""
        for frame in self.frames:
            source = self.path / f"{frame.frame_id}.txt"
            content = source.read_bytes()
            changes = changed.get(frame.frame_id)
            if changes is not None and changes.moved.any():
                content = self._rewritten(source, content, frame, changes)
            write_into_set(folder / source.name, content)
        return False

    def _rewritten(
        self, source: Path, content: bytes, frame: FrameResults, changes: FrameChanges
    ) -> bytes:
        """Content of a file with its moved boxes changed."""
        if is_plain(content):
            lines = content.decode().splitlines(keepends=True)
        else:
            words = [split_words(line, source, 0) for line in read_lines(source, "a file", "")]
            lines = [" ".join(part) + "\n" for part in words]
        places = np.array([i for i, line in enumerate(lines) if line.strip()], dtype=np.int64)
        moved = np.flatnonzero(changes.moved)
        before, boxes = frame.boxes[moved], changes.boxes[moved]
        camera = camera_change(before, boxes, self._calibrations[frame.frame_id])
        location, dimensions, angle, turn = camera
        for i, place in enumerate(places[self._rows[frame.frame_id][moved]].tolist()):
            parts = _SPACES.split(lines[place])
            at = [k for k in range(0, len(parts), 2) if parts[k]]
            if self._origin is None:
                alpha = float(parts[at[3]])
                values = [*dimensions[i], *location[i], angle[i]]
                numbers = dict(zip(at[8:15], values, strict=True))
                if alpha != -10:
                    numbers[at[3]] = turned(np.array(alpha), turn[i])
            else:
                numbers = _lidar_columns(boxes[i], self._origin, parts, at)
            for k, value in numbers.items():
                parts[k] = f"{value:.{_DECIMALS}f}"
            lines[place] = "".join(parts)
        return "".join(lines).encode()


def _lidar_columns(
    box: FloatArray, origin: str, parts: list[str], at: list[int]
) -> dict[int, float]:
    """Numbers of a line in the LiDAR frame by their place in it."""
    x, y, z, dx, dy, dz, yaw = box[:7].tolist()
    z += dz / 2 if origin == "center" else 0.0
    if len(at) == LABEL_COLUMNS:
        return dict(zip(at[8:], (dz, dy, dx, x, y, z, yaw), strict=True))
    first = 0 if is_number(parts[at[0]]) else 1
    return dict(zip(at[first:], (x, y, z, dx, dy, dz, yaw), strict=False))


def _boxes(table: KittiFrames, calibrations: Mapping[str, KittiCalibration]) -> FloatArray:
    """Boxes of all rows, ``(N, 7)``, for frames of one calibration at a time."""
    of_frame = [calibrations[frame_id] for frame_id in table.frame_ids]
    unique = {id(calibration): calibration for calibration in of_frame}
    which = np.array([id(c) for c in of_frame], dtype=np.int64)[table.frame_of_object]
    objects = table.objects
    boxes = np.zeros((len(objects), 7))
    for key, calibration in unique.items():
        rows = np.flatnonzero(which == key)
        fields = (objects.location[rows], objects.dimensions[rows], objects.rotation_y[rows])
        boxes[rows] = boxes_from_camera(*fields, calibration)
    # Beyond two turns as it is: degrees are told by their numbers.
    is_turned = np.abs(objects.rotation_y) > 2 * np.pi
    boxes[is_turned, 6] = -objects.rotation_y[is_turned] - np.pi / 2
    return boxes


def read_calibrations(calib: Path | None, ids: list[str], what: str) -> dict[str, KittiCalibration]:
    """Calibrations ``<frame id>.txt``, equal files parsed once; ``what`` is in the camera frame.

    Raises:
        DataError: with the first of those that are missing or damaged.
    """
    if calib is None or not calib.is_dir():
        expected = f"the folder of calibration files, as {what} in the camera frame"
        problem = Problem(Path(calib or "calib"), None, expected, "none", "give --calib DIR")
        raise DataError([problem])
    parsed: dict[bytes, KittiCalibration] = {}
    found: dict[str, KittiCalibration] = {}
    problems: list[Problem] = []
    for frame_id in ids:
        path = calib / f"{frame_id}.txt"
        try:
            content = path.read_bytes()
            if content not in parsed:
                parsed[content] = read_calibration(path)
            found[frame_id] = parsed[content]
        except OSError as error:
            remedy = "name the folder that holds one for each frame"
            problems.append(unreadable(path, "a calibration file", error, remedy))
        except DataError as error:
            problems += error.problems
    raise_problems(calib, problems)
    return found


def _read_lidar_frames(folder: Path, ids: list[str], origin: str) -> KittiFrames:
    """Labels in the LiDAR frame as objects of KITTI's axes."""
    parts: dict[str, KittiObjects] = {}
    problems: list[Problem] = []
    for frame_id in ids:
        try:
            parts[frame_id] = read_lidar_labels(folder / f"{frame_id}.txt", origin)
        except DataError as error:
            problems += error.problems
    raise_problems(folder, problems)
    return stack_frames(parts, scores=False)
