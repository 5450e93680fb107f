"""The nuScenes protocol, localization errors and comparisons, exact and without the devkit."""

from __future__ import annotations

from ebm3d.evaluation.nuscenes.boxes import GroundTruth, NuScenesBoxes
from ebm3d.evaluation.nuscenes.ground_truth import read_ground_truth, read_table_truth
from ebm3d.evaluation.nuscenes.lidar_frame import detections_of_frame
from ebm3d.evaluation.nuscenes.protocol import PROTOCOL
from ebm3d.evaluation.nuscenes.report import NuScenesReport, evaluate_nuscenes
from ebm3d.evaluation.nuscenes.results import read_results
from ebm3d.evaluation.nuscenes.writing import write_results

__all__ = [
    "PROTOCOL",
    "GroundTruth",
    "NuScenesBoxes",
    "NuScenesReport",
    "detections_of_frame",
    "evaluate_nuscenes",
    "read_ground_truth",
    "read_results",
    "read_table_truth",
    "write_results",
]
