"""The KITTI object evaluation as one pure function of labels and detections.

G labels, D detections. docs/evaluation.md states every rule with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ebm3d.datasets.kitti_frames import KittiFrames
from ebm3d.evaluation.average_precision import RECALL_POINTS, PrecisionRecallCurve
from ebm3d.evaluation.kitti_protocol import (
    CLASSES,
    DIFFICULTIES,
    METRICS,
    resolve_iou_thresholds,
)
from ebm3d.evaluation.left_out import evaluation_notes
from ebm3d.evaluation.matching import COUNTED, IGNORED, NO_FALSE_POSITIVE
from ebm3d.evaluation.matching_problem import BoolArray, MatchingProblem

CurveKey = tuple[str, str, float, str]

SIMILARITY_NAMES = {"bbox": "aos", "bev": "ahs_bev", "3d": "ahs_3d"}
"""Average orientation (heading) similarity by the metric that matched: of alpha or rotation_y."""
_OVERLAP_NAMES = {name: metric for metric, name in SIMILARITY_NAMES.items()}


@dataclass(frozen=True)
class KittiEvaluation:
    """Precision-recall curves and average precision.

    Args:
        curves: by class, metric (``bbox``, ``bev``, ``3d``), overlap threshold and difficulty.
        num_labels: labels that count, by class and difficulty.
        num_detections: by class.
        notes: what a reader of the numbers must know.
        metrics: those with a meaning; without 2D boxes of labels, no ``bbox``.
    """

    curves: Mapping[CurveKey, PrecisionRecallCurve]
    num_labels: Mapping[tuple[str, str], int]
    num_detections: Mapping[str, int]
    notes: tuple[str, ...] = ()
    metrics: tuple[str, ...] = METRICS

    def average_precision(
        self, class_name: str, metric: str, threshold: float, difficulty: str, name: str = "ap_r40"
    ) -> float:
        """Return ``"ap_r40"`` or ``"ap_r11"`` in percent.

        ``metric`` is ``"bbox"``, ``"bev"``, ``"3d"``, or ``"aos"``, ``"ahs_bev"``, ``"ahs_3d"``.
        """
        overlap = _OVERLAP_NAMES.get(metric, metric)
        curve = self.curves[class_name, overlap, threshold, difficulty]
        if metric == overlap:
            return curve.average_precision(name)
        return curve.average_similarity(name)

    def thresholds(self, class_name: str) -> list[float]:
        """Return the overlap thresholds at which a class was evaluated, ascending."""
        return sorted({key[2] for key in self.curves if key[0] == class_name})

    def as_dict(self) -> dict[str, Any]:
        """Return all AP by class, metric, threshold, difficulty; ``None``: nothing to evaluate."""
        tree: dict[str, Any] = {}
        for class_name, overlap, threshold, difficulty in self.curves:
            for metric in (overlap, SIMILARITY_NAMES[overlap]):
                figures: dict[str, float | None] = {}
                for name in RECALL_POINTS:
                    key = (class_name, metric, threshold, difficulty)
                    value = self.average_precision(*key, name)
                    absent = math.isnan(value) or self.num_labels[class_name, difficulty] == 0
                    figures[name] = None if absent else value
                by_threshold = tree.setdefault(class_name, {}).setdefault(metric, {})
                by_threshold.setdefault(format_threshold(threshold), {})[difficulty] = figures
        for class_name, by_metric in tree.items():
            by_metric["num_labels"] = {
                d.name: self.num_labels[class_name, d.name] for d in DIFFICULTIES
            }
            by_metric["num_detections"] = self.num_detections[class_name]
        return tree


def format_threshold(threshold: float) -> str:
    """Return the threshold as written in keys: two digits, more where two do not suffice."""
    short = f"{threshold:.2f}"
    return short if float(short) == threshold else repr(threshold)


def evaluate_kitti(
    labels: KittiFrames,
    detections: KittiFrames,
    *,
    classes: Sequence[str] = CLASSES,
    iou_thresholds: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
) -> KittiEvaluation:
    """Evaluate detections by the protocol of the KITTI object benchmark.

    Args:
        labels: ground truth with DontCare regions, camera frame.
        detections: with scores, of the same frames in the same order.
        classes: which to evaluate, of ``CLASSES``.
        iou_thresholds: for all classes, or by class; ``None``: the defaults of ``kitti_protocol``.

    Raises:
        ValueError: if frames differ, scores are missing, or a class or threshold is unknown.
    """
    problem = MatchingProblem(labels, detections)
    return evaluate_problem(problem, resolve_iou_thresholds(classes, iou_thresholds))


def evaluate_problem(
    problem: MatchingProblem,
    thresholds: Mapping[str, Sequence[float]],
    *,
    metrics: Sequence[str] = METRICS,
    band: tuple[BoolArray, BoolArray] | None = None,
) -> KittiEvaluation:
    """Evaluate prepared labels and detections, all of them or those of a band.

    Labels outside the band are ignored. Detections outside may match a label inside, but are no
    false positives.

    Args:
        problem: labels and detections with their overlaps.
        thresholds: by class, of ``resolve_iou_thresholds``.
        metrics: of ``METRICS``.
        band: which labels ``(G,)`` and detections ``(D,)`` lie in a band, of distance for example.
    """
    curves: dict[CurveKey, PrecisionRecallCurve] = {}
    num_labels: dict[tuple[str, str], int] = {}
    for class_name, values in thresholds.items():
        for difficulty in DIFFICULTIES:
            labels, detections = problem.status(class_name, difficulty)
            if band is not None:
                labels[(labels == COUNTED) & ~band[0]] = IGNORED
                detections[(detections == COUNTED) & ~band[1]] = NO_FALSE_POSITIVE
            num_labels[class_name, difficulty.name] = int((labels == COUNTED).sum())
            for metric in metrics:
                changes = problem.match(metric, values, labels, detections)
                of_metric = problem.curves(metric, changes, labels)
                for value, curve in zip(values, of_metric, strict=True):
                    curves[class_name, metric, value, difficulty.name] = curve
    num_detections = {name: int(problem.is_detected(name).sum()) for name in thresholds}
    notes = tuple(evaluation_notes(problem, num_labels, num_detections))
    shown = tuple(metric for metric in metrics if metric in problem.metrics)
    return KittiEvaluation(curves, num_labels, num_detections, notes, shown)
