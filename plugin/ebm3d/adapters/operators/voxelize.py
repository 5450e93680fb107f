"""Voxels of a point cloud: the cell of each point, and the points of each cell.

Glossary: P points; C features of a point, the first three x, y, z in the LiDAR frame, meters; V
voxels at most; T points a voxel may hold.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from ebm3d.boxes.kernels import kernels_serve
from ebm3d.errors import input_error, shape_error

__all__ = ["dynamic_voxelize_forward", "hard_voxelize_forward"]

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio: Fibonacci hashing


def dynamic_voxelize_forward(
    points: Tensor, voxel_size: Tensor, coors_range: Tensor, coors: Tensor, NDim: int = 3
) -> None:
    """Write the cell ``floor((x - lowest) / size)`` of each point.

    Source: ``dynamic_voxelize_forward_cpu_kernel`` of mmcv 2.1.0, in the points' arithmetic; half
    precision is computed in float32. Points outside the grid, or not finite, get -1 three times.

    Args:
        points: floating point, shape ``(P, C)``.
        voxel_size: along x, y, z, meters, float32 on the CPU, shape ``(3,)``.
        coors_range: lowest and highest x, y, z, meters, likewise, shape ``(6,)``.
        coors: filled with cells in the order z, y, x; int32, shape ``(P, 3)``.
        NDim: 3.

    Raises:
        ValueError: for points of another shape, or what is no grid.
    """
    if points.ndim != 2 or points.shape[1] < 3:
        raise shape_error("points", "(P, C) with columns (x, y, z, ...)", points)
    grid, points = grid_size(voxel_size, coors_range), points.detach()
    if kernels_serve(points):
        arrays = voxel_size.numpy(), coors_range.numpy(), np.array(grid), coors.numpy()
        _fill_cells(points.contiguous().numpy(), *arrays)
        return
    constants = torch.stack([coors_range[:3], voxel_size, torch.tensor(grid, dtype=torch.float32)])
    # Tensors on the device, not Python's numbers: by those CUDA divides as by their reciprocals.
    low, size, num_cells = constants.to(points.device, non_blocking=True)
    position = points[:, :3] if points.dtype == torch.float64 else points[:, :3].float()
    cell = torch.floor((position - low) / size)
    inside = ((cell >= 0) & (cell < num_cells)).all(dim=1, keepdim=True)
    coors.copy_(torch.where(inside, cell.flip(1), -1.0))


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
    """Group points by cell, keeping the first T points of the first V voxels.

    Source: ``hard_voxelize_forward_cpu_kernel`` of mmcv 2.1.0, bit for bit, on every device and
    whatever ``deterministic`` says. Voxels are numbered in the order of their first point. Time and
    memory are linear in P.

    Args:
        points: see ``dynamic_voxelize_forward``, also for the grid and errors.
        voxel_size: see there.
        coors_range: see there.
        voxels: zeros, filled with the points of each voxel; type of ``points``, ``(V, T, C)``.
        coors: zeros, filled with cells in the order z, y, x; int32, ``(V, 3)``.
        num_points_per_voxel: zeros, filled with the number of points kept; int32, ``(V,)``.
        voxel_num: filled with the number of voxels; int64 on the CPU, ``()``.
        max_points: T.
        max_voxels: V.
        NDim: 3.
        deterministic: not used.
    """
    cells = coors.new_empty(len(points), 3)
    dynamic_voxelize_forward(points, voxel_size, coors_range, cells)
    grid, points = grid_size(voxel_size, coors_range), points.detach()
    filled = voxels, coors, num_points_per_voxel
    if kernels_serve(points):
        arrays = (tensor.numpy() for tensor in (points.contiguous(), cells, *filled))
        voxel_num.fill_(_group(np.array(grid), *arrays))
    elif len(points) > 0:
        voxel_num.copy_(group_by_sorting(points, cells, grid, *filled))


def grid_size(voxel_size: Tensor, coors_range: Tensor) -> list[int]:
    """Number of cells along x, y, z: the float32 quotient, rounded half up as by C's ``round``."""
    if voxel_size.shape != (3,):
        raise shape_error("voxel_size", "(3,), meters along x, y, z", voxel_size)
    if coors_range.shape != (6,):
        raise shape_error("coors_range", "(6,), the lowest and the highest x, y, z", coors_range)
    size = voxel_size.tolist()
    if not all(0 < length < math.inf for length in size):
        raise input_error("voxel_size", "positive and finite", size)
    quotients = ((coors_range[3:] - coors_range[:3]) / voxel_size).tolist()
    # Cells are int32, and numbered by int64.
    if not all(0 <= quotient < 2**31 for quotient in quotients) or math.prod(quotients) >= 2**63:
        expected = f"increasing and finite, of less than 2^31 cells of {size} along each axis"
        raise input_error("coors_range", f"{expected} and 2^63 in all", coors_range.tolist())
    return [math.floor(quotient + 0.5) for quotient in quotients]


def group_by_sorting(
    points: Tensor, cells: Tensor, grid: list[int], voxels: Tensor, coors: Tensor, counts: Tensor
) -> Tensor:
    """Fill voxels, cells and counts in torch and return the number of voxels, on the device.

    Shapes are static, and nothing is added with atomics or read on the host.
    """
    max_voxels, max_points = voxels.shape[:2]
    outside = math.prod(grid)
    z, y, x = cells.long().unbind(1)
    keys = torch.where(z >= 0, (z * grid[1] + y) * grid[0] + x, outside)
    # Stable: the points of a voxel stay in order, so that its first is the first of its run.
    keys, order = keys.sort(stable=True)
    valid, step = keys < outside, keys[1:] != keys[:-1]
    first = pad(step, (1, 0), value=True) & valid
    last = pad(step, (0, 1), value=True) & valid
    row = torch.arange(len(points), device=points.device)
    start = torch.where(first, row, 0).cummax(0).values
    # Voxels are numbered in the order of their first points.
    is_first_point = torch.zeros_like(valid).scatter(0, order, first)
    number = (is_first_point.cumsum(0) - 1)[order[start]].clamp(max=max_voxels)
    # Rows inside a run, and voxels beyond V, go to an extra entry.
    starts = row.new_zeros(max_voxels + 1)
    ends = starts.scatter(0, torch.where(last, number, max_voxels), row + 1)[:-1]
    starts = starts.scatter(0, torch.where(first, number, max_voxels), row)[:-1]
    num = is_first_point.sum().clamp(max=max_voxels)
    in_use = torch.arange(max_voxels, device=points.device) < num
    counts.copy_(torch.where(in_use, ends - starts, 0).clamp(max=max_points))
    slot = torch.arange(max_points, device=points.device)
    source = order[(starts[:, None] + slot).clamp(max=len(points) - 1)]
    is_filled = (slot < counts[:, None])[..., None]
    voxels.copy_(torch.where(is_filled, points[source], 0.0))
    coors.copy_(torch.where(in_use[:, None], cells[order[starts]], 0))
    return num


@numba.njit(cache=True, error_model="numpy")
def _fill_cells(
    points: NDArray[Any],
    size: NDArray[np.float32],
    bounds: NDArray[np.float32],
    grid: NDArray[np.int64],
    coors: NDArray[np.int32],
) -> None:
    """Fill ``coors`` (P, 3) with the cell of each point."""
    for i in range(len(points)):
        x = np.floor((points[i, 0] - bounds[0]) / size[0])
        y = np.floor((points[i, 1] - bounds[1]) / size[1])
        z = np.floor((points[i, 2] - bounds[2]) / size[2])
        if not (0 <= x < grid[0] and 0 <= y < grid[1] and 0 <= z < grid[2]):
            x = y = z = -1.0
        coors[i, 0], coors[i, 1], coors[i, 2] = np.int32(z), np.int32(y), np.int32(x)


@numba.njit(cache=True)
def _group(
    grid: NDArray[np.int64],
    points: NDArray[Any],
    cells: NDArray[np.int32],
    voxels: NDArray[Any],
    coors: NDArray[np.int32],
    counts: NDArray[np.int32],
) -> int:
    """Fill voxels, their cells and counts, and return the number of voxels.

    Voxels are looked up in a table of all cells where that is small, as for pillars, or hashed.
    """
    bits = 4
    while (1 << bits) < 2 * len(points):
        bits += 1
    mask = (1 << bits) - 1
    shift = np.uint64(64 - bits)
    num_cells = grid[0] * grid[1] * grid[2]
    is_direct = num_cells <= 8 << bits
    voxel_of = np.full(num_cells if is_direct else 1 << bits, -1, dtype=np.int32)
    keys = np.empty(0 if is_direct else 1 << bits, dtype=np.int64)
    num = 0
    for i in range(len(points)):
        if cells[i, 0] < 0:
            continue
        z, y, x = cells[i, 0], cells[i, 1], cells[i, 2]
        key = (np.int64(z) * grid[1] + y) * grid[0] + x
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
            coors[num, 0], coors[num, 1], coors[num, 2] = z, y, x
            num += 1
        voxel = voxel_of[slot]
        place = counts[voxel]
        if place < voxels.shape[1]:
            for feature in range(points.shape[1]):
                voxels[voxel, place, feature] = points[i, feature]
            counts[voxel] = place + 1
    return num
