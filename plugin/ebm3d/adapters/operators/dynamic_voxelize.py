"""The voxel of each point, for encoders of dynamic voxels."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.adapters.operators.voxel_grid import cells_of_points, check_points, grid_cells
from ebm3d.boxes.kernels import kernels_serve


def dynamic_voxelize_forward(
    points: Tensor,
    voxel_size: Tensor,
    coors_range: Tensor,
    coors: Tensor,
    NDim: int = 3,
) -> None:
    """Write the voxel of each point.

    Source: ``dynamic_voxelize_forward_cpu_kernel`` of mmcv 2.1.0. A point lies in cell
    ``floor((x - lowest) / size)``, in the points' arithmetic; a point outside the grid, or not
    finite, gets -1 three times. mmcv's CUDA kernel writes -1 to a part of the three, which the
    operators that read them do not tell apart.

    Args:
        points: LiDAR frame, meters, floating point, shape ``(P, C)``, columns x, y, z first.
        voxel_size: size of a voxel in x, y, z, meters, float32 on the CPU, shape ``(3,)``.
        coors_range: lowest x, y, z and highest x, y, z, meters, likewise, shape ``(6,)``.
        coors: filled with the cells in the order z, y, x; int32, shape ``(P, 3)``.
        NDim: 3; part of mmcv's signature.
    """
    check_points(points)
    if kernels_serve(points):
        cells = np.array(grid_cells(voxel_size, coors_range), dtype=np.int64)
        _fill(
            points.detach().contiguous().numpy(),
            voxel_size.numpy(),
            coors_range.numpy(),
            cells,
            coors.numpy(),
        )
    else:
        coors.copy_(cells_of_points(points.detach(), voxel_size, coors_range)[0])


@numba.njit(cache=True, error_model="numpy")
def _fill(
    points: NDArray[Any],
    size: NDArray[np.float32],
    bounds: NDArray[np.float32],
    cells: NDArray[np.int64],
    coors: NDArray[np.int32],
) -> None:
    """The cells of all points, one after another."""
    for i in range(len(points)):
        x = np.floor((points[i, 0] - bounds[0]) / size[0])
        y = np.floor((points[i, 1] - bounds[1]) / size[1])
        z = np.floor((points[i, 2] - bounds[2]) / size[2])
        if 0 <= x < cells[0] and 0 <= y < cells[1] and 0 <= z < cells[2]:
            coors[i, 0] = np.int32(z)
            coors[i, 1] = np.int32(y)
            coors[i, 2] = np.int32(x)
        else:
            coors[i, 0] = -1
            coors[i, 1] = -1
            coors[i, 2] = -1
