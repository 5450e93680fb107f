"""Other ways to read labels, the points that boxes hold then, and which fits the clouds better.

N objects, boxes in the LiDAR frame, ``z`` at the bottom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.datasets.frame_files import KittiFrame
from ebm3d.datasets.kitti_calibration import FloatArray, boxes_from_camera
from ebm3d.datasets.label_table import LabelTable
from ebm3d.datasets.lidar_labels import AXES_ONLY

IntArray = NDArray[np.int64]
ReadCloud = Callable[[str], NDArray[np.float32]]
_SAMPLE = 16  # objects of each class whose other readings are tried
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


@dataclass(frozen=True)
class Fit:
    """How a reading compares: objects of ``num`` that hold more, and fewer, points than as read."""

    reading: str
    more: int
    fewer: int
    num: int


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


def sample_rows(table: LabelTable) -> IntArray:
    """Rows of some objects of every class, spread over the data set."""
    rows = [np.flatnonzero(table.objects.names == name) for name in np.unique(table.objects.names)]
    spread = [np.linspace(0, len(of_class) - 1, min(_SAMPLE, len(of_class))) for of_class in rows]
    chosen = [of_class[at.astype(np.int64)] for of_class, at in zip(rows, spread, strict=True)]
    return np.sort(np.concatenate(chosen))


def _by_frame(
    table: LabelTable, frames: list[KittiFrame], chosen: IntArray
) -> Iterator[tuple[int, NDArray[np.bool_], NDArray[np.float64]]]:
    """Frames of the chosen objects: index, which of its objects are chosen, and their boxes."""
    for index in np.unique(table.frame[chosen]).tolist():
        is_chosen = np.isin(np.flatnonzero(table.frame == index), chosen)
        boxes = frames[index].boxes[frames[index].is_object][is_chosen]
        yield index, is_chosen, boxes.astype(np.float64)


def near_counts(
    table: LabelTable,
    frames: list[KittiFrame],
    chosen: IntArray,
    read_cloud: ReadCloud,
) -> dict[str, IntArray]:
    """Points of the chosen objects in each of the near readings."""
    parts = [
        count_near(read_cloud(frames[index].frame_id), boxes, frames[index].box_origin)
        for index, _, boxes in _by_frame(table, frames, chosen)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def far_counts(
    table: LabelTable,
    frames: list[KittiFrame],
    chosen: IntArray,
    read_cloud: ReadCloud,
) -> dict[str, IntArray]:
    """Points of the chosen objects in each of the far readings."""
    counts: dict[str, list[IntArray]] = {}
    by_id = np.argsort([int(frame.frame_id) for frame in frames])
    offsets = []
    for index, is_chosen, boxes in _by_frame(table, frames, chosen):
        points = read_cloud(frames[index].frame_id)
        offsets.append(height_offset(points, boxes))
        in_frame: dict[str, IntArray] = {}
        for name, read in far_readings(frames[index], is_chosen, boxes):
            num = count_points(points, read)
            in_frame[name] = np.maximum(in_frame[name], num) if name in in_frame else num
        place = int(np.flatnonzero(by_id == index)[0])
        for name, step in ((PREVIOUS_FRAME, -1), (NEXT_FRAME, 1)):
            cloud = read_cloud(frames[by_id[(place + step) % len(frames)]].frame_id)
            in_frame[name] = count_points(cloud, boxes)
        for name, num in in_frame.items():
            counts.setdefault(name, []).append(num)
    if np.isfinite(offsets).any():
        offset = float(np.nanmedian(offsets))
        shifted = [
            count_points(
                read_cloud(frames[index].frame_id), boxes + np.array([0, 0, offset, 0, 0, 0, 0])
            )
            for index, _, boxes in _by_frame(table, frames, chosen)
        ]
        side = "low" if offset > 0 else "high"
        counts[f"boxes {abs(offset):.2f} m too {side}"] = shifted
    return {name: np.concatenate(parts) for name, parts in counts.items()}


def best_fit(counts: Mapping[str, IntArray]) -> Fit | None:
    """The reading under which most objects hold more points than as read, if there is one.

    Points count as more where they exceed those as read by half and by three; a reading fits if
    objects with more are five times those with fewer (on KITTI's labels, none does), and a far one
    if they are half of all.
    """
    as_read = counts[AS_READ]
    fits: list[tuple[int, float, Fit]] = []
    for name, read in counts.items():
        more = int(np.count_nonzero(read > 1.5 * as_read + 3))
        fewer = int(np.count_nonzero(as_read > 1.5 * read + 3))
        if more > 5 * fewer and (name in _NEAR or 2 * more >= len(read)):
            fit = Fit(name, more, fewer, len(read))
            fits.append((more - fewer, float(np.log1p(read).sum()), fit))
    return max(fits, key=lambda fit: fit[:2])[2] if fits else None


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
