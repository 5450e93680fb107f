"""The nuScenes data set: tables, sweeps, splits, infos."""

from __future__ import annotations

from ebm3d.datasets.nuscenes.preparation import prepare_nuscenes
from ebm3d.datasets.nuscenes.report import NuScenesReport
from ebm3d.datasets.nuscenes.tables import NuScenesTables, read_tables

__all__ = ["NuScenesReport", "NuScenesTables", "prepare_nuscenes", "read_tables"]
