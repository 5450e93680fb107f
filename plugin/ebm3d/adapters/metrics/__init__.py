"""Metrics of the registry ``METRICS``."""

from __future__ import annotations

from ebm3d.adapters.metrics.kitti_metric import EBM3DKittiMetric
from ebm3d.adapters.metrics.nuscenes_metric import EBM3DNuScenesMetric

__all__ = ["EBM3DKittiMetric", "EBM3DNuScenesMetric"]
