"""The KITTI protocol, localization errors and comparisons, exact and on the CPU."""

from __future__ import annotations

from ebm3d.datasets.kitti_splits import read_ids
from ebm3d.evaluation.comparison import KittiComparison, compare_kitti
from ebm3d.evaluation.kitti_evaluation import KittiEvaluation, evaluate_kitti
from ebm3d.evaluation.kitti_folders import EvaluationInput, read_folders
from ebm3d.evaluation.kitti_protocol import CLASSES, resolve_iou_thresholds
from ebm3d.evaluation.kitti_report import KittiReport, report_kitti
from ebm3d.evaluation.matching_problem import MatchingProblem

__all__ = [
    "CLASSES",
    "EvaluationInput",
    "KittiComparison",
    "KittiEvaluation",
    "KittiReport",
    "MatchingProblem",
    "compare_kitti",
    "evaluate_kitti",
    "read_folders",
    "read_ids",
    "report_kitti",
    "resolve_iou_thresholds",
]
