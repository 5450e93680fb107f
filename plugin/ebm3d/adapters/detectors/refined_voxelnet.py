"""SECOND and PointPillars whose head also reads the points."""

from __future__ import annotations

from typing import Any, NamedTuple

from mmdet3d.models.detectors import VoxelNet
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
