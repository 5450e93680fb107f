"""What is wrong with labels by their numbers alone, over all frames of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ebm3d.datasets.frame_files import KittiFrame
from ebm3d.datasets.kitti_difficulty import has_2d_box
from ebm3d.datasets.label_table import LabelTable
from ebm3d.datasets.problems import Problem

Finding = tuple[bool, Problem]  # whether it makes results wrong
MIN_OBJECTS = 3  # that speak for a finding; fewer only warn
_FREQUENT = 0.1  # share of a class in the objects of validation frames
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
_MAX_SIZE_RATIO = 1.6  # to the typical size
_UNITS = {"feet": 1 / 0.3048, "inches": 1 / 0.0254, "centimeters": 100.0, "millimeters": 1000.0}
_EXTENTS = {"half extents, center to face": 0.5, "twice the extents": 2.0}
_SIZE_TOLERANCE = 1.35


def check_angles(table: LabelTable, frames: list[KittiFrame], folder: Path) -> list[Finding]:
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
    names = ", ".join(np.unique(table.objects.names[beyond]))
    got = f"{beyond.sum()} of {len(angles)} ({names}) beyond 2 pi, up to {value:.6g}"
    got += f" in {frame_name(frames, table, row)}"
    if angles[row] > 4.5 * np.pi and np.median(angles[beyond]) < 400:
        got, remedy = f"{got}: they look like degrees", "multiply them by pi / 180"
    else:
        remedy = "write the headings in radians, within [-pi, pi]"
    is_error = bool(beyond.mean() > 0.5 or angles[row] > 4.5 * np.pi)
    return [(is_error, Problem(folder, None, "headings in radians", got, remedy))]


def check_units(table: LabelTable, folder: Path) -> list[Finding]:
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
    is_enough = bool(is_known.sum() >= MIN_OBJECTS)
    factors = _UNITS | _EXTENTS
    unit = min(factors, key=lambda name: abs(np.log(ratio / factors[name])))
    got, is_error = f"{ratio:.3g} times the sizes of KITTI's classes", False
    if abs(np.log(ratio / factors[unit])) > np.log(_SIZE_TOLERANCE):
        remedy = "write meters, or name the objects by the classes of their size"
    else:
        got, remedy = f"{got}: they look like {unit}", "write sizes and locations in meters"
        is_error = unit in _UNITS and (is_enough or ratio > 10)
    if not is_enough and not is_error:
        return []
    return [(is_error, Problem(folder, None, "sizes in meters", got, remedy))]


def check_widths(table: LabelTable, frames: list[KittiFrame], folder: Path) -> list[Finding]:
    """Boxes that fit, and are wider than long: none of KITTI's 34,888 vehicles is."""
    names = table.objects.names
    is_long = np.isin(names, _LONG_CLASSES)
    _, width, length = table.objects.dimensions.T
    wide = np.flatnonzero(is_long & (width > length))
    if len(wide) < min(MIN_OBJECTS, is_long.sum() / 2) or not len(wide):
        return []
    expected = f"{', '.join(np.unique(names[wide]))} longer than wide"
    got = f"a width beyond the length in {len(wide)} of {is_long.sum()}"
    got += f", first in {frame_name(frames, table, wide[0])}"
    remedy = "exchange width and length; if the boxes fit, turn the headings by 90 degrees too"
    return [(False, Problem(folder, None, expected, got, remedy))]


def check_doubles(table: LabelTable, frames: list[KittiFrame], folder: Path) -> list[Finding]:
    """Objects that are written twice."""
    boxes = np.column_stack([table.frame, table.objects.to_table(False)[:, 7:]])
    _, first = np.unique(boxes, axis=0, return_index=True)
    if len(first) == len(boxes):
        return []
    row = int(np.setdiff1d(np.arange(len(boxes)), first)[0])
    got = f"{len(boxes) - len(first)} of {len(boxes)} equal to another of their frame"
    got += f", first in {frame_name(frames, table, row)}"
    return [(False, Problem(folder, None, "every object once", got, "remove the second lines"))]


def check_empty_classes(table: LabelTable, folder: Path) -> list[Finding]:
    """Classes most of whose objects hold no point, where the others do."""
    shares = {
        name: f"{figures.num_empty} of {figures.number} {name}"
        for name, figures in table.summaries().items()
        if figures.number >= MIN_OBJECTS and 2 * figures.num_empty > figures.number
    }
    if not shares:
        return []
    got = f"{', '.join(shares.values())} without a point"
    remedy = "check their boxes by eye: they may be off by more than their width"
    return [(False, Problem(folder, None, "boxes around points in every class", got, remedy))]


def check_2d_boxes(table: LabelTable, lidar_only: bool, folder: Path) -> list[Finding]:
    """Labels that the official protocol cannot place, and objects that sampling leaves out."""
    has_box, num = has_2d_box(table.objects), len(table.objects)
    without = int(np.count_nonzero(~has_box))
    findings = []
    if without and not lidar_only:
        got = f"{without} of {num} without"
        left, top, right, bottom = table.objects.bbox[~has_box].T
        ends_first = (right > 0) & (bottom > 0) & ((right < left) | (bottom < top))
        if ends_first.mean() > 0.5:
            got += ": right < left or bottom < top, as of left, top, width, height"
        remedy = (
            "nothing, if there are no images: then evaluation is in 3D and BEV; KITTI's "
            "difficulties need the height of the 2D box, and its protocol ignores these objects"
        )
        if ends_first.mean() > 0.5:
            remedy = "write left, top, right, bottom in pixels"
        findings.append((False, Problem(folder, None, "2D boxes", got, remedy)))
    if num >= MIN_OBJECTS and (table.levels < 0).all():
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


def frame_name(frames: list[KittiFrame], table: LabelTable, row: int) -> str:
    """The frame of an object."""
    return f"frame {frames[table.frame[row]].frame_id}"
