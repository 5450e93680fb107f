"""The cell of a grid that a point lies in: one rule for hard and dynamic voxels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.errors import input_error, shape_error


def check_points(points: Tensor) -> None:
    """Raise unless ``points`` has at least the columns x, y, z."""
    if points.ndim != 2 or points.shape[1] < 3:
        raise shape_error("points", "(P, C) with columns (x, y, z, ...)", points)


def grid_cells(voxel_size: Tensor, coors_range: Tensor) -> list[int]:
    """Number of cells along x, y, z: the float32 quotient, rounded half up as by C's ``round``.

    Args:
        voxel_size: size of a voxel in x, y, z, meters, float32 on the CPU, shape ``(3,)``.
        coors_range: lowest x, y, z and highest x, y, z, meters, likewise, shape ``(6,)``.

    Raises:
        ValueError: for another shape, or if that is no grid whose cells can be numbered.
    """
    if voxel_size.shape != (3,):
        raise shape_error("voxel_size", "(3,), meters along x, y, z", voxel_size)
    if coors_range.shape != (6,):
        raise shape_error("coors_range", "(6,), the lowest and the highest x, y, z", coors_range)
    size, bounds = voxel_size.tolist(), coors_range.tolist()
    if not all(0 < length < math.inf for length in size):
        raise input_error("voxel_size", "positive and finite", size)
    quotients = ((coors_range[3:] - coors_range[:3]) / voxel_size).tolist()
    # Cells are int32, and numbered by int64.
    if not all(0 <= quotient < 2**31 for quotient in quotients) or math.prod(quotients) >= 2**63:
        expected = f"increasing and finite, of less than 2^31 cells of {size} along each axis"
        raise input_error("coors_range", f"{expected} and 2^63 in all", bounds)
    return [math.floor(quotient + 0.5) for quotient in quotients]


def cells_of_points(
    points: Tensor, voxel_size: Tensor, coors_range: Tensor
) -> tuple[Tensor, Tensor]:
    """The cell of each point, in torch, without reading a value of the device on the host.

    Args:
        points: LiDAR frame, meters, shape ``(P, C)``; half precision is computed in float32.
        voxel_size: see ``grid_cells``.
        coors_range: see ``grid_cells``.

    Returns:
        Cells in the order z, y, x, int64, -1 for points outside the range or not finite, shape
        ``(P, 3)``; whether the point is inside, shape ``(P,)``.
    """
    cells = torch.tensor(grid_cells(voxel_size, coors_range), dtype=torch.float32)
    constants = torch.stack([coors_range[:3], voxel_size, cells])
    # Tensors on the device, not Python's numbers: by those CUDA divides as by their reciprocals.
    low, size, num_cells = constants.to(points.device, non_blocking=True)
    position = points[:, :3] if points.dtype == torch.float64 else points[:, :3].float()
    cell = torch.floor((position - low) / size)
    inside = ((cell >= 0) & (cell < num_cells)).all(dim=1)
    return torch.where(inside[:, None], cell.flip(1), -1.0).long(), inside
