"""Detectors of the registry ``MODELS``."""

from ebm3d.adapters.detectors.refined_voxelnet import MapsAndPoints, RefinedVoxelNet

__all__ = ["MapsAndPoints", "RefinedVoxelNet"]
