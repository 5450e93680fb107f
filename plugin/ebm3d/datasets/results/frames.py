"""Detections by frame, and the file they came from, which takes changed boxes back in kind.

N boxes of one frame, LiDAR frame, z at the bottom center.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.atomic import new_folder
from ebm3d.datasets.kitti_calibration import FloatArray, KittiCalibration, boxes_to_camera
from ebm3d.datasets.kitti_labels import near_name
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.errors import input_error, shape_error

SIDE_FILE = "refinement.npz"
_MAX_PROBLEMS = 20


@dataclass(frozen=True, eq=False)
class FrameResults:
    """Detections, or labels, of one frame.

    Args:
        frame_id: the name of its cloud without suffix.
        boxes: ``(N, 7)``, or ``(N, 9)`` with velocities (m/s, NaN where unknown), float64.
        names: class names, after the name map, ``(N,)``.
        scores: as in the file, of any range, ``(N,)``; NaN for labels.
    """

    frame_id: str
    boxes: FloatArray
    names: NDArray[np.str_]
    scores: FloatArray

    def __len__(self) -> int:
        """N."""
        return len(self.boxes)


@dataclass(frozen=True, eq=False)
class FrameChanges:
    """What changes in one frame.

    Args:
        boxes: as in ``FrameResults``, the same number in the same order.
        moved: which of them differ, ``(N,)``; all others keep the values of the file.
        fields: further arrays ``(N, ...)`` by name, of all boxes of the frame.
    """

    boxes: FloatArray
    moved: NDArray[np.bool_]
    fields: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class ResultFile(ABC):
    """A file or folder of results, which can be written back with changed boxes.

    Args:
        path: where it was read.
        frames: its frames, no frame id twice.
        has_scores: whether these are detections, not labels.

    Raises:
        DataError: for doubled frames, and for boxes that are not finite or of no size, scores NaN.
    """

    format: ClassVar[str]

    def __init__(self, path: Path, frames: Sequence[FrameResults], has_scores: bool) -> None:
        self.path, self.frames, self.has_scores = path, frames, has_scores
        raise_problems(path, check_frames(path, frames, has_scores))

    def calibration_of(self, frame_id: str) -> KittiCalibration | None:
        """The calibration of a frame whose boxes are in the camera frame; None in the LiDAR's."""
        return None

    def unknown_names(self, known: Collection[str]) -> list[Problem]:
        """Describe class names that are none of ``known``, with the number of their boxes."""
        counts = Counter(name for frame in self.frames for name in frame.names.tolist())
        expected = f"one of {', '.join(known)}"
        problems = []
        for name, number in counts.items():
            if name not in known:
                near = near_name(name, known) or next(iter(known), "NAME")
                remedy = f"give --map {name}={near} if it is one of them; else its boxes stay"
                got = f"{name} for {number} boxes"
                problems.append(Problem(self.path, None, expected, got, remedy))
        return problems

    def write(self, out: Path, changed: Mapping[str, FrameChanges]) -> list[Path]:
        """Write all back in kind to a new or empty folder, whole or not at all.

        With nothing moved the values are those of the file. A moved box changes in its own
        geometry: location, sizes, heading, and with them the camera's observation angle; 2D boxes,
        scores and all else stay. Fields that the format cannot carry go to ``refinement.npz``:
        one row a box, with ``frame_id`` and ``row`` (of the box in ``FrameResults``).

        Args:
            out: the folder; a file is written there under its own name.
            changed: by frame id; frames that are not named stay as they are.

        Returns:
            The files of results, and the side file if there is one.

        Raises:
            ValueError: if ``out`` is the input or has files, or changes do not fit their frame.
        """
        out = Path(out)
        if out.resolve() in (self.path.resolve(), self.path.resolve().parent):
            raise input_error("out", "another folder than that of the input", out, "choose another")
        frames = {frame.frame_id: frame for frame in self.frames}
        for frame_id, changes in changed.items():
            _check_changes(frame_id, frames, changes)
        with new_folder(out) as folder:
            carries_fields = self._write(folder, changed)
            if not carries_fields and any(changes.fields for changes in changed.values()):
                np.savez_compressed(folder / SIDE_FILE, **_side_columns(changed))
            names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return [out / name for name in names]

    @abstractmethod
    def _write(self, folder: Path, changed: Mapping[str, FrameChanges]) -> bool:
        """Write the files into a folder; return whether they carry the fields."""


def check_frames(path: Path, frames: Iterable[FrameResults], scores: bool) -> list[Problem]:
    """Describe doubled frames, boxes that are not finite or of no size, and scores NaN."""
    frames = list(frames)
    problems = []
    for frame_id, number in Counter(frame.frame_id for frame in frames).items():
        if number > 1:
            remedy = "remove the copies (tests on several GPUs pad the last batch)"
            got = f"frame {frame_id} {number} times"
            problems.append(Problem(path, None, "every frame once", got, remedy))
    for frame in frames:
        boxes = frame.boxes
        bad = {
            "finite boxes": ~np.isfinite(boxes[:, :7]).all(axis=1) | np.isinf(boxes).any(axis=1),
            "boxes of positive size": (boxes[:, 3:6] <= 0).any(axis=1),
            "finite scores": ~np.isfinite(frame.scores) & scores,
        }
        for expected, is_bad in bad.items():
            if is_bad.any():
                row = int(np.argmax(is_bad))
                value = frame.scores[row] if "scores" in expected else boxes[row].tolist()
                got = f"{value} in box {row} of frame {frame.frame_id} ({is_bad.sum()} such there)"
                problems.append(Problem(path, None, expected, got, "leave these boxes out"))
    return problems


def raise_problems(path: Path, problems: Sequence[Problem]) -> None:
    """Raise the first problems, with their number, if there are any."""
    shown = list(problems[:_MAX_PROBLEMS])
    if len(problems) > len(shown):
        got = f"{len(problems)} problems"
        shown.append(Problem(path, None, "none", got, "the first of them are named above"))
    if shown:
        raise DataError(shown)


def mapped(names: Iterable[Any], name_map: Mapping[str, str]) -> NDArray[np.str_]:
    """Class names after the name map, ``(N,)``."""
    listed = [name.decode() if isinstance(name, bytes) else str(name) for name in names]
    return np.array([name_map.get(name, name) for name in listed], dtype=np.str_)


def camera_change(
    before: FloatArray, boxes: FloatArray, calibration: KittiCalibration
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Location, dimensions (h, w, l) and rotation_y of boxes, and how far their alpha turns.

    Alpha turns as rotation_y minus the direction of the ray does, however the file's own was made.
    """
    old, _, old_angle = boxes_to_camera(before[:, :7], calibration)
    location, dimensions, angle = boxes_to_camera(boxes[:, :7], calibration)
    rays = np.arctan2(location[:, 0], location[:, 2]) - np.arctan2(old[:, 0], old[:, 2])
    return location, dimensions, angle, angle - old_angle - rays


def turned(alpha: FloatArray, by: FloatArray) -> FloatArray:
    """Observation angles turned, in [-pi, pi); -10, unknown, stays."""
    wrapped = np.mod(alpha + by + np.pi, 2 * np.pi) - np.pi
    return np.where(alpha == -10, alpha, wrapped)


def _check_changes(
    frame_id: str, frames: Mapping[str, FrameResults], changes: FrameChanges
) -> None:
    """Raise unless changes fit a frame."""
    if frame_id not in frames:
        raise input_error("changed", f"of the {len(frames)} frames of the file", repr(frame_id))
    frame = frames[frame_id]
    name = f"of frame {frame_id}"
    if np.shape(changes.boxes) != frame.boxes.shape:
        raise shape_error(f"boxes {name}", str(frame.boxes.shape), changes.boxes)
    if np.shape(changes.moved) != (len(frame),):
        raise shape_error(f"moved {name}", f"({len(frame)},)", changes.moved)
    for key, values in changes.fields.items():
        if len(values) != len(frame):
            raise shape_error(f"{key} {name}", f"({len(frame)}, ...)", values)
    moved = changes.boxes[changes.moved][:, :7]
    if not (np.isfinite(moved).all() and (moved[:, 3:6] > 0).all()):
        raise input_error(f"boxes {name}", "finite and of positive size where moved", moved)


def _side_columns(changed: Mapping[str, FrameChanges]) -> dict[str, NDArray[Any]]:
    """Fields of all frames, one row a box, with its frame and place."""
    parts = [changes for changes in changed.values() if changes.fields]
    ids = [np.full(len(c.moved), frame_id) for frame_id, c in changed.items() if c.fields]
    columns = {
        "frame_id": np.concatenate(ids),
        "row": np.concatenate([np.arange(len(part.moved)) for part in parts]),
        "moved": np.concatenate([part.moved for part in parts]),
    }
    names = parts[0].fields
    return columns | {n: np.concatenate([np.asarray(p.fields[n]) for p in parts]) for n in names}
