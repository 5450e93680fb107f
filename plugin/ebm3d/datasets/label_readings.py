"""Other ways to read the labels of a frame, and which of them fits the cloud better.

N objects of one frame, boxes in the LiDAR frame, ``z`` at the bottom.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.datasets.frame_files import KittiFrame
from ebm3d.datasets.kitti_calibration import FloatArray, boxes_from_camera
from ebm3d.datasets.lidar_labels import AXES_ONLY

IntArray = NDArray[np.int64]
AS_READ = "as read"
WIDTH_LENGTH = "width and length exchanged"
QUARTER_TURN = "headings off by 90 degrees"
LOWER, HIGHER = "boxes half their height too high", "boxes half their height too low"
NEXT_FRAME, PREVIOUS_FRAME = "the labels of the frame after", "the labels of the frame before"
LIDAR_FRAME = "locations in the LiDAR frame, z at the "  # bottom, center
CAMERA_FRAME = "locations in camera axes (x right, y down, z forward)"
UNITS = {"centimeters": 0.01, "millimeters": 0.001, "feet": 0.3048}
_SIZES = {  # which of length, width and height, as read, are the length, width and height
    WIDTH_LENGTH: [1, 0, 2],
    "height and length exchanged": [2, 1, 0],
    "height and width exchanged": [0, 2, 1],
    "width, height, length in place of length, width, height": [2, 0, 1],
    "height, length, width in place of length, width, height": [1, 2, 0],
}
_HEADINGS = {  # sign and offset of the yaw
    QUARTER_TURN: (1, np.pi / 2),
    "headings of the other sense of rotation": (-1, 0.0),
    "headings of the other sensor's axes (rotation_y = -yaw - pi/2)": (-1, -np.pi / 2),
}
_AXES = {  # x and y of the LiDAR frame, signs and order; sense of rotation and offset of the yaw
    "a frame whose y axis points right": ((0, 1), (1, -1), -1, 0.0),
    "a frame turned by 90 degrees (x right, y forward)": ((1, 0), (1, -1), 1, -np.pi / 2),
    "a frame turned by -90 degrees (x left, y back)": ((1, 0), (-1, 1), 1, np.pi / 2),
    "a frame turned by 180 degrees (x back, y right)": ((0, 1), (-1, -1), 1, np.pi),
}
SIZE_READINGS, HEADING_READINGS, AXES_READINGS = tuple(_SIZES), tuple(_HEADINGS), tuple(_AXES)
_NEAR = (*SIZE_READINGS, *HEADING_READINGS, LOWER, HIGHER)


@dataclass(frozen=True, eq=False)
class Fit:
    """How a reading compares: the ``rows`` that hold more points than as read, of ``num``."""

    reading: str
    rows: IntArray
    fewer: int
    num: int

    @property
    def more(self) -> int:
        """Objects that hold more points."""
        return len(self.rows)


def near_readings(boxes: FloatArray, origin: str | None = None) -> dict[str, FloatArray]:
    """Readings ``(N, 7)`` of sizes, headings and the origin, about the same x and y.

    ``origin`` is "center" where labels say the center: another height keeps it.
    """
    readings = {AS_READ: boxes}
    for name, order in _SIZES.items():
        read = np.column_stack([boxes[:, :3], boxes[:, 3:6][:, order], boxes[:, 6]])
        read[:, 2] += (boxes[:, 5] - read[:, 5]) / 2 * (origin == "center")
        readings[name] = read
    for name, (sign, offset) in _HEADINGS.items():
        readings[name] = np.column_stack([boxes[:, :6], sign * boxes[:, 6] + offset])
    for name, sign in ((LOWER, -1), (HIGHER, 1)):
        readings[name] = boxes + np.outer(boxes[:, 5], [0, 0, sign / 2, 0, 0, 0, 0])
    return readings


def far_readings(
    frame: KittiFrame, which: NDArray[np.bool_], boxes: FloatArray
) -> list[tuple[str, FloatArray]]:
    """Readings ``(N, 7)`` of frame of reference and units; a name may appear twice.

    ``which`` says of which of the frame's objects, DontCare left out, ``boxes`` are as read.
    """
    objects, calibration = frame.objects.select(frame.is_object).select(which), frame.calibration
    location, sizes, angle = objects.location, objects.dimensions, objects.rotation_y
    readings: list[tuple[str, FloatArray]] = []
    if frame.lidar_only:
        at_bottom = boxes_from_camera(boxes[:, :3], sizes, boxes[:, 6], AXES_ONLY)
        at_center = at_bottom + np.outer(sizes[:, 0], [0.5, 0, 0, 0, 0, 0, 0])
        readings += [(CAMERA_FRAME, at_bottom), (CAMERA_FRAME, at_center)]
    else:
        readings.append((CAMERA_FRAME, boxes_from_camera(location, sizes, angle, AXES_ONLY)))
        for origin, shift in (("bottom", 0.0), ("center", 0.5)):
            bottom = location - np.outer(sizes[:, 0], [0, 0, shift])
            for yaw in (angle, boxes[:, 6]):
                read = np.column_stack([bottom, sizes[:, [2, 1, 0]], yaw])
                readings.append((LIDAR_FRAME + origin, read))
    for unit, meters in UNITS.items():
        for scale in (meters, 1.0):
            read = boxes_from_camera(location * meters, sizes * scale, angle, calibration)
            readings.append((f"locations in {unit}", read))
        cloud = np.column_stack([boxes[:, :6] / meters, boxes[:, 6]])
        readings.append((f"a cloud in {unit}", cloud))
    for name, (order, signs, sense, offset) in _AXES.items():
        xy = boxes[:, list(order)] * signs
        readings.append((name, np.column_stack([xy, boxes[:, 2:6], sense * boxes[:, 6] + offset])))
    return readings


def count_points(points: NDArray[np.float32], boxes: FloatArray) -> IntArray:
    """Points in each box, ``(N,)``."""
    return np.count_nonzero(points_in_boxes(points, boxes), axis=0)


def count_near(
    points: NDArray[np.float32], boxes: FloatArray, origin: str | None = None
) -> dict[str, IntArray]:
    """Points in the boxes of each of :func:`near_readings`, ``(N,)``."""
    names, variants = zip(*near_readings(boxes, origin).items(), strict=True)
    x, y, z = np.ascontiguousarray(points[:, :3].T)
    # Whatever the order of the sizes, half of a box's diagonal is as long.
    reach = np.linalg.norm(boxes[:, 3:6], axis=1) / 2
    counts = np.zeros((len(names), len(boxes)), dtype=np.int64)
    for row, ((cx, cy), radius) in enumerate(zip(boxes[:, :2].tolist(), reach, strict=True)):
        near = np.flatnonzero((np.abs(x - cx) <= radius) & (np.abs(y - cy) <= radius))
        # All variants of a box at once: a tenth of the time of points_in_boxes.
        _, _, bottom, dx, dy, dz, yaw = np.stack(variants)[:, row].T[..., None]
        cosine, sine = np.cos(yaw), np.sin(yaw)
        right, up, height = x[near] - cx, y[near] - cy, z[near] - bottom
        within = np.abs(cosine * right + sine * up) <= dx / 2
        within &= np.abs(cosine * up - sine * right) <= dy / 2
        within &= (height >= 0) & (height <= dz)
        counts[:, row] = np.count_nonzero(within, axis=1)
    return dict(zip(names, counts, strict=True))


def height_offset(points: NDArray[np.float32], boxes: FloatArray) -> float:
    """Median height of the lowest point above or below each box over its bottom; NaN for none."""
    columns = boxes.copy()
    columns[:, 2], columns[:, 5] = -100.0, 200.0
    inside = points_in_boxes(points, columns)
    offsets = [
        points[of_box, 2].min() - bottom
        for of_box, bottom in zip(inside.T, boxes[:, 2], strict=True)
        if of_box.any()
    ]
    return float(np.median(offsets)) if offsets else np.nan


def best_fit(counts: Mapping[str, IntArray]) -> Fit | None:
    """The reading under which most objects hold more points than as read, if there is one.

    Points count as more where they exceed those as read by half and by three; a reading fits if
    objects with more are five times those with fewer (on KITTI's labels, none does), and a far one
    if they are half of all.
    """
    return _best(
        counts,
        lambda fit: fit.more > 5 * fit.fewer and (fit.reading in _NEAR or 2 * fit.more >= fit.num),
    )


def partial_fit(counts: Mapping[str, IntArray], least: float) -> Fit | None:
    """The reading under which some objects hold more points, of labels written in two ways.

    They must be ``least`` or more (on KITTI's labels, 3 in a thousand are), and for a far reading
    half of those that hold none as read.
    """
    empty = counts[AS_READ] == 0
    near = {name: read for name, read in counts.items() if name in (AS_READ, *_NEAR)}
    far = {name: np.where(empty, read, counts[AS_READ]) for name, read in counts.items()}
    return _best(near, lambda fit: fit.more >= least) or _best(
        far, lambda fit: fit.more >= max(least, empty.sum() / 2)
    )


def _best(counts: Mapping[str, IntArray], fits: Callable[[Fit], bool]) -> Fit | None:
    """The reading that fits the most objects, if any fits."""
    as_read = counts[AS_READ]
    found: list[tuple[int, float, Fit]] = []
    for name, read in counts.items():
        more = np.flatnonzero(read > 1.5 * as_read + 3)
        fewer = int(np.count_nonzero(as_read > 1.5 * read + 3))
        fit = Fit(name, more, fewer, len(read))
        if fits(fit) and fit.more:
            found.append((fit.more - fewer, float(np.log1p(read).sum()), fit))
    return max(found, key=lambda fit: fit[:2])[2] if found else None


def remedy_of(name: str, lidar_only: bool) -> str:
    """What to do about labels that fit when read in another way."""
    if name in SIZE_READINGS:
        columns = "dx dy dz: length, width, height" if lidar_only else "height, width, length"
        return f"write the sizes in the order {columns}"
    if name in HEADING_READINGS:
        if lidar_only:
            return "write the yaw: 0 along the x axis, counter-clockwise seen from above"
        return "write rotation_y: -yaw - pi/2 of the yaw in the LiDAR frame"
    if name in (LOWER, HIGHER):
        if lidar_only:
            return f"give --box-origin {'center' if name == LOWER else 'bottom'}"
        return "write the location of the center of the bottom face"
    if name.startswith(LIDAR_FRAME):
        origin = name.removeprefix(LIDAR_FRAME)
        remedy = "transform location and heading to the camera frame; or, without cameras, give "
        return f"{remedy}--no-calibration --box-origin {origin}"
    if name == CAMERA_FRAME:
        if lidar_only:
            return "prepare without --no-calibration, or transform the labels to the LiDAR frame"
        return "restore the calibration of the sensors (Tr_velo_to_cam, R0_rect)"
    if name in (NEXT_FRAME, PREVIOUS_FRAME):
        return "give each label file the name of its cloud"
    if name in AXES_READINGS:
        return "bring clouds and labels to one frame: x forward, y left, z up" + (
            "" if lidar_only else "; correct Tr_velo_to_cam"
        )
    return "write meters" if " in " in name else "bring labels and clouds to one origin"
