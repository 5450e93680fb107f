"""Detectors of the registry ``MODELS``."""

from ebm3d.adapters.detectors.refined_detectors import (
    MapsAndPoints,
    RefinedCenterPoint,
    RefinedMVXFasterRCNN,
    RefinedVoxelNet,
)

__all__ = ["MapsAndPoints", "RefinedCenterPoint", "RefinedMVXFasterRCNN", "RefinedVoxelNet"]
