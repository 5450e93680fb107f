"""Frames without a point inside the range."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor


@cache
def repair_empty_clouds() -> bool:
    """Let ``VoxelNet`` count the clouds of a batch, of which any may be empty.

    Upstream defect: ``VoxelNet.extract_feat`` takes the batch size from the last voxel
    (``voxelnet.py``, line 42): an IndexError without any, one frame short where the last is empty.
    A batch without any voxel gets a map of zeros, as a frame without voxels does.
    """
    from mmdet3d.models.detectors import VoxelNet

    VoxelNet.extract_feat = _extract_feat
    return True


def _extract_feat(self: Any, batch_inputs_dict: dict[str, Any]) -> tuple[Tensor, ...]:
    """Features of a batch of clouds."""
    voxels = batch_inputs_dict["voxels"]
    coors = voxels["coors"]
    clouds = batch_inputs_dict.get("points")
    batch_size = len(clouds) if clouds is not None else int(coors[-1, 0]) + 1
    if len(coors) == 0:
        bev = voxels["voxels"].new_zeros((batch_size, *_bev_shape(self.middle_encoder)))
    else:
        features = self.voxel_encoder(voxels["voxels"], voxels["num_points"], coors)
        bev = self.middle_encoder(features, coors, batch_size)
    features = self.backbone(bev)
    return self.neck(features) if self.with_neck else features


def _bev_shape(encoder: Any) -> tuple[int, int, int]:
    """(C, H, W) of the map a middle encoder makes."""
    if hasattr(encoder, "nx"):
        return encoder.in_channels, encoder.ny, encoder.nx
    depth, height, width = (int(size) for size in encoder.sparse_shape)
    for layer in encoder.modules():
        if hasattr(layer, "subm") and not layer.subm:
            sizes = (depth, height, width), layer.kernel_size, layer.stride, layer.padding
            depth, height, width = (
                (size + 2 * padding - kernel) // stride + 1
                for size, kernel, stride, padding in zip(*sizes, strict=True)
            )
    return encoder.output_channels * depth, height, width
