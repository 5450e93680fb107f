"""Points to voxels, by hashing.

Glossary: P points; C features of a point, the first three x, y, z in meters; M voxels; T points
a voxel may hold.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from ebm3d.errors import shape_error

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio: Fibonacci hashing


def voxelize(
    points: NDArray[np.float32],
    voxel_size: NDArray[np.float32],
    point_cloud_range: NDArray[np.float32],
    max_points: int,
    max_voxels: int,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    """Group points by voxel, keeping the first points of the first voxels.

    The same rule as mmcv's ``hard_voxelize_forward`` on a CPU, bit for bit: voxels are numbered
    in the order of their first point, a voxel keeps its first ``max_points`` points in order, and
    points of voxels after the first ``max_voxels`` are dropped. A hash table of twice the number
    of points takes the place of mmcv's dense grid, so time and memory are linear in P.

    Args:
        points: (P, C), LiDAR frame, meters; float32.
        voxel_size: (3,) size of a voxel in x, y, z, meters.
        point_cloud_range: (6,) x, y, z lowest and x, y, z highest, meters.
        max_points: T, at least one.
        max_voxels: largest number of voxels.

    Returns:
        Voxels (M, T, C), zero where a voxel holds fewer points; coordinates (M, 3) in the order
        z, y, x; number of points in each voxel (M,).

    Raises:
        ValueError: if ``points`` is not a two-dimensional array of at least three columns.
    """
    if points.ndim != 2 or points.shape[1] < 3:
        raise shape_error("points", "(P, C) with columns (x, y, z, ...)", points)
    size = np.asarray(voxel_size, dtype=np.float32)
    bounds = np.asarray(point_cloud_range, dtype=np.float32)
    cells = np.round((bounds[3:] - bounds[:3]) / size).astype(np.int64)
    owner, coordinates, counts = _assign(points, size, bounds, cells, max_points, max_voxels)
    voxels = np.zeros((len(counts), max_points, points.shape[1]), dtype=np.float32)
    _fill(points, owner, voxels)
    return voxels, coordinates, counts


@numba.njit(cache=True)
def _assign(
    points: NDArray[np.float32],
    size: NDArray[np.float32],
    bounds: NDArray[np.float32],
    cells: NDArray[np.int64],
    max_points: int,
    max_voxels: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Slot ``voxel * T + place`` of each point or -1, coordinates (M, 3) zyx, counts (M,)."""
    bits = 4
    while (1 << bits) < 2 * len(points):
        bits += 1
    mask = (1 << bits) - 1
    shift = np.uint64(64 - bits)
    keys = np.full(1 << bits, -1, dtype=np.int64)
    values = np.empty(1 << bits, dtype=np.int32)
    slot_of_point = np.full(len(points), -1, dtype=np.int32)
    limit = min(len(points), max_voxels)
    coordinates = np.empty((limit, 3), dtype=np.int32)
    counts = np.zeros(limit, dtype=np.int32)
    found = 0
    for i in range(len(points)):
        x = np.floor((points[i, 0] - bounds[0]) / size[0])
        y = np.floor((points[i, 1] - bounds[1]) / size[1])
        z = np.floor((points[i, 2] - bounds[2]) / size[2])
        inside = 0 <= x < cells[0] and 0 <= y < cells[1] and 0 <= z < cells[2]
        if not inside:
            continue
        key = (np.int64(z) * cells[1] + np.int64(y)) * cells[0] + np.int64(x)
        slot = np.int64((np.uint64(key) * np.uint64(_GOLDEN)) >> shift)
        while keys[slot] != key and keys[slot] != -1:
            slot = (slot + 1) & mask
        if keys[slot] == -1:
            if found >= max_voxels:
                continue
            keys[slot] = key
            values[slot] = found
            coordinates[found, 0] = z
            coordinates[found, 1] = y
            coordinates[found, 2] = x
            found += 1
        voxel = values[slot]
        if counts[voxel] < max_points:
            slot_of_point[i] = voxel * max_points + counts[voxel]
            counts[voxel] += 1
    return slot_of_point, coordinates[:found].copy(), counts[:found].copy()


@numba.njit(cache=True)
def _fill(
    points: NDArray[np.float32], slots: NDArray[np.int32], voxels: NDArray[np.float32]
) -> None:
    """Copy each point to its slot ``voxel * T + place``; a negative slot is skipped."""
    for i in range(len(points)):
        if slots[i] >= 0:
            voxel = slots[i] // voxels.shape[1]
            place = slots[i] - voxel * voxels.shape[1]
            for feature in range(points.shape[1]):
                voxels[voxel, place, feature] = points[i, feature]
