"""Points near each box, cropped once and kept while the box moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.boxes.frames import points_to_box_frame
from ebm3d.pooling.twins import kernels_serve

_LARGEST_HASH = 2**31 - 1


@dataclass(frozen=True)
class PointCrops:
    """Points near each of N boxes, one crop after the other.

    Attributes:
        points: ``(Q, F)`` with x, y, z in meters (LiDAR frame) and features; a point near two
            boxes is there twice.
        owner: ``(Q,)`` the box each point lies near, ascending, int64.
        weight: ``(N,)`` how many points of the cloud each kept point stands for, at least 1.
    """

    points: Tensor
    owner: Tensor
    weight: Tensor


def crop_points(
    points: Sequence[Tensor],
    boxes: Tensor,
    scene_index: Tensor,
    margin: Sequence[float],
    max_points: int,
) -> PointCrops:
    """Collect the points inside each enlarged box.

    Where there are more than ``max_points``, those are kept whose positions hash lowest: a random
    choice that is the same each time, whatever the order of the cloud, and that hardly changes
    when the crop moves, since points common to both crops keep their rank.

    Args:
        points: one cloud ``(P, F)`` per frame, F >= 3.
        boxes: ``(N, 7)``.
        scene_index: ``(N,)`` frame of each box.
        margin: meters added on each side along, across, and above and below the box.
        max_points: largest number of points of a crop.

    Returns:
        Crops of at most ``max_points`` points each.
    """
    owner, chosen = [], []
    for index, cloud in enumerate(points):
        rows = (scene_index == index).nonzero()[:, 0]
        box_of_point, point = _points_near(cloud, boxes[rows], margin)
        owner.append(rows[box_of_point])
        chosen.append(cloud[point])
    return _thin(torch.cat(owner), torch.cat(chosen), len(boxes), max_points)


def _points_near(cloud: Tensor, boxes: Tensor, margin: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Indices (box, point) of the points in the enlarged boxes, sorted by box, then by point."""
    if not kernels_serve(cloud, boxes):
        return near_by_torch(cloud, boxes, margin)
    arrays = (t.detach().contiguous().numpy() for t in (cloud, boxes))
    box, point = near_kernel(*arrays, np.asarray(margin, dtype=np.float64))
    return torch.from_numpy(box), torch.from_numpy(point)


def near_by_torch(cloud: Tensor, boxes: Tensor, margin: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The twin of :func:`near_kernel`."""
    added = boxes.new_tensor(margin)
    local = points_to_box_frame(cloud[None, :, :3], boxes)
    inside = (local[..., :2].abs() <= 0.5 * boxes[:, None, 3:5] + added[:2]).all(dim=2)
    inside &= (local[..., 2] >= -added[2]) & (local[..., 2] <= boxes[:, None, 5] + added[2])
    box, point = inside.nonzero(as_tuple=True)
    return box, point


@numba.njit(cache=True, nogil=True)
def near_kernel(
    cloud: NDArray[Any], boxes: NDArray[Any], margin: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Box and point of every point ``(P, F)`` in an enlarged box ``(N, 7)``."""
    box, point = np.empty(256, np.int64), np.empty(256, np.int64)
    count = 0
    for n in range(len(boxes)):
        length, width = 0.5 * boxes[n, 3] + margin[0], 0.5 * boxes[n, 4] + margin[1]
        reach = math.hypot(length, width)
        low, high = boxes[n, 2] - margin[2], boxes[n, 2] + boxes[n, 5] + margin[2]
        cosine, sine = math.cos(boxes[n, 6]), math.sin(boxes[n, 6])
        for p in range(len(cloud)):
            x, y = cloud[p, 0] - boxes[n, 0], cloud[p, 1] - boxes[n, 1]
            if abs(x) > reach or abs(y) > reach or not low <= cloud[p, 2] <= high:
                continue
            if abs(cosine * x + sine * y) > length or abs(cosine * y - sine * x) > width:
                continue
            if count == len(box):
                box = np.concatenate((box, np.empty_like(box)))
                point = np.concatenate((point, np.empty_like(point)))
            box[count], point[count] = n, p
            count += 1
    return box[:count].copy(), point[:count].copy()


def _thin(owner: Tensor, chosen: Tensor, num_boxes: int, max_points: int) -> PointCrops:
    """Keep at most ``max_points`` of the points ``(Q, F)`` of each owner ``(Q,)``."""
    count = torch.bincount(owner, minlength=num_boxes)
    ranked = torch.argsort(owner * (_LARGEST_HASH + 1) + _hash_positions(chosen))
    start = torch.cumsum(count, 0) - count
    rank = torch.arange(len(owner), device=owner.device) - start[owner[ranked]]
    kept = torch.sort(ranked[rank < max_points]).values
    kept = kept[torch.sort(owner[kept], stable=True).indices]
    weight = count.clamp(min=1).to(chosen.dtype) / count.clamp(min=1, max=max_points)
    return PointCrops(chosen[kept], owner[kept], weight)


def _hash_positions(points: Tensor) -> Tensor:
    """Pseudo-random numbers in [0, _LARGEST_HASH] of positions in whole millimeters, ``(Q,)``."""
    x, y, z = torch.round(points[:, :3].double() * 1000).to(torch.int64).unbind(dim=1)
    mixed = ((x * 73856093) ^ (y * 19349663) ^ (z * 83492791)) & _LARGEST_HASH
    mixed = (mixed ^ (mixed >> 15)) * 0x2C1B3C6D & _LARGEST_HASH
    return (mixed ^ (mixed >> 12)) * 0x297A2D39 & _LARGEST_HASH
