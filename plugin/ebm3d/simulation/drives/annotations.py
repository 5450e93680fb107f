"""Annotations of a drive by the habits of nuScenes' annotators.

An instance is annotated in every key frame from shortly before the first to shortly after the last
in which it has a LiDAR point, while it is within range; so some boxes have no point. It needs a
few points over all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.simulation.drives.drive import Drive
from ebm3d.simulation.drives.traffic import STEP

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
MAX_DISTANCE = 80.0  # m, from the ego vehicle
MOVING = 0.3  # m/s
_BEYOND = 1  # key frames before the first and after the last with a point
_LEAST = 3  # points over all key frames of an instance
_LEVELS = (0.4, 0.6, 0.8)  # visible shares between the four levels of visibility


@dataclass(frozen=True, eq=False)
class KeyFrame:
    """What a key frame says of the I objects of a class, in the order of the actors."""

    boxes: FloatArray  # (I, 7), global frame, bottom center, millimeters exact
    speeds: FloatArray  # (I,), m/s
    num_points: IntArray  # (I,)
    visibility: IntArray  # (I,), 1 to 4
    distances: FloatArray  # (I,), from the ego vehicle, meters


def key_frame(drive: Drive, step: int, points: NDArray[np.float32], share: FloatArray) -> KeyFrame:
    """Describe the objects at a sweep with these points ``(N, >= 3)``, LiDAR frame.

    ``share`` is the visible share of every actor, NaN where no ray would meet it.
    """
    chosen = [i for i, actor in enumerate(drive.actors) if actor.name]
    actors = [drive.actors[i] for i in chosen]
    boxes = np.array([[*a.trajectory[step, :3], *a.size, a.trajectory[step, 3]] for a in actors])
    boxes = boxes.reshape(-1, 7)
    boxes[:, 3:6] = boxes[:, 3:6].round(3)
    centers = (boxes[:, 2] + boxes[:, 5] / 2).round(3)
    boxes[:, :2] = boxes[:, :2].round(3)
    boxes[:, 2] = centers - boxes[:, 5] / 2
    pose = drive.lidar2global(step)
    positions = points[:, :3].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
    before, after = max(step - 1, 0), min(step + 1, len(drive.ego) - 1)
    ways = [a.trajectory[after, :2] - a.trajectory[before, :2] for a in actors]
    seen = np.nan_to_num(share[chosen], nan=1.0)
    visibility = np.searchsorted(_LEVELS, seen) + 1
    return KeyFrame(
        boxes,
        np.hypot(*np.array(ways).reshape(-1, 2).T) / ((after - before) * STEP),
        points_in_boxes(positions, boxes).sum(axis=0),
        visibility.astype(np.int64),
        np.hypot(*(boxes[:, :2] - drive.ego[step, :2]).T),
    )


def annotated(frames: list[KeyFrame]) -> NDArray[np.bool_]:
    """Which objects are annotated in which key frames, ``(K, I)``; without gaps."""
    seen = np.array([(f.num_points > 0) & (f.distances < MAX_DISTANCE) for f in frames])
    near = np.array([f.distances < MAX_DISTANCE for f in frames])
    result = np.zeros_like(seen)
    enough = sum(np.where(s, f.num_points, 0) for s, f in zip(seen, frames, strict=True)) >= _LEAST
    for i in np.flatnonzero(enough):
        first, last = np.flatnonzero(seen[:, i])[[0, -1]]
        low, high = first, last
        while low > max(first - _BEYOND, 0) and near[low - 1, i]:
            low -= 1
        while high < min(last + _BEYOND, len(frames) - 1) and near[high + 1, i]:
            high += 1
        result[low : high + 1, i] = True
    return result


def attribute(name: str, state: str, speed: float) -> str | None:
    """Attribute of an object by its class, state and speed."""
    if name in ("traffic_cone", "barrier"):
        return None
    if name in ("bicycle", "motorcycle"):
        return f"cycle.with{'' if state == 'ridden' else 'out'}_rider"
    if name == "pedestrian":
        return f"pedestrian.{'moving' if speed > MOVING else 'standing'}"
    if state == "parked":
        return "vehicle.parked"
    return f"vehicle.{'moving' if speed > MOVING else 'stopped'}"
