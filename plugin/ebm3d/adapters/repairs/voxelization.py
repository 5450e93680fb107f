"""Hard voxelization on a CPU without a dense grid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm3d.pooling.voxelization import voxelize


def repair_voxelization_speed() -> bool:
    """Voxelize CPU clouds by hashing instead of filling a grid for every frame.

    Upstream defect: mmcv's ``hard_voxelize_forward`` allocates and fills a dense grid of cells
    for each frame on a CPU: 90 million at the full size, 0.58 s a frame. The replacement
    (``ebm3d.pooling.voxelization``) returns the same voxels, bit for bit and in the same order.
    Dynamic voxelization and CUDA tensors keep the host's operator.

    Returns:
        Whether the repair is in place.
    """
    from mmdet3d.models.data_preprocessors import voxelize as host

    if not isinstance(host.voxelization, _Voxelization):
        host.voxelization = _Voxelization(host.voxelization)
    return True


class _Voxelization:
    """The host's ``voxelization`` function with another kernel for hard voxels on a CPU."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __call__(
        self,
        points: Tensor,
        voxel_size: Any,
        coors_range: Any,
        max_points: int = 35,
        max_voxels: int = 20000,
        deterministic: bool = True,
    ) -> Any:
        """Voxels (M, max_points, C), coordinates (M, 3) as (z, y, x), points per voxel (M,)."""
        if points.is_cuda or points.dtype != torch.float32 or -1 in (max_points, max_voxels):
            return self._original(
                points, voxel_size, coors_range, max_points, max_voxels, deterministic
            )
        found = voxelize(
            points.detach().numpy(),
            torch.as_tensor(voxel_size, dtype=torch.float32).numpy(),
            torch.as_tensor(coors_range, dtype=torch.float32).numpy(),
            max_points,
            max_voxels,
        )
        return tuple(torch.from_numpy(array) for array in found)
