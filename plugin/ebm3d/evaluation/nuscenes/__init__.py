"""The nuScenes protocol, localization errors and comparisons, exact and without the devkit."""

from __future__ import annotations

from ebm3d.evaluation.nuscenes.boxes import GroundTruth, NuScenesBoxes, Racks, join_boxes
from ebm3d.evaluation.nuscenes.ground_truth import read_ground_truth, read_table_truth
from ebm3d.evaluation.nuscenes.infos import read_info_truth
from ebm3d.evaluation.nuscenes.lidar_frame import detections_of_frame
from ebm3d.evaluation.nuscenes.protocol import PROTOCOL, DetectionProtocol
from ebm3d.evaluation.nuscenes.report import NuScenesReport, evaluate_nuscenes
from ebm3d.evaluation.nuscenes.results import read_results
from ebm3d.evaluation.nuscenes.writing import write_results

__all__ = [
    "PROTOCOL",
    "DetectionProtocol",
    "GroundTruth",
    "NuScenesBoxes",
    "NuScenesReport",
    "Racks",
    "detections_of_frame",
    "evaluate_nuscenes",
    "join_boxes",
    "read_ground_truth",
    "read_info_truth",
    "read_results",
    "read_table_truth",
    "write_results",
]
