"""Folders of KITTI label and result files, checked and read for an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.datasets.atomic import UNFINISHED
from ebm3d.datasets.kitti_calibration import read_calibration
from ebm3d.datasets.kitti_frames import KittiFrames, read_frames
from ebm3d.datasets.kitti_splits import match_ids
from ebm3d.datasets.point_clouds import read_cloud
from ebm3d.datasets.problems import DataError, Problem, unreadable
from ebm3d.evaluation.kitti_protocol import CLASSES, OTHER_NAMES
from ebm3d.evaluation.overlaps import upright_boxes

Progress = Callable[[Iterable[str]], Iterable[str]]

_KNOWN = {name.lower() for name in CLASSES} | set(OTHER_NAMES)
_LONG = ("cyclist", "car", "van", "truck", "tram")  # longer than wide
_MAX_SHOWN = 5
_MIN_ODD = 3  # wide boxes that speak for an order
_MIN_JUDGED = 10  # locations that show the ground


@dataclass(frozen=True)
class EvaluationInput:
    """Labels and detections of the same frames, and notes on oddities of the files."""

    labels: KittiFrames
    detections: KittiFrames
    notes: tuple[str, ...]
    num_frames_left_out: int = 0  # labeled ones


def read_folders(
    label_dir: str | Path,
    detection_dir: str | Path,
    *,
    ids: Sequence[str] | None = None,
    missing_as_empty: bool = False,
    progress: Progress | None = None,
) -> EvaluationInput:
    """Read labels and results.

    Args:
        label_dir: folder of label files, ``label_2``.
        detection_dir: folder of result files; like ``label_dir``, it may hold them in ``data``,
            or in its only folder of such files.
        ids: frames to evaluate; ``None``: all that have a result file, as the official tool does.
        missing_as_empty: take frames of ``ids`` without result file as frames without detections.
        progress: wraps an iterable of frame ids.

    Raises:
        DataError: for missing folders, labels or results, and whatever ``read_frames`` refuses.
    """
    label_dir, detection_dir = Path(label_dir), Path(detection_dir)
    for folder, kind in ((label_dir, "label"), (detection_dir, "result")):
        if not folder.is_dir():
            got = "a file" if folder.exists() else "no such folder"
            expected = f"a folder of {kind} files"
            raise DataError([Problem(folder, None, expected, got, "name another")])
    notes: list[str] = []
    label_dir, labeled = _find_files(label_dir, "label files", notes)
    if ids is not None and missing_as_empty and not any(detection_dir.iterdir()):
        detected: set[str] = set()
    else:
        detection_dir, detected = _find_files(detection_dir, "result files", notes)
    is_asked = ids is not None
    if ids is None:
        ids = sorted(detected)
        if len(labeled) > len(ids):
            notes.append(
                f"{len(ids)} frames have result files and are evaluated, of {len(labeled)} "
                "labeled ones; give --ids to fix the set."
            )
    else:
        ids = match_ids(ids, labeled)
    remedy = (
        "remove it from the ids" if is_asked else "name results of labeled frames, or give --ids"
    )
    _check_present(label_dir, ids, labeled, "labels of every frame", remedy)
    needed = ids
    if missing_as_empty:  # but not where the files are there under other digits
        named = zip(ids, match_ids(ids, detected), strict=True)
        needed = [frame_id for frame_id, name in named if name != frame_id]
    remedy = "write an empty file for a frame without detections, or pass --missing-as-empty"
    _check_present(detection_dir, needed, detected, "a result file of every frame", remedy)
    if absent := [frame_id for frame_id in ids if frame_id not in detected]:
        notes.append(
            f"{len(absent)} of {len(ids)} frames have no result file (first {absent[0]}): taken as "
            "frames without detections."
        )
    if others := sorted(detected.difference(ids)):
        notes.append(
            f"{len(others)} result files of frames outside --ids are left out (first {others[0]})."
        )
    labels = read_frames(label_dir, ids, scores=False, progress=progress)
    present = [frame_id for frame_id in ids if frame_id in detected]
    detections = read_frames(detection_dir, present, scores=True, progress=progress)
    for frames, folder in ((labels, label_dir), (detections, detection_dir)):
        notes += [*_unknown_classes(frames, folder), *_odd_numbers(frames, folder)]
    if absent:
        counts = dict(zip(present, np.diff(detections.starts).tolist(), strict=True))
        starts = np.cumsum([0, *(counts.get(frame_id, 0) for frame_id in ids)])
        detections = KittiFrames(tuple(ids), starts, detections.objects)
    return EvaluationInput(labels, detections, tuple(notes), len(labeled.difference(ids)))


def count_points(
    labels: KittiFrames,
    velodyne_dir: str | Path,
    calib_dir: str | Path,
    progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Count the LiDAR points in the box of every label, ``(G,)``.

    Raises:
        DataError: if a cloud ``<frame id>.bin`` or calibration is missing or damaged.
    """
    counts = np.zeros(len(labels.objects), dtype=np.int64)
    boxes = upright_boxes(labels.objects)
    frame_ids: Iterable[str] = labels.frame_ids
    for index, frame_id in enumerate(progress(frame_ids) if progress else frame_ids):
        points = read_cloud(Path(velodyne_dir) / f"{frame_id}.bin")[:, :3]
        matrix = read_calibration(Path(calib_dir) / f"{frame_id}.txt").lidar_to_camera_matrix
        x, y, z = (points @ matrix[:3, :3].T + matrix[:3, 3]).T
        rows = slice(labels.starts[index], labels.starts[index + 1])
        counts[rows] = points_in_boxes(np.column_stack([z, -x, -y]), boxes[rows]).sum(axis=0)
    return counts


def _find_files(folder: Path, kind: str, notes: list[str]) -> tuple[Path, set[str]]:
    """This folder or its only one with files ``<frame id>.txt``, and the frame ids."""
    if frame_ids := _frame_ids(folder):
        return folder, frame_ids
    inner = {path: _frame_ids(path) for path in sorted(folder.glob("*/")) if path.is_dir()}
    inner = {path: frame_ids for path, frame_ids in inner.items() if frame_ids}
    if folder / "data" in inner:
        return folder / "data", inner[folder / "data"]
    if len(inner) == 1:
        ((path, frame_ids),) = inner.items()
        notes.append(f"the {kind} are read from {path}.")
        return path, frame_ids
    other = next((path.name for path in sorted(folder.iterdir()) if path.is_file()), None)
    got = "no file <frame id>.txt" + (f", but {other}" if other else "")
    remedy = "name the folder of the files <frame id>.txt"
    if inner:
        remedy += f": {', '.join(map(str, inner))}"
    raise DataError([Problem(folder, None, kind, got, remedy)])


def _frame_ids(folder: Path) -> set[str]:
    """Frame ids of the text files of a folder: those whose stem is a number."""
    if (mark := folder / UNFINISHED).exists():
        expected, remedy = "no such file", "write the results again"
        got = "results of a run that was interrupted, beside earlier ones"
        raise DataError([Problem(mark, None, expected, got, remedy)])
    names = (path.stem for path in folder.glob("*.txt"))
    return {name for name in names if name.isascii() and name.isdigit()}


def _check_present(
    folder: Path, ids: Sequence[str], present: set[str], expected: str, remedy: str
) -> None:
    """Raise if a frame has no file, naming the first ones and their number."""
    absent = [frame_id for frame_id in ids if frame_id not in present]
    if not absent:
        return
    shown = [folder / f"{frame_id}.txt" for frame_id in absent[:_MAX_SHOWN]]
    problems = [unreadable(path, expected, FileNotFoundError(), remedy) for path in shown]
    if len(absent) > _MAX_SHOWN:
        got = f"{len(absent)} of {len(ids)} missing"
        problems.append(Problem(folder, None, expected, got, remedy))
    raise DataError(problems)


def _place(frames: KittiFrames, folder: Path, row: int) -> str:
    """File and line of an object; blank lines, which KITTI's files have none of, do not count."""
    frame = int(frames.frame_of_object[row])
    return f"{folder / frames.frame_ids[frame]}.txt:{row - frames.starts[frame] + 1}"


def _odd_numbers(frames: KittiFrames, folder: Path) -> Iterator[str]:
    """Notes on numbers that the objects of KITTI do not have."""
    objects = frames.objects
    left, top, right, bottom = objects.bbox.T
    _, width, length = objects.dimensions.T
    is_box = (objects.dimensions > 0).all(axis=1)
    is_wide = np.isin(np.char.lower(objects.names), _LONG) & (width > length)
    lines = np.column_stack([frames.frame_of_object, objects.to_table(True)])
    is_first = np.isin(np.arange(len(lines)), np.unique(lines, axis=0, return_index=True)[1])
    for odd, what, then in (
        (
            (right < left) | (bottom < top),
            "2D boxes in {} have right < left or bottom < top",
            "they overlap nothing in the image, as in the official tool",
        ),
        (
            is_box & (np.abs(objects.rotation_y) > 2 * np.pi + 0.01),
            "headings in {} are beyond 2 pi",
            "are they in degrees? KITTI's rotation_y is in radians",
        ),
        (
            is_wide & (is_wide.sum() >= _MIN_ODD),
            "boxes in {} are wider than long",
            "KITTI's order is height, width, length",
        ),
        (
            is_box & _has_lidar_axes(objects.location[is_box]),
            "locations in {} look like those of a LiDAR, z up",
            "KITTI's are in the camera frame: x right, y down, z forward",
        ),
        (is_box & ~is_first, "objects in {} are written twice", "the second counts as false"),
    ):
        rows = np.flatnonzero(odd)
        if len(rows):
            place = _place(frames, folder, rows[0])
            kind = what.format(folder)
            yield f"{len(rows)} of {len(objects)} {kind} (first in {place}): {then}."


def _has_lidar_axes(location: NDArray[np.float64]) -> bool:
    """Whether road users, which stand on one ground, differ less in z than in y, ``(N, 3)``."""
    if len(location) < _MIN_JUDGED:
        return False
    low, high = np.quantile(location[:, 1:], [0.1, 0.9], axis=0)
    y, z = high - low
    return bool(z < y / 2)


def _unknown_classes(frames: KittiFrames, folder: Path) -> Iterator[str]:
    """Notes on class names that the benchmark does not know."""
    names = np.char.lower(frames.objects.names)
    for name in np.unique(names):
        if name not in _KNOWN:
            rows = np.flatnonzero(names == name)
            yield (
                f"class {frames.objects.names[rows[0]]!r} is none of KITTI's: its {len(rows)} "
                f"objects in {folder} are never counted (first in "
                f"{_place(frames, folder, rows[0])}). Classes are Car, Pedestrian and Cyclist."
            )
