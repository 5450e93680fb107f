"""Points to voxels of bounded size.

Glossary: P points; C features of a point, the first three x, y, z in meters; V voxels at most; T
points a voxel may hold.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.adapters.operators.voxel_grid import cells_of_points, check_points, grid_cells
from ebm3d.boxes.kernels import kernels_serve

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio: Fibonacci hashing


def hard_voxelize_forward(
    points: Tensor,
    voxel_size: Tensor,
    coors_range: Tensor,
    voxels: Tensor,
    coors: Tensor,
    num_points_per_voxel: Tensor,
    voxel_num: Tensor,
    max_points: int,
    max_voxels: int,
    NDim: int = 3,
    deterministic: bool = True,
) -> None:
    """Group points by voxel, keeping the first points of the first voxels.

    Source: ``hard_voxelize_forward_cpu_kernel`` of mmcv 2.1.0, bit for bit, on every device and
    whatever ``deterministic`` says. Voxels are numbered in the order of their first point, a voxel
    keeps its first T points in order, and points of voxels after the first V are dropped; points
    outside the grid or not finite count for nothing. On a CPU a hash table takes the place of
    mmcv's dense grid where that is large, so that time and memory are linear in P; elsewhere a
    stable sort does.

    Args:
        points: LiDAR frame, meters, floating point, shape ``(P, C)``.
        voxel_size: size of a voxel in x, y, z, meters, float32 on the CPU, shape ``(3,)``.
        coors_range: lowest x, y, z and highest x, y, z, meters, likewise, shape ``(6,)``.
        voxels: zeros, filled with the points of each voxel; type of ``points``, ``(V, T, C)``.
        coors: zeros, filled with the cells in the order z, y, x; int32, ``(V, 3)``.
        num_points_per_voxel: zeros, filled with the number of points kept; int32, ``(V,)``.
        voxel_num: filled with the number of voxels; int64 on the CPU, ``()``: the one value of
            another device that the host waits for.
        max_points: T, as the shape of ``voxels`` says it too.
        max_voxels: V, likewise.
        NDim: 3; part of mmcv's signature.
        deterministic: part of mmcv's signature.
    """
    check_points(points)
    if kernels_serve(points):
        voxel_num.fill_(
            _fill(
                points.detach().contiguous().numpy(),
                voxel_size.numpy(),
                coors_range.numpy(),
                np.array(grid_cells(voxel_size, coors_range), dtype=np.int64),
                voxels.numpy(),
                coors.numpy(),
                num_points_per_voxel.numpy(),
            )
        )
    elif len(points) > 0:
        cells, inside = cells_of_points(points.detach(), voxel_size, coors_range)
        num = fill_by_sorting(
            points.detach(),
            cells,
            inside,
            grid_cells(voxel_size, coors_range),
            voxels,
            coors,
            num_points_per_voxel,
        )
        voxel_num.copy_(num)


@numba.njit(cache=True, error_model="numpy")
def _fill(
    points: NDArray[Any],
    size: NDArray[np.float32],
    bounds: NDArray[np.float32],
    cells: NDArray[np.int64],
    voxels: NDArray[Any],
    coors: NDArray[np.int32],
    counts: NDArray[np.int32],
) -> int:
    """Fill the three arrays and return the number of voxels.

    A table of all cells says which voxel a cell is, where it is not much larger than a hash table
    of twice the number of points, as for pillars; otherwise that does.
    """
    bits = 4
    while (1 << bits) < 2 * len(points):
        bits += 1
    mask = (1 << bits) - 1
    shift = np.uint64(64 - bits)
    num_cells = cells[0] * cells[1] * cells[2]
    is_direct = num_cells <= 8 << bits
    voxel_of = np.full(num_cells if is_direct else 1 << bits, -1, dtype=np.int32)
    keys = np.empty(0 if is_direct else 1 << bits, dtype=np.int64)
    num = 0
    for i in range(len(points)):
        x = np.floor((points[i, 0] - bounds[0]) / size[0])
        y = np.floor((points[i, 1] - bounds[1]) / size[1])
        z = np.floor((points[i, 2] - bounds[2]) / size[2])
        inside = 0 <= x < cells[0] and 0 <= y < cells[1] and 0 <= z < cells[2]
        if not inside:
            continue
        key = (np.int64(z) * cells[1] + np.int64(y)) * cells[0] + np.int64(x)
        slot = key
        if not is_direct:
            slot = np.int64((np.uint64(key) * np.uint64(_GOLDEN)) >> shift)
            while voxel_of[slot] != -1 and keys[slot] != key:
                slot = (slot + 1) & mask
        if voxel_of[slot] == -1:
            if num >= len(voxels):
                continue
            if not is_direct:
                keys[slot] = key
            voxel_of[slot] = num
            coors[num, 0] = np.int32(z)
            coors[num, 1] = np.int32(y)
            coors[num, 2] = np.int32(x)
            num += 1
        voxel = voxel_of[slot]
        place = counts[voxel]
        if place < voxels.shape[1]:
            for feature in range(points.shape[1]):
                voxels[voxel, place, feature] = points[i, feature]
            counts[voxel] = place + 1
    return num


def fill_by_sorting(
    points: Tensor,
    cells: Tensor,
    inside: Tensor,
    num_cells: list[int],
    voxels: Tensor,
    coors: Tensor,
    counts: Tensor,
) -> Tensor:
    """Fill voxels, cells and counts in torch: static shapes, no atomics, no value read.

    Args:
        points: shape ``(P, C)``, P at least one.
        cells: cell of each point in the order z, y, x, shape ``(P, 3)``.
        inside: whether the point is in the grid, shape ``(P,)``.
        num_cells: number of cells along x, y, z.
        voxels: filled, shape ``(V, T, C)``.
        coors: filled, shape ``(V, 3)``.
        counts: filled, shape ``(V,)``.

    Returns:
        Number of voxels, int64, shape ``()``, on the device.
    """
    max_voxels, max_points = voxels.shape[:2]
    outside = num_cells[0] * num_cells[1] * num_cells[2]
    z, y, x = cells.unbind(1)
    keys = torch.where(inside, (z * num_cells[1] + y) * num_cells[0] + x, outside)
    # Stable: the points of a voxel stay in order, so that its first is the first of its run.
    keys, order = keys.sort(stable=True)
    valid = keys < outside
    step = keys[1:] != keys[:-1]
    first = torch.nn.functional.pad(step, (1, 0), value=True) & valid
    last = torch.nn.functional.pad(step, (0, 1), value=True) & valid
    row = torch.arange(len(points), device=points.device)
    start = torch.where(first, row, 0).cummax(0).values
    # Voxels are numbered in the order of their first points.
    is_first_point = torch.zeros_like(valid).scatter(0, order, first)
    number = (is_first_point.cumsum(0) - 1)[order[start]]
    # Rows that are no first (last) row of a voxel, and voxels beyond V, go to an extra entry.
    spare = torch.full_like(number, max_voxels)
    kept = number.clamp(max=max_voxels)
    starts = row.new_zeros(max_voxels + 1).scatter(0, torch.where(first, kept, spare), row)
    ends = row.new_zeros(max_voxels + 1).scatter(0, torch.where(last, kept, spare), row + 1)
    num = is_first_point.sum().clamp(max=max_voxels)
    in_use = torch.arange(max_voxels, device=points.device) < num
    size = torch.where(in_use, (ends - starts)[:-1], 0).clamp(max=max_points)
    place = torch.arange(max_points, device=points.device)
    source = order[(starts[:-1, None] + place).clamp(max=len(points) - 1)]
    first_point = order[starts[:-1]]
    filled = place < size[:, None]
    voxels.copy_(torch.where(filled[..., None], points[source], 0.0))
    coors.copy_(torch.where(in_use[:, None], cells[first_point], 0))
    counts.copy_(size)
    return num
