"""Whether boxes lie where the clouds have points, and what looks wrong if they do not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ebm3d.datasets import label_readings as readings
from ebm3d.datasets.frame_files import KittiFrame
from ebm3d.datasets.kitti_calibration import KittiCalibration, boxes_to_camera
from ebm3d.datasets.kitti_labels import KittiObjects
from ebm3d.datasets.label_checks import check_readings
from ebm3d.datasets.label_table import LabelTable
from ebm3d.datasets.label_values import check_angles
from ebm3d.datasets.lidar_labels import AXES_ONLY
from ebm3d.datasets.problems import Problem
from ebm3d.datasets.results.clouds import FrameClouds
from ebm3d.datasets.results.frames import FrameResults, ResultFile

_NUM_BLOCKS, _BLOCK = 8, 4  # of frames; those of a block are neighbors


def doubtful_frame(results: ResultFile, clouds: FrameClouds) -> list[Problem]:
    """Say what is wrong with the frame of reference of boxes, if anything looks so.

    Of up to 32 frames with boxes and clouds: headings in degrees; more than a quarter of the boxes
    without a point; or another reading (z at the center for the bottom, width and length exchanged,
    camera axes, the frame before or after, other units) under which far more of them hold points.

    Returns:
        Nothing, or what the boxes look like with the share that holds no points.
    """
    missing = set(clouds.differences(frame.frame_id for frame in results.frames)[0])
    found = _some([f for f in results.frames if len(f) and f.frame_id not in missing])
    if not found:
        return []
    read = lru_cache(maxsize=_NUM_BLOCKS * _BLOCK)(clouds.read)
    frames = []
    for frame in found:
        num_points = readings.count_points(read(frame.frame_id), frame.boxes[:, :7])
        frames.append(_as_labels(frame, results.calibration_of(frame.frame_id), num_points))
    table = LabelTable.of_frames(frames)
    findings = check_angles(table, frames, results.path)
    if not findings:
        findings = check_readings(table, frames, results.path, read, remedy_of=_remedy_of)
    return [problem for _, problem in findings]


def _some(frames: Sequence[FrameResults]) -> list[FrameResults]:
    """Blocks of neighbors, spread over the frames."""
    ordered = sorted(frames, key=lambda frame: (len(frame.frame_id), frame.frame_id))
    if len(ordered) <= _NUM_BLOCKS * _BLOCK:
        return ordered
    starts = np.linspace(0, len(ordered) - _BLOCK, _NUM_BLOCKS).astype(np.int64)
    return [ordered[start + i] for start in starts.tolist() for i in range(_BLOCK)]


def _as_labels(
    frame: FrameResults, calibration: KittiCalibration | None, num_points: readings.IntArray
) -> KittiFrame:
    """Results in the form that labels are checked in."""
    boxes, number = frame.boxes[:, :7], len(frame)
    location, dimensions, angle = boxes_to_camera(boxes, calibration or AXES_ONLY)
    is_turned = np.abs(boxes[:, 6]) > 2 * np.pi
    objects = KittiObjects(
        names=frame.names,
        truncated=np.zeros(number),
        occluded=np.zeros(number, dtype=np.int64),
        alpha=np.full(number, -10.0),
        bbox=np.zeros((number, 4)),
        dimensions=dimensions,
        location=location,
        rotation_y=np.where(is_turned, -boxes[:, 6] - np.pi / 2, angle),
    )
    return KittiFrame(
        frame_id=frame.frame_id,
        calibration=calibration or AXES_ONLY,
        objects=objects,
        boxes=boxes.astype(np.float32),
        num_points=num_points,
        image_size=None,
        plane=None,
        intensities=(0.0, 0.0),
        box_origin="center" if calibration is None else None,
    )


def _remedy_of(name: str, lidar_only: bool) -> str:
    """What to do about boxes that fit when read in another way, without options of labels."""
    if name.startswith("boxes ") and lidar_only:
        return "write z where the format has it: OpenPCDet at the center, mmdet3d at the bottom"
    if name.startswith(readings.LIDAR_FRAME):
        return "transform location and heading to the camera frame"
    if name == readings.CAMERA_FRAME and lidar_only:
        return "transform the boxes to the LiDAR frame"
    return readings.remedy_of(name, lidar_only)
