"""Attributes of detections that no network predicts: by class and speed, as mmdet3d has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ebm3d.datasets.nuscenes.classes import ATTRIBUTES, CLASSES

_MOVING = 0.2  # m/s; faster boxes have the first attribute
_VEHICLE = ("vehicle.moving", "vehicle.parked")
_CYCLE = ("cycle.with_rider", "cycle.without_rider")
_OF_CLASS = {
    **dict.fromkeys(("car", "truck", "trailer", "construction_vehicle"), _VEHICLE),
    "bus": ("vehicle.moving", "vehicle.stopped"),
    **dict.fromkeys(("bicycle", "motorcycle"), _CYCLE),
    "pedestrian": ("pedestrian.moving", "pedestrian.standing"),
}
_INDICES = np.array(
    [[ATTRIBUTES.index(a) for a in _OF_CLASS[c]] if c in _OF_CLASS else [-1, -1] for c in CLASSES]
)


def attributes_by_speed(class_index: NDArray[np.int64], velocity: ArrayLike) -> NDArray[np.int64]:
    """Return indices in ``ATTRIBUTES``, -1 for none, ``(N,)``.

    Args:
        class_index: in ``CLASSES``, ``(N,)``.
        velocity: horizontal, ``(N, 2)``, m/s; an unknown one (NaN) counts as standing.
    """
    speed = np.linalg.norm(np.asarray(velocity, dtype=np.float64), axis=1)
    indices: NDArray[np.int64] = _INDICES[class_index, np.where(speed > _MOVING, 0, 1)]
    return indices
