"""Whether the labels of a data set fit its clouds: figures per class, and what is wrong.

Judged over all frames, never by one object: KITTI has objects without points, and more than half of
the objects of a sparse radar may have none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ebm3d.datasets import label_readings as readings
from ebm3d.datasets.frame_files import (
    MAX_CAMERA_TILT,
    SIDEWAYS_CAMERA,
    KittiFrame,
    camera_tilt,
)
from ebm3d.datasets.kitti_difficulty import has_2d_box
from ebm3d.datasets.label_readings import ReadCloud
from ebm3d.datasets.label_table import LabelTable
from ebm3d.datasets.problems import Problem

_MIN_OBJECTS = 3  # that speak for a finding; fewer only warn
_MIN_SHARE = 0.15  # of the objects whose other readings are tried
_MANY_EMPTY = 0.25  # share of objects without points that is said; from a half on it is refused
_FREQUENT = 0.1  # share of a class in the objects of validation frames
_SOME_EMPTY = 0.1  # share from which other frames of reference are tried
# Cube root of the mean volume of KITTI's labels, meters.
_TYPICAL_SIZE = {
    "Pedestrian": 0.99,
    "Cyclist": 1.22,
    "Car": 2.13,
    "Van": 2.77,
    "Truck": 4.39,
    "Person_sitting": 0.87,
    "Tram": 5.25,
}
_LONG_CLASSES = ("Cyclist", "Car", "Van", "Truck", "Tram")  # longer than wide
_MAX_SIZE_RATIO = 2.5  # to the typical size
_UNITS = {"feet": 1 / 0.3048, "inches": 1 / 0.0254, "centimeters": 100.0, "millimeters": 1000.0}
_UNIT_TOLERANCE = 1.35


def check_labels(
    frames: Mapping[str, KittiFrame],
    table: LabelTable,
    folder: Path,
    read_cloud: ReadCloud,
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
    findings = [*_check_angles(table, listed, folder), *_check_units(table, folder)]
    if sideways:
        findings.append((True, _sideways_problem(sideways, len(listed), folder)))
    if not findings or sideways:
        findings += _check_readings(table, listed, folder, read_cloud, far=bool(sideways))
    if not findings:
        findings += _check_widths(table, folder)
    if not findings and len(table.objects) < _MIN_OBJECTS:
        expected, got = f"{_MIN_OBJECTS} objects to judge the labels by", str(len(table.objects))
        findings.append((False, Problem(folder, None, expected, got, "check them by eye")))
    findings += _check_2d_boxes(table, listed[0].lidar_only, folder)
    errors = [problem for is_error, problem in findings if is_error]
    return errors, [problem for is_error, problem in findings if not is_error]


_Finding = tuple[bool, Problem]  # whether it makes results wrong


def _check_angles(table: LabelTable, frames: list[KittiFrame], folder: Path) -> list[_Finding]:
    """Headings that are no radians."""
    angles = np.abs(table.objects.rotation_y)
    # The yaw of the LiDAR frame is a quarter turn off.
    beyond = angles > (2.5 if frames[0].lidar_only else 2) * np.pi + 0.01
    if not beyond.any():
        return []
    row = int(np.argmax(angles))
    value = table.objects.rotation_y[row]
    if frames[0].lidar_only:
        value = -value - np.pi / 2
    num = int(beyond.sum())
    got = f"{num} of {len(angles)} beyond 2 pi, up to {value:.6g} in {_name(frames, table, row)}"
    if angles[row] > 4.5 * np.pi and np.median(angles[beyond]) < 400:
        got, remedy = f"{got}: they look like degrees", "multiply them by pi / 180"
    else:
        remedy = "write the headings in radians, within [-pi, pi]"
    is_error = bool(beyond.mean() > 0.5 or angles[row] > 4.5 * np.pi)
    return [(is_error, Problem(folder, None, "headings in radians", got, remedy))]


def _check_units(table: LabelTable, folder: Path) -> list[_Finding]:
    """Sizes that no road user has."""
    names = table.objects.names
    is_known = np.isin(names, list(_TYPICAL_SIZE))
    if not is_known.any():
        return []
    typical = np.array([_TYPICAL_SIZE[name] for name in names[is_known].tolist()])
    size = np.cbrt(table.objects.dimensions[is_known].prod(axis=1))
    ratio = float(np.median(size / typical))
    if 1 / _MAX_SIZE_RATIO < ratio < _MAX_SIZE_RATIO:
        return []
    units = [u for u, f in _UNITS.items() if abs(np.log(ratio / f)) < np.log(_UNIT_TOLERANCE)]
    got = f"{ratio:.3g} times the sizes of KITTI's classes"
    if not units:
        remedy = "write meters, or name the objects by the classes of their size"
        return [(False, Problem(folder, None, "sizes in meters", got, remedy))]
    got, remedy = f"{got}: they look like {units[0]}", "write sizes and locations in meters"
    is_error = bool(is_known.sum() >= _MIN_OBJECTS or ratio > 10)
    return [(is_error, Problem(folder, None, "sizes in meters", got, remedy))]


def _check_widths(table: LabelTable, folder: Path) -> list[_Finding]:
    """Boxes that fit, and are wider than long."""
    names = table.objects.names
    is_long = np.isin(names, _LONG_CLASSES)
    _, width, length = table.objects.dimensions[is_long].T
    wide = int(np.count_nonzero(width > length))
    if wide <= is_long.sum() / 2:
        return []
    expected = f"{', '.join(sorted(set(names[is_long].tolist())))} longer than wide"
    got = f"a width beyond the length in {wide} of {len(width)}"
    remedy = "exchange width and length; if the boxes fit, turn the headings by 90 degrees too"
    return [(False, Problem(folder, None, expected, got, remedy))]


def _check_readings(
    table: LabelTable,
    frames: list[KittiFrame],
    folder: Path,
    read_cloud: ReadCloud,
    far: bool,
) -> list[_Finding]:
    """Labels that fit the clouds better when read in another way, or not at all."""
    empty = table.num_points == 0
    share = float(empty.mean())
    chosen = readings.sample_rows(table)
    counts = readings.near_counts(table, frames, chosen, read_cloud)
    if far or share > _SOME_EMPTY:
        counts |= readings.far_counts(table, frames, chosen, read_cloud)
    fit = readings.best_fit(counts)
    num_empty, num = int(empty.sum()), len(empty)
    if fit is not None and fit.more >= max(min(fit.num / 2, _MIN_OBJECTS), _MIN_SHARE * fit.num):
        name = fit.reading
        if name in (readings.WIDTH_LENGTH, readings.QUARTER_TURN):  # the same boxes
            width, length = table.objects.dimensions[chosen, 1:].T
            wide = np.count_nonzero(width > length) > len(chosen) / 2
            name = readings.WIDTH_LENGTH if wide else readings.QUARTER_TURN
        got = f"what looks like {name}: read so, {fit.more} of {fit.num} objects hold more points, "
        got += f"{fit.fewer} fewer; as read, {num_empty} of {num} hold none"
        remedy = readings.remedy_of(name, frames[0].lidar_only)
        problem = Problem(folder, None, "boxes around the points of the objects", got, remedy)
        return [(fit.more >= _MIN_OBJECTS, problem)]
    if share > _MANY_EMPTY:
        lost = [int(i) for i in np.unique(table.frame) if empty[table.frame == i].all()]
        got = f"{num_empty} of {num} objects without a point"
        if lost:
            got += f", {len(lost)} frames with no other (first {frames[lost[0]].frame_id})"
        remedy = "check frame of reference, calibration and which cloud each label file belongs to"
        problem = Problem(folder, None, "boxes around the points of the objects", got, remedy)
        return [(share > 0.5 and num_empty >= 5, problem)]
    return []


def _check_2d_boxes(table: LabelTable, lidar_only: bool, folder: Path) -> list[_Finding]:
    """Labels that the official protocol cannot place, and objects that sampling leaves out."""
    has_box, num = has_2d_box(table.objects), len(table.objects)
    without = int(np.count_nonzero(~has_box))
    findings = []
    if without and not lidar_only:
        got = f"{without} of {num} without"
        remedy = (
            "nothing, if there are no images: then evaluation is in 3D and BEV; KITTI's "
            "difficulties need the height of the 2D box, and its protocol ignores these objects"
        )
        findings.append((False, Problem(folder, None, "2D boxes", got, remedy)))
    if num >= _MIN_OBJECTS and (table.levels < 0).all():
        got = f"none of {num}; the sampling of objects leaves out all (filter_by_difficulty)"
        remedy = "write 2D boxes in pixels, occlusion 0 to 3, truncation 0 to 1; or all of them 0"
        expected = "objects that are easy, moderate or hard"
        findings.append((False, Problem(folder, None, expected, got, remedy)))
    return findings


def missing_classes(
    folder: Path, train: Sequence[KittiFrame], val: Sequence[KittiFrame]
) -> list[Problem]:
    """Say which classes are frequent in validation frames and absent from training frames."""
    held, wanted = (
        Counter(n for f in s for n in f.objects.names[f.is_object]) for s in (train, val)
    )
    got = ", ".join(f"{name} ({num})" for name, num in held.most_common()) or "no object"
    remedy = "exchange frames of the lists, or correct the class names"
    return [
        Problem(folder, None, f"a {name} in the training frames", got, remedy)
        for name, num in wanted.items()
        if not held[name] and num > _FREQUENT * wanted.total()
    ]


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


def _name(frames: list[KittiFrame], table: LabelTable, row: int) -> str:
    """The frame of an object."""
    return f"frame {frames[table.frame[row]].frame_id}"
