"""All figures of one result set: AP, AP by distance, localization errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.errors import shape_error
from ebm3d.evaluation.kitti_evaluation import KittiEvaluation, evaluate_problem
from ebm3d.evaluation.kitti_protocol import DIFFICULTIES
from ebm3d.evaluation.left_out import count_left_out
from ebm3d.evaluation.localization import (
    DISTANCE_BANDS,
    POINT_BANDS,
    MatchedPairs,
    bands,
    find_pairs,
    summarize,
    summarize_bands,
)
from ebm3d.evaluation.matching import COUNTED
from ebm3d.evaluation.matching_problem import MatchingProblem

OCCLUSION_NAMES = ("visible", "partly", "largely")


@dataclass(frozen=True)
class KittiReport:
    """All figures of one result set.

    Args:
        evaluation: the protocol's curves and averages.
        by_distance: the same for each band of distance, BEV and 3D.
        localization: summaries of the matched pairs by class: ``easy``, ``moderate``, ``hard``,
            ``by_distance``, ``by_occlusion`` and, where points are counted, ``by_points``.
        pairs: matched pairs by class and difficulty.
        left_out: what took no part, of ``count_left_out``.
    """

    evaluation: KittiEvaluation
    by_distance: Mapping[str, KittiEvaluation]
    localization: Mapping[str, dict[str, Any]]
    pairs: Mapping[tuple[str, str], MatchedPairs]
    left_out: Mapping[str, dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Return all figures: the protocol's layout and the other attributes by class."""
        tree = self.evaluation.as_dict()
        for name, evaluation in self.by_distance.items():
            for class_name, figures in evaluation.as_dict().items():
                tree[class_name].setdefault("by_distance", {})[name] = figures
        for class_name, summary in self.localization.items():
            tree[class_name]["localization"] = summary
            tree[class_name]["left_out"] = self.left_out[class_name]
        return tree


def report_kitti(
    problem: MatchingProblem,
    thresholds: Mapping[str, Sequence[float]],
    *,
    num_points: NDArray[np.int64] | None = None,
    distance_bands: Sequence[float] = DISTANCE_BANDS,
    num_frames_left_out: int = 0,
) -> KittiReport:
    """Evaluate one result set in full.

    Args:
        problem: G labels and their detections.
        thresholds: by class, of ``resolve_iou_thresholds``.
        num_points: LiDAR points in the box of each label, ``(G,)``, -1 where unknown.
        distance_bands: borders, ascending, horizontal meters from the camera.
        num_frames_left_out: labeled frames without predictions.

    Raises:
        ValueError: if ``num_points`` does not fit the labels or the borders do not ascend.
    """
    objects = problem.labels.objects
    if num_points is not None and num_points.shape != (len(objects),):
        raise shape_error("num_points", f"({len(objects)},), one a label", num_points)
    distances = [
        np.hypot(part.location[:, 0], part.location[:, 2])
        for part in (objects, problem.detections.objects)
    ]
    by_distance = {}
    for name, low, high in bands(distance_bands):
        labels, detections = ((low <= distance) & (distance < high) for distance in distances)
        by_distance[name] = evaluate_problem(
            problem, thresholds, metrics=("bev", "3d"), band=(labels, detections)
        )
    pairs, localization = {}, {}
    for class_name in thresholds:
        summary: dict[str, Any] = {}
        for difficulty in DIFFICULTIES:
            matched = find_pairs(problem, class_name, difficulty)
            status, _ = problem.status(class_name, difficulty)
            pairs[class_name, difficulty.name] = matched
            summary[difficulty.name] = summarize(matched, int((status == COUNTED).sum()))
        # Bands are of the hardest difficulty, the last one.
        summary["by_distance"] = summarize_bands(matched, distances[0], status, distance_bands)
        by_level = summarize_bands(matched, objects.occluded, status, [0, 1, 2, 3])
        summary["by_occlusion"] = dict(zip(OCCLUSION_NAMES, by_level.values(), strict=True))
        if num_points is not None:
            summary["by_points"] = summarize_bands(matched, num_points, status, POINT_BANDS)
        localization[class_name] = summary
    evaluation = evaluate_problem(problem, thresholds)
    left_out = count_left_out(problem, list(thresholds), num_frames_left_out)
    return KittiReport(evaluation, by_distance, localization, pairs, left_out)
