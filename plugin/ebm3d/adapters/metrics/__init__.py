"""Metrics of the registry ``METRICS``."""

from __future__ import annotations

from ebm3d.adapters.metrics.kitti_metric import EBM3DKittiMetric

__all__ = ["EBM3DKittiMetric"]
