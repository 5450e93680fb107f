"""Points near each box, cropped once and kept while the box moves.

N boxes; B frames; P points of the largest cloud; K points of a padded crop; Q points of all crops;
F columns of the clouds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from ebm3d.boxes.frames import points_to_box_frame, rotate_about_z
from ebm3d.boxes.kernels import Array, kernels_serve
from ebm3d.devices import constant

_LARGEST_HASH = 2**31 - 1
# Coordinates of a padding point, meters: out of the window of every box, so that it never counts.
_FAR = 1e6
# About so many coordinates are held at a time while points near boxes are looked for: 64 MiB.
_MAX_COORDINATES = 2**24


@dataclass(frozen=True)
class PointCrops:
    """Points near each of N boxes, one crop after the other: for kernels on a CPU.

    Attributes:
        points: ``(Q, F)`` with x, y, z in meters (LiDAR frame) and features; a point near two
            boxes is there twice.
        owner: ``(Q,)`` the box each point lies near, ascending, int64.
        weight: ``(N,)`` how many points of the cloud each kept point stands for, at least 1.
        lag: ``(Q,)`` seconds from the measurement of each point to that of the frame.
    """

    points: Tensor
    owner: Tensor
    weight: Tensor
    lag: Tensor

    def padded(self) -> PaddedCrops:
        """Return crops of all Q points, of which those of other boxes are padding."""
        boxes = torch.arange(len(self.weight), device=self.owner.device)
        is_near_box = (self.owner == boxes[:, None])[..., None]
        points = torch.where(is_near_box, self.points, _padding(self.points))
        return PaddedCrops(points, self.weight, is_near_box[..., 0] * self.lag)


@dataclass(frozen=True)
class PaddedCrops:
    """The same as one tensor, whose shape depends on no value: for other devices.

    Attributes:
        points: ``(N, K, F)``, filled up with points of lag 0 that are out of every window.
        weight: ``(N,)``.
        lag: ``(N, K)``.
    """

    points: Tensor
    weight: Tensor
    lag: Tensor


def crop_points(
    points: Sequence[Tensor],
    boxes: Tensor,
    scene_index: Tensor,
    margin: Sequence[float],
    max_points: int,
    time_feature: int | None = None,
    max_velocity_shift: float = 0.0,
) -> PointCrops | PaddedCrops:
    """Collect the points inside each enlarged box, moved with its velocity where they are older.

    The points of a crop are in the order of a hash of their positions. Where there are more than
    ``max_points``, the first are kept: a random choice that does not depend on the order of the
    cloud, and that hardly changes when the crop moves.

    Args:
        points: one cloud ``(P, F)`` per frame, F >= 3.
        boxes: ``(N, 7)``, or ``(N, 9)`` with velocities.
        scene_index: ``(N,)`` frame of each box.
        margin: meters added on each side along, across, and above and below the box.
        max_points: largest number of points of a crop.
        time_feature: the column of a point's lag in seconds; None: all are of the frame's time.
        max_velocity_shift: m/s; times a point's lag added to the margin along and across.

    Returns:
        Crops one after the other where kernels serve the tensors, else padded, for which no value
        is read on the host. A box that is not finite has no points.
    """
    time = -1 if time_feature is None else time_feature
    crop = _crop_by_kernel if kernels_serve(boxes, *points) else _crop_padded
    return crop(points, boxes, scene_index, margin, max_points, time, max_velocity_shift)


def _crop_by_kernel(
    points: Sequence[Tensor],
    boxes: Tensor,
    scene_index: Tensor,
    margin: Sequence[float],
    max_points: int,
    time: int,
    shift: float,
) -> PointCrops:
    """:func:`crop_points` of tensors in main memory; no lag where ``time`` is below 0."""
    owners, clouds = [], []
    for index, cloud in enumerate(points):
        rows = (scene_index == index).nonzero()[:, 0]
        arrays = (t.detach().contiguous().numpy() for t in (cloud, boxes[rows]))
        near = near_kernel(*arrays, np.asarray(margin, dtype=np.float64), time, shift)
        box_of_point, point = (torch.from_numpy(numbers) for numbers in near)
        owners.append(rows[box_of_point])
        clouds.append(cloud[point])
    owner, near_points = torch.cat(owners), torch.cat(clouds)
    order = torch.argsort(owner * (_LARGEST_HASH + 1) + _hash_positions(near_points), stable=True)
    owner = owner[order]
    count = torch.bincount(owner, minlength=len(boxes))
    first = torch.cumsum(count, 0) - count
    kept = torch.arange(len(owner)) - first[owner] < max_points
    weight, chosen = _weight(count, max_points, near_points), near_points[order[kept]]
    return PointCrops(chosen, owner[kept], weight, _lag(chosen, time))


@numba.njit(cache=True, nogil=True)
def near_kernel(
    cloud: Array, boxes: Array, margin: Array, time: int, shift: float
) -> tuple[Array, Array]:
    """Box and point of every point ``(P, F)`` in an enlarged box ``(N, 7)`` or ``(N, 9)``."""
    box, point = np.empty(256, np.int64), np.empty(256, np.int64)
    count, slack, is_moving = 0, 0.0, time >= 0 and boxes.shape[1] > 7
    for n in range(len(boxes)):
        length, width = 0.5 * boxes[n, 3] + margin[0], 0.5 * boxes[n, 4] + margin[1]
        reach = math.hypot(length, width)
        low, high = boxes[n, 2] - margin[2], boxes[n, 2] + boxes[n, 5] + margin[2]
        cosine, sine = math.cos(boxes[n, 6]), math.sin(boxes[n, 6])
        for p in range(len(cloud)):
            if not low <= cloud[p, 2] <= high:
                continue
            x, y = cloud[p, 0] - boxes[n, 0], cloud[p, 1] - boxes[n, 1]
            if is_moving:
                lag = cloud[p, time]
                x, y, slack = x + lag * boxes[n, 7], y + lag * boxes[n, 8], abs(lag) * shift
            if abs(x) > reach + 2 * slack or abs(y) > reach + 2 * slack:
                continue
            # In this form a coordinate that is not a number is not near, as in the twin.
            along, across = abs(cosine * x + sine * y), abs(cosine * y - sine * x)
            if not (along <= length + slack and across <= width + slack):
                continue
            if count == len(box):
                box = np.concatenate((box, np.empty_like(box)))
                point = np.concatenate((point, np.empty_like(point)))
            box[count], point[count] = n, p
            count += 1
    return box[:count].copy(), point[:count].copy()


def _crop_padded(
    points: Sequence[Tensor],
    boxes: Tensor,
    scene_index: Tensor,
    margin: Sequence[float],
    max_points: int,
    time: int,
    shift: float,
) -> PaddedCrops:
    """:func:`crop_points` of tensors of any device."""
    clouds = pad_sequence(list(points), batch_first=True, padding_value=_FAR)
    if clouds.shape[1] == 0:
        clouds = clouds.new_full((len(clouds), 1, clouds.shape[2]), _FAR)
    hashes = _hash_positions(clouds)
    size, padding = min(max_points, clouds.shape[1]), _padding(clouds)
    crops, counts = [], []
    chunk = max(1, _MAX_COORDINATES // (3 * clouds.shape[1]))
    for box, scene in zip(boxes.split(chunk), scene_index.split(chunk), strict=True):
        # One frame needs no copy of its cloud for every box.
        cloud, hashed = (clouds, hashes) if len(points) == 1 else (clouds[scene], hashes[scene])
        inside = is_near(cloud, box, margin, time, shift)
        rank, index = torch.topk(
            torch.where(inside, hashed, _LARGEST_HASH + 1), size, dim=1, largest=False
        )
        index = index[..., None].expand(-1, -1, clouds.shape[2])
        chosen = cloud.expand(len(box), -1, -1).gather(1, index)
        crops.append(torch.where((rank <= _LARGEST_HASH)[..., None], chosen, padding))
        counts.append(inside.sum(dim=1))
    chosen = torch.cat(crops)
    weight = _weight(torch.cat(counts), max_points, clouds)
    return PaddedCrops(chosen, weight, _lag(chosen, time))


def is_near(
    clouds: Tensor, boxes: Tensor, margin: Sequence[float], time: int, shift: float
) -> Tensor:
    """Whether points of clouds ``(N, P, F)`` or ``(1, P, F)`` lie in enlarged boxes, ``(N, P)``."""
    local = points_to_box_frame(clouds[..., :3], boxes[:, :7])
    slack: Tensor | float = 0.0
    if time >= 0 and boxes.shape[1] > 7:
        lag, velocity = clouds[..., time], rotate_about_z(boxes[:, 7:], -boxes[:, 6])
        slack = lag.abs() * shift
        local = local + lag[..., None] * pad(velocity, (0, 1))[:, None]
    along = local[..., 0].abs() <= 0.5 * boxes[:, 3:4] + margin[0] + slack
    across = local[..., 1].abs() <= 0.5 * boxes[:, 4:5] + margin[1] + slack
    above = (local[..., 2] >= -margin[2]) & (local[..., 2] <= boxes[:, 5:6] + margin[2])
    return along & across & above


def _padding(like: Tensor) -> Tensor:
    """A point ``(F,)`` that no window of a box reaches."""
    return constant((_FAR,) * 3 + (0.0,) * (like.shape[-1] - 3), like)


def _lag(points: Tensor, time: int) -> Tensor:
    """The column of the lag, ``(...)``, or zeros."""
    return points[..., time] if time >= 0 else torch.zeros_like(points[..., 0])


def _weight(count: Tensor, max_points: int, like: Tensor) -> Tensor:
    """How many of ``count`` ``(N,)`` points each kept one stands for."""
    return count.clamp(min=1).to(like.dtype) / count.clamp(min=1, max=max_points)


def _hash_positions(points: Tensor) -> Tensor:
    """Pseudo-random numbers in [0, _LARGEST_HASH] of positions in whole mm, ``(...)``."""
    x, y, z = torch.round(points[..., :3].double() * 1000).to(torch.int64).unbind(dim=-1)
    mixed = ((x * 73856093) ^ (y * 19349663) ^ (z * 83492791)) & _LARGEST_HASH
    mixed = (mixed ^ (mixed >> 15)) * 0x2C1B3C6D & _LARGEST_HASH
    return (mixed ^ (mixed >> 12)) * 0x297A2D39 & _LARGEST_HASH
