"""Points near each box, cropped once and kept while the box moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.boxes.frames import points_to_box_frame

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
        box_of_point, point = _points_near(cloud[:, :3], boxes[rows], boxes.new_tensor(margin))
        owner.append(rows[box_of_point])
        chosen.append(cloud[point])
    return _thin(torch.cat(owner), torch.cat(chosen), len(boxes), max_points)


def _points_near(xyz: Tensor, boxes: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (box, point) of the points in the enlarged boxes, sorted by box, then by point."""
    reach = 0.5 * torch.linalg.vector_norm(boxes[:, 3:5] + 2 * margin[:2], dim=1)
    x, y = xyz[:, 0], xyz[:, 1]
    near = ((x - boxes[:, :1]).abs() <= reach[:, None]) & (
        (y - boxes[:, 1:2]).abs() <= reach[:, None]
    )
    box, point = near.nonzero(as_tuple=True)
    local = points_to_box_frame(xyz[point][:, None], boxes[box])[:, 0]
    half = 0.5 * boxes[box, 3:5] + margin[:2]
    inside = (local[:, :2].abs() <= half).all(dim=1)
    inside &= (local[:, 2] >= -margin[2]) & (local[:, 2] <= boxes[box, 5] + margin[2])
    return box[inside], point[inside]


def _thin(owner: Tensor, chosen: Tensor, num_boxes: int, max_points: int) -> PointCrops:
    """Keep at most ``max_points`` of the points ``(Q, F)`` of each owner ``(Q,)``."""
    order = torch.argsort(owner * (_LARGEST_HASH + 1) + _hash_positions(chosen))
    owner, chosen = owner[order], chosen[order]
    count = torch.bincount(owner, minlength=num_boxes)
    start = torch.cumsum(count, 0) - count
    first = torch.arange(len(owner), device=owner.device) - start[owner] < max_points
    weight = count.clamp(min=1).to(chosen.dtype) / count.clamp(min=1, max=max_points)
    return PointCrops(chosen[first], owner[first], weight)


def _hash_positions(points: Tensor) -> Tensor:
    """Pseudo-random numbers in [0, _LARGEST_HASH] of positions in whole millimeters, ``(Q,)``."""
    x, y, z = torch.round(points[:, :3].double() * 1000).to(torch.int64).unbind(dim=1)
    mixed = ((x * 73856093) ^ (y * 19349663) ^ (z * 83492791)) & _LARGEST_HASH
    mixed = (mixed ^ (mixed >> 15)) * 0x2C1B3C6D & _LARGEST_HASH
    return (mixed ^ (mixed >> 12)) * 0x297A2D39 & _LARGEST_HASH
