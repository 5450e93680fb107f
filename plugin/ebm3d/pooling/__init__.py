"""Boxes to features: from the bird's-eye-view map, and from the points around the box."""

from ebm3d.pooling.bev_grid_pool import BEVGridPool
from ebm3d.pooling.bilinear import bilinear_gather
from ebm3d.pooling.geometry import BEVGeometry, stack_maps
from ebm3d.pooling.point_box_pool import PointBoxPool
from ebm3d.pooling.point_crops import PointCrops, crop_points
from ebm3d.pooling.scene import BoxPool, Scenes

__all__ = [
    "BEVGeometry",
    "BEVGridPool",
    "BoxPool",
    "PointBoxPool",
    "PointCrops",
    "Scenes",
    "bilinear_gather",
    "crop_points",
    "stack_maps",
]
