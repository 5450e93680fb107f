"""Labels in the LiDAR frame, of data without cameras and calibration.

One object per line: ``x y z dx dy dz yaw class``, as custom data of OpenPCDet and MMDetection3D, or
the 15 columns of KITTI with the location in LiDAR axes and, last, the yaw, as labelCloud writes
them (``kitti_untransformed``). Meters, radians; yaw 0 along x, counter-clockwise.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ebm3d.datasets.kitti_calibration import KittiCalibration, boxes_to_camera
from ebm3d.datasets.kitti_labels import DONT_CARE, LABEL_COLUMNS, KittiObjects
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.datasets.text import is_number, read_lines, split_words

ORIGINS = ("center", "bottom")
_FORMAT = "x y z dx dy dz yaw class"
_NUM_COLUMNS = 8
_PROJECTION = np.eye(3, 4)
# KITTI's axes (x right, y down, z forward) at the LiDAR's place: what stands in for a camera.
AXES_ONLY = KittiCalibration(
    *(_PROJECTION,) * 4,
    R0_rect=np.eye(3),
    Tr_velo_to_cam=np.array([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]),
)


def read_lidar_labels(
    path: str | Path, origin: str = "center", known_names: Collection[str] | None = None
) -> KittiObjects:
    """Read one label file; an empty file is a frame without objects.

    Args:
        path: the text file.
        origin: where ``z`` is: "center" or "bottom" of the box.
        known_names: class names that may occur; by default any.

    Returns:
        The objects in the camera frame of :data:`AXES_ONLY`, without 2D boxes.

    Raises:
        DataError: with every defect of the file.
    """
    path = Path(path)
    names: list[str] = []
    rows: list[list[float]] = []
    problems: list[Problem] = []
    lines = read_lines(path, "a label file", "write one; an empty file says that it has no objects")
    for number, line in enumerate(lines, start=1):
        try:
            if words := split_words(line, path, number):
                name, row = _parse_line(path, number, words, known_names)
                names.append(name)
                rows.append(row)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    table = np.array(rows, dtype=np.float64).reshape(-1, 9)
    boxes = table[:, :7]
    if origin == "center":
        boxes = boxes - np.outer(boxes[:, 5], [0, 0, 0.5, 0, 0, 0, 0])
    location, dimensions, wrapped = boxes_to_camera(boxes, AXES_ONLY)
    angle = -boxes[:, 6] - np.pi / 2
    return KittiObjects(
        names=np.array(names, dtype=np.str_),
        truncated=table[:, 7],
        occluded=table[:, 8].astype(np.int64),
        alpha=np.full(len(boxes), -10.0),  # KITTI's number for unknown
        bbox=np.zeros((len(boxes), 4)),
        dimensions=dimensions,
        location=location,
        # Beyond two turns as it is: degrees are told by their numbers.
        rotation_y=np.where(np.abs(boxes[:, 6]) <= 2 * np.pi, wrapped, angle),
    )


def _parse_line(
    path: Path, number: int, words: list[str], known_names: Collection[str] | None
) -> tuple[str, list[float]]:
    """Name, and box, truncation and occlusion, of one line; raises with its defects."""
    if len(words) not in (_NUM_COLUMNS, LABEL_COLUMNS):
        expected = f"{_NUM_COLUMNS} columns ({_FORMAT}) or KITTI's {LABEL_COLUMNS}"
        remedy = f"write the line as: {_FORMAT}"
        if len(words) > LABEL_COLUMNS or not is_number(words[0]):
            remedy += " (no spaces in class names, no score)"
        raise DataError([Problem(path, number, expected, f"{len(words)} columns", remedy)])
    in_kitti_order = len(words) == LABEL_COLUMNS
    if in_kitti_order or not is_number(words[0]):
        name, numbers = words[0], words[1:]
    else:
        name, numbers = words[-1], words[:-1]
    values = [float(word) if is_number(word) else math.nan for word in numbers]
    if not np.isfinite(values).all():
        got = repr(numbers[int(np.argmin(np.isfinite(values)))])
        remedy = f"write the line as: {_FORMAT}, or remove the object"
        raise DataError([Problem(path, number, "finite numbers beside the class", got, remedy)])
    if in_kitti_order:
        height, width, length = values[7:10]
        box = [*values[10:13], length, width, height, values[13]]
    else:
        box = values
    problems: list[Problem] = []
    if min(box[3:6]) <= 0 and name != DONT_CARE:
        got = f"{name} of length {box[3]}, width {box[4]}, height {box[5]}"
        remedy = f"correct the box, remove the object, or name it {DONT_CARE}"
        problems.append(Problem(path, number, "a box with positive sizes", got, remedy))
    if known_names is not None and name not in known_names:
        remedy = f"give the class the name of the nearest of these, or {DONT_CARE}"
        expected = f"one of {', '.join(known_names)}"
        problems.append(Problem(path, number, expected, name, remedy))
    if problems:
        raise DataError(problems)
    return name, [*box, *(values[:2] if in_kitti_order else (0.0, 0.0))]
