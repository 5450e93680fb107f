"""Frames without a point inside the range."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor

from ebm3d.adapters.parts import part_of


@cache
def repair_empty_clouds() -> bool:
    """Let the host's detectors count the clouds of a batch, of which any may be empty.

    Upstream defect: ``VoxelNet.extract_feat`` (``voxelnet.py``, line 42) and
    ``MVXTwoStageDetector.extract_pts_feat`` (``mvx_two_stage.py``, line 213) take the batch size
    from the last voxel: an IndexError without any, one frame short where the last is empty.
    A batch without any voxel gets a map of zeros, as a frame without voxels does.
    """
    from mmdet3d.models.detectors import VoxelNet
    from mmdet3d.models.detectors.mvx_two_stage import MVXTwoStageDetector

    def extract_feat(self: Any, batch_inputs_dict: dict[str, Any]) -> tuple[Tensor, ...]:
        return _extract_feat(self, batch_inputs_dict["voxels"], batch_inputs_dict.get("points"))

    def extract_pts_feat(
        self: Any,
        voxel_dict: Any,
        points: Any = None,
        img_feats: Any = None,
        batch_input_metas: Any = None,
    ) -> Any:
        if not self.with_pts_bbox:
            return None
        return _extract_feat(self, voxel_dict, points, img_feats, batch_input_metas)

    VoxelNet.extract_feat = extract_feat
    MVXTwoStageDetector.extract_pts_feat = extract_pts_feat
    return True


def _extract_feat(model: Any, voxels: Any, clouds: Any, *more: Any) -> tuple[Tensor, ...]:
    """Features of a batch of clouds; ``more`` is handed to the voxel encoder."""
    coors, encoder = voxels["coors"], part_of(model, "middle_encoder")
    batch_size = len(clouds) if clouds is not None else int(coors[-1, 0]) + 1
    if len(coors) == 0:
        bev = voxels["voxels"].new_zeros((batch_size, *_bev_shape(encoder)))
    else:
        encode = part_of(model, "voxel_encoder")
        features = encode(voxels["voxels"], voxels["num_points"], coors, *more)
        bev = encoder(features, coors, batch_size)
    maps = part_of(model, "backbone")(bev)
    neck = part_of(model, "neck")
    return maps if neck is None else neck(maps)


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
