"""Detections of a LiDAR frame as boxes of the global frame, with attributes by the host's rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ebm3d.datasets.nuscenes.classes import ATTRIBUTES, CLASSES
from ebm3d.datasets.nuscenes.frames import boxes_from_global, global_boxes
from ebm3d.errors import shape_error
from ebm3d.evaluation.nuscenes.boxes import FloatArray, IntArray, NuScenesBoxes

_MOVING_SPEED = 0.2  # m/s
_VEHICLE = ("vehicle.parked", "vehicle.moving")
_CYCLE = ("cycle.without_rider", "cycle.with_rider")
# By class, in rest and in motion.
_ATTRIBUTE_NAMES = {
    "car": _VEHICLE,
    "truck": _VEHICLE,
    "trailer": _VEHICLE,
    "construction_vehicle": _VEHICLE,
    "bus": ("vehicle.stopped", "vehicle.moving"),
    "bicycle": _CYCLE,
    "motorcycle": _CYCLE,
    "pedestrian": ("pedestrian.standing", "pedestrian.moving"),
}


def attributes_by_speed(class_index: ArrayLike, velocity: FloatArray) -> IntArray:
    """Choose an attribute by class and speed, as mmdet3d's formatter does, ``(N,)``.

    Args:
        class_index: in ``CLASSES``, ``(N,)``.
        velocity: global frame, ``(N, 2)``, m/s; unknown (NaN) counts as rest.
    """
    table = np.full((len(CLASSES), 2), -1)
    for name, attributes in _ATTRIBUTE_NAMES.items():
        table[CLASSES.index(name)] = [ATTRIBUTES.index(attribute) for attribute in attributes]
    is_moving = np.hypot(*velocity.T) > _MOVING_SPEED
    return table[np.asarray(class_index, dtype=np.int64), is_moving.astype(np.int64)]


def boxes_of_samples(boxes: NuScenesBoxes, transforms: FloatArray) -> FloatArray:
    """Return boxes of the global frame in the LiDAR frame, ``z`` at the bottom, ``(N, 9)``.

    ``transforms`` ``(S, 4, 4)`` are those of the samples; vertical velocities are taken as 0.
    """
    columns = (boxes.translation, boxes.size[:, [1, 0, 2]], boxes.yaw, boxes.velocity)
    return boxes_from_global(*columns, transforms[boxes.sample])


def detections_of_frame(
    sample: int,
    boxes: ArrayLike,
    scores: ArrayLike,
    class_index: ArrayLike,
    lidar_to_global: ArrayLike,
) -> NuScenesBoxes:
    """Return the detections of one key frame as rows of a result set.

    Args:
        sample: its index.
        boxes: LiDAR frame, z at the bottom, ``(N, 7)``, or ``(N, 9)`` with velocities in m/s.
        scores: ``(N,)``.
        class_index: in ``CLASSES``, ``(N,)``; heads may order classes otherwise.
        lidar_to_global: ``ego2global @ lidar2ego``, ``(4, 4)``.

    Raises:
        ValueError: if a shape does not fit.
    """
    rows = np.asarray(boxes, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] not in (7, 9):
        raise shape_error("boxes", "(N, 7) or (N, 9) with velocities", rows)
    center, yaw, velocity = global_boxes(rows, np.asarray(lidar_to_global, dtype=np.float64))
    classes = np.asarray(class_index, dtype=np.int64)
    return NuScenesBoxes(
        sample=np.full(len(rows), sample, dtype=np.int64),
        translation=center,
        size=rows[:, [4, 3, 5]],
        yaw=yaw,
        velocity=velocity,
        class_index=classes,
        attribute=attributes_by_speed(classes, velocity),
        score=np.asarray(scores, dtype=np.float64),
        num_points=np.full(len(rows), -1, dtype=np.int64),
    )
