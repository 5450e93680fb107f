"""The nuScenes data set: tables, sweeps, splits, infos."""

from __future__ import annotations

from ebm3d.datasets.nuscenes.preparation import prepare_nuscenes
from ebm3d.datasets.nuscenes.report import NuScenesPreparationReport
from ebm3d.datasets.nuscenes.tables import NuScenesTables, read_tables

__all__ = ["NuScenesPreparationReport", "NuScenesTables", "prepare_nuscenes", "read_tables"]
