"""The host's LiDAR detectors whose head also reads the points."""

from __future__ import annotations

from typing import Any, NamedTuple

from mmdet3d.models.detectors import CenterPoint, MVXFasterRCNN, VoxelNet
from mmdet3d.registry import MODELS
from torch import Tensor


class MapsAndPoints(NamedTuple):
    """What a detector hands to a ``RefinedDenseHead``.

    Attributes:
        maps: of the neck, as the wrapped dense head takes them.
        points: B clouds ``(P, C)``, C >= 4, LiDAR frame, after augmentation and range filter.
    """

    maps: Any
    points: list[Tensor]


@MODELS.register_module()
class RefinedVoxelNet(VoxelNet):
    """``VoxelNet`` whose head gets the points beside the neck's maps; arguments as the host's."""

    def extract_feat(self, batch_inputs_dict: dict[str, Any]) -> MapsAndPoints:
        """Return maps and points of B frames; inputs as the host's."""
        return MapsAndPoints(super().extract_feat(batch_inputs_dict), batch_inputs_dict["points"])


class _PointsBesideMaps:
    """Makes a multi-modal detector of the host hand its points to its head."""

    def extract_pts_feat(
        self,
        voxel_dict: dict[str, Tensor],
        points: list[Tensor],
        img_feats: Any = None,
        batch_input_metas: list[dict[str, Any]] | None = None,
    ) -> MapsAndPoints:
        """Return maps and points of B frames; arguments as the host's."""
        maps = super().extract_pts_feat(voxel_dict, points, img_feats, batch_input_metas)  # type: ignore[misc]
        return MapsAndPoints(maps, points)


@MODELS.register_module()
class RefinedCenterPoint(_PointsBesideMaps, CenterPoint):
    """``CenterPoint`` whose head gets the points beside the maps; arguments as the host's."""


@MODELS.register_module()
class RefinedMVXFasterRCNN(_PointsBesideMaps, MVXFasterRCNN):
    """``MVXFasterRCNN`` whose head gets the points beside the maps; arguments as the host's."""
