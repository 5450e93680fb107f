"""Whether the labels of a data set fit its clouds: figures per class, and what is wrong.

Judged over all frames, never by one object: KITTI has objects without points, and more than half of
the objects of a sparse radar may have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets import label_readings as readings
from ebm3d.datasets.frame_files import (
    MAX_CAMERA_TILT,
    SIDEWAYS_CAMERA,
    KittiFrame,
    camera_tilt,
)
from ebm3d.datasets.label_table import LabelTable
from ebm3d.datasets.label_values import (
    MIN_OBJECTS,
    Finding,
    check_2d_boxes,
    check_angles,
    check_doubles,
    check_empty_classes,
    check_units,
    check_widths,
    frame_name,
)
from ebm3d.datasets.problems import Problem

_MIN_SHARE = 0.15  # of the objects whose other readings are tried
_SAMPLE = 16  # objects of each class whose other readings are tried
_MANY_EMPTY = 0.25  # share of objects without points that is said; from a half on it is refused
_SOME_EMPTY = 0.1  # share from which other frames of reference are tried
_MAX_WRONG = 0.25  # share of objects that fit in another way alone: more is refused
ReadCloud = Callable[[str], NDArray[np.float32]]


def check_labels(
    frames: Mapping[str, KittiFrame], table: LabelTable, folder: Path, read_cloud: ReadCloud
) -> tuple[list[Problem], list[Problem]]:
    """Find what is wrong with the labels of a data set.

    Args:
        frames: all frames by id.
        table: their objects.
        folder: of the label files, for the reports.
        read_cloud: from a frame id to its points, ``(P, >= 3)``.

    Returns:
        Findings that make results wrong; and those that may be right.
    """
    listed = list(frames.values())
    if not len(table.objects):
        got = "none in all frames" if frames else "no frame"
        problem = Problem(folder, None, "objects", got, "label some, or check the class names")
        return [], [problem]
    sideways = [frame for frame in listed if camera_tilt(frame.calibration) > MAX_CAMERA_TILT]
    findings = [*check_angles(table, listed, folder), *check_units(table, folder)]
    if sideways:
        findings.append((True, _sideways_problem(sideways, len(listed), folder)))
    if not findings or sideways:
        findings += check_readings(table, listed, folder, read_cloud, far=bool(sideways))
    if not findings:
        findings = [*check_widths(table, listed, folder), *check_empty_classes(table, folder)]
    if not findings and len(table.objects) < MIN_OBJECTS:
        expected, got = f"{MIN_OBJECTS} objects to judge the labels by", str(len(table.objects))
        findings.append((False, Problem(folder, None, expected, got, "check them by eye")))
    findings += check_doubles(table, listed, folder)
    findings += check_2d_boxes(table, listed[0].lidar_only, folder)
    errors = [problem for is_error, problem in findings if is_error]
    return errors, [problem for is_error, problem in findings if not is_error]


def check_readings(
    table: LabelTable,
    frames: list[KittiFrame],
    folder: Path,
    read_cloud: ReadCloud,
    *,
    far: bool = False,
    remedy_of: Callable[[str, bool], str] = readings.remedy_of,
) -> list[Finding]:
    """Find boxes that fit the clouds better when read in another way, or not at all.

    Args:
        table: the objects of all frames.
        frames: of the data set; neighbors by name are taken for neighbors in time.
        folder: of the files, for the reports.
        read_cloud: from a frame id to its points, ``(P, >= 3)``.
        far: try other frames of reference even where boxes hold points.
        remedy_of: from a reading, and whether there is no camera, to what to do about it.
    """
    empty = table.num_points == 0
    share = float(empty.mean())
    chosen = _sample(table)
    counts = _near_counts(table, frames, chosen, read_cloud)
    if far or share > _SOME_EMPTY:
        counts |= _far_counts(table, frames, chosen, read_cloud)
    num_empty, num = int(empty.sum()), len(empty)
    fit = readings.best_fit(counts)
    least = max(min(len(chosen) / 2, MIN_OBJECTS), _MIN_SHARE * len(chosen))
    some = None
    if fit is None or fit.more < least:
        fit = some = readings.partial_fit(counts, max(MIN_OBJECTS, _SOME_EMPTY * len(chosen)))
    if fit is not None:
        name = fit.reading
        if name in (readings.WIDTH_LENGTH, readings.QUARTER_TURN):  # the same boxes
            width, length = table.objects.dimensions[chosen[fit.rows], 1:].T
            wide = np.count_nonzero(width > length) > len(width) / 2
            name = readings.WIDTH_LENGTH if wide else readings.QUARTER_TURN
        got = f"what looks like {name}: read so, {fit.more} of {fit.num} objects hold more points, "
        got += f"{fit.fewer} fewer; as read, {num_empty} of {num} hold none"
        if some is not None:
            got += (
                f"; so some of the labels, as in {frame_name(frames, table, chosen[fit.rows[0]])}"
            )
        remedy = remedy_of(name, frames[0].lidar_only)
        problem = Problem(folder, None, "boxes around the points of the objects", got, remedy)
        is_error = fit.more >= (MIN_OBJECTS if some is None else _MAX_WRONG * fit.num)
        return [(is_error, problem)]
    if share > _MANY_EMPTY:
        lost = [int(i) for i in np.unique(table.frame) if empty[table.frame == i].all()]
        got = f"{num_empty} of {num} objects without a point"
        if lost:
            got += f", {len(lost)} frames with no other (first {frames[lost[0]].frame_id})"
        remedy = "check frame of reference, calibration and which cloud each label file belongs to"
        problem = Problem(folder, None, "boxes around the points of the objects", got, remedy)
        return [(share > 0.5 and num_empty >= 5, problem)]
    return []


def _sideways_problem(sideways: list[KittiFrame], num: int, folder: Path) -> Problem:
    """The calibration's camera lies on its side."""
    got = f"{SIDEWAYS_CAMERA}, in {len(sideways)} of {num} frames"
    remedy = (
        "restore the calibration; if there is no camera and labels are in the LiDAR frame, give "
        "--no-calibration"
    )
    expected = "a calibration to KITTI's camera (x right, y down, z forward)"
    file = folder.parent / "calib" / f"{sideways[0].frame_id}.txt"
    return Problem(file, None, expected, got, remedy)


def _sample(table: LabelTable) -> NDArray[np.int64]:
    """Rows of some objects of every class, spread over the data set."""
    rows = [np.flatnonzero(table.objects.names == name) for name in np.unique(table.objects.names)]
    spread = [np.linspace(0, len(of_class) - 1, min(_SAMPLE, len(of_class))) for of_class in rows]
    chosen = [of_class[at.astype(np.int64)] for of_class, at in zip(rows, spread, strict=True)]
    return np.sort(np.concatenate(chosen))


def _by_frame(
    table: LabelTable, frames: list[KittiFrame], chosen: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.bool_], NDArray[np.float64]]]:
    """Frames of the chosen objects: index, which of its objects are chosen, and their boxes."""
    for index in np.unique(table.frame[chosen]).tolist():
        is_chosen = np.isin(np.flatnonzero(table.frame == index), chosen)
        boxes = frames[index].boxes[frames[index].is_object][is_chosen]
        yield index, is_chosen, boxes.astype(np.float64)


def _near_counts(
    table: LabelTable,
    frames: list[KittiFrame],
    chosen: NDArray[np.int64],
    read_cloud: ReadCloud,
) -> dict[str, NDArray[np.int64]]:
    """Points of the chosen objects in each of the near readings."""
    parts = [
        readings.count_near(read_cloud(frames[index].frame_id), boxes, frames[index].box_origin)
        for index, _, boxes in _by_frame(table, frames, chosen)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _far_counts(
    table: LabelTable,
    frames: list[KittiFrame],
    chosen: NDArray[np.int64],
    read_cloud: ReadCloud,
) -> dict[str, NDArray[np.int64]]:
    """Points of the chosen objects in each of the far readings."""
    counts: dict[str, list[NDArray[np.int64]]] = {}
    names = [frame.frame_id for frame in frames]
    by_id = np.array(sorted(range(len(names)), key=lambda i: (len(names[i]), names[i])))
    offsets = []
    for index, is_chosen, boxes in _by_frame(table, frames, chosen):
        points = read_cloud(frames[index].frame_id)
        offsets.append(readings.height_offset(points, boxes))
        in_frame: dict[str, NDArray[np.int64]] = {}
        for name, read in readings.far_readings(frames[index], is_chosen, boxes):
            num = readings.count_points(points, read)
            in_frame[name] = np.maximum(in_frame[name], num) if name in in_frame else num
        place = int(np.flatnonzero(by_id == index)[0])
        for name, step in ((readings.PREVIOUS_FRAME, -1), (readings.NEXT_FRAME, 1)):
            cloud = read_cloud(frames[by_id[(place + step) % len(frames)]].frame_id)
            in_frame[name] = readings.count_points(cloud, boxes)
        for name, num in in_frame.items():
            counts.setdefault(name, []).append(num)
    if np.isfinite(offsets).any():
        offset = float(np.nanmedian(offsets))
        shifted = [
            readings.count_points(
                read_cloud(frames[index].frame_id), boxes + np.array([0, 0, offset, 0, 0, 0, 0])
            )
            for index, _, boxes in _by_frame(table, frames, chosen)
        ]
        side = "low" if offset > 0 else "high"
        counts[f"boxes {abs(offset):.2f} m too {side}"] = shifted
    return {name: np.concatenate(parts) for name, parts in counts.items()}
