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
from torch.nn.utils.rnn import pad_sequence

from ebm3d.boxes.frames import points_to_box_frame
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
    """

    points: Tensor
    owner: Tensor
    weight: Tensor

    def padded(self) -> PaddedCrops:
        """Return crops of all Q points, of which those of other boxes are padding."""
        boxes = torch.arange(len(self.weight), device=self.owner.device)
        is_near_box = (self.owner == boxes[:, None])[..., None]
        points = torch.where(is_near_box, self.points, _padding(self.points))
        return PaddedCrops(points, self.weight)


@dataclass(frozen=True)
class PaddedCrops:
    """The same as one tensor, whose shape depends on no value: for other devices.

    Attributes:
        points: ``(N, K, F)``, filled up with points that are out of every window.
        weight: ``(N,)``.
    """

    points: Tensor
    weight: Tensor


def crop_points(
    points: Sequence[Tensor],
    boxes: Tensor,
    scene_index: Tensor,
    margin: Sequence[float],
    max_points: int,
) -> PointCrops | PaddedCrops:
    """Collect the points inside each enlarged box.

    The points of a crop are in the order of a hash of their positions. Where there are more than
    ``max_points``, the first are kept: a random choice that does not depend on the order of the
    cloud, and that hardly changes when the crop moves.

    Args:
        points: one cloud ``(P, F)`` per frame, F >= 3.
        boxes: ``(N, 7)``.
        scene_index: ``(N,)`` frame of each box.
        margin: meters added on each side along, across, and above and below the box.
        max_points: largest number of points of a crop.

    Returns:
        Crops one after the other where kernels serve the tensors, else padded, for which no value
        is read on the host. A box that is not finite has no points.
    """
    if kernels_serve(boxes, *points):
        return _crop_by_kernel(points, boxes, scene_index, margin, max_points)
    return _crop_padded(points, boxes, scene_index, margin, max_points)


def _crop_by_kernel(
    points: Sequence[Tensor],
    boxes: Tensor,
    scene_index: Tensor,
    margin: Sequence[float],
    max_points: int,
) -> PointCrops:
    """:func:`crop_points` of tensors in main memory."""
    owners, clouds = [], []
    for index, cloud in enumerate(points):
        rows = (scene_index == index).nonzero()[:, 0]
        arrays = (t.detach().contiguous().numpy() for t in (cloud, boxes[rows]))
        near = near_kernel(*arrays, np.asarray(margin, dtype=np.float64))
        box_of_point, point = (torch.from_numpy(numbers) for numbers in near)
        owners.append(rows[box_of_point])
        clouds.append(cloud[point])
    owner, near_points = torch.cat(owners), torch.cat(clouds)
    order = torch.argsort(owner * (_LARGEST_HASH + 1) + _hash_positions(near_points), stable=True)
    owner = owner[order]
    count = torch.bincount(owner, minlength=len(boxes))
    first = torch.cumsum(count, 0) - count
    kept = torch.arange(len(owner)) - first[owner] < max_points
    weight = _weight(count, max_points, near_points)
    return PointCrops(near_points[order[kept]], owner[kept], weight)


@numba.njit(cache=True, nogil=True)
def near_kernel(cloud: Array, boxes: Array, margin: Array) -> tuple[Array, Array]:
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
            # In this form a coordinate that is not a number is not near, as in the twin.
            if not (abs(cosine * x + sine * y) <= length and abs(cosine * y - sine * x) <= width):
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
        inside = is_near(cloud, box, margin)
        rank, index = torch.topk(
            torch.where(inside, hashed, _LARGEST_HASH + 1), size, dim=1, largest=False
        )
        index = index[..., None].expand(-1, -1, clouds.shape[2])
        chosen = cloud.expand(len(box), -1, -1).gather(1, index)
        crops.append(torch.where((rank <= _LARGEST_HASH)[..., None], chosen, padding))
        counts.append(inside.sum(dim=1))
    return PaddedCrops(torch.cat(crops), _weight(torch.cat(counts), max_points, clouds))


def is_near(clouds: Tensor, boxes: Tensor, margin: Sequence[float]) -> Tensor:
    """Whether points of clouds ``(N, P, F)`` or ``(1, P, F)`` lie in enlarged boxes, ``(N, P)``."""
    local = points_to_box_frame(clouds[..., :3], boxes)
    along = local[..., 0].abs() <= 0.5 * boxes[:, 3:4] + margin[0]
    across = local[..., 1].abs() <= 0.5 * boxes[:, 4:5] + margin[1]
    above = (local[..., 2] >= -margin[2]) & (local[..., 2] <= boxes[:, 5:6] + margin[2])
    return along & across & above


def _padding(like: Tensor) -> Tensor:
    """A point ``(F,)`` that no window of a box reaches."""
    return constant((_FAR,) * 3 + (0.0,) * (like.shape[-1] - 3), like)


def _weight(count: Tensor, max_points: int, like: Tensor) -> Tensor:
    """How many of ``count`` ``(N,)`` points each kept one stands for."""
    return count.clamp(min=1).to(like.dtype) / count.clamp(min=1, max=max_points)


def _hash_positions(points: Tensor) -> Tensor:
    """Pseudo-random numbers in [0, _LARGEST_HASH] of positions in whole mm, ``(...)``."""
    x, y, z = torch.round(points[..., :3].double() * 1000).to(torch.int64).unbind(dim=-1)
    mixed = ((x * 73856093) ^ (y * 19349663) ^ (z * 83492791)) & _LARGEST_HASH
    mixed = (mixed ^ (mixed >> 15)) * 0x2C1B3C6D & _LARGEST_HASH
    return (mixed ^ (mixed >> 12)) * 0x297A2D39 & _LARGEST_HASH
