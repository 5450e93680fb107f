"""Two result sets on the same frames: before and after refinement, or model A and model B.

Intervals are percentiles of a paired bootstrap over frames. Frames of one drive resemble each
other: where a split holds few drives, the true uncertainty is larger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.errors import input_error
from ebm3d.evaluation.bootstrap import draw_weights, resampled_ap_r40
from ebm3d.evaluation.kitti_evaluation import format_threshold
from ebm3d.evaluation.kitti_protocol import DIFFICULTIES
from ebm3d.evaluation.localization import MatchedPairs, common_pairs, summarize
from ebm3d.evaluation.matching import COUNTED, FloatArray
from ebm3d.evaluation.matching_problem import MatchingProblem

CONFIDENCE = 0.95
NUM_REPLICATES = 1000
NUM_CHANGED = 10


@dataclass(frozen=True)
class ChangedBox:
    """A label, and the 3D IoU of the two sets' detections with it."""

    frame_id: str
    label: int  # position in its file, from 0
    class_name: str
    distance: float  # from the camera, horizontally, meters
    iou_first: float
    iou_second: float

    @property
    def change(self) -> float:
        """Second minus first."""
        return self.iou_second - self.iou_first


@dataclass(frozen=True)
class KittiComparison:
    """How two result sets differ.

    Args:
        average_precision: by class, metric, threshold ``"0.70"`` and difficulty: ``first``,
            ``second``, ``difference``, ``low`` and ``high``, in percent (AP R40).
        same_pairs: by class and difficulty: summaries of the pairs common to both, ``first`` and
            ``second``, and ``mean_iou_3d_difference`` with ``low`` and ``high``.
        worsened: the boxes that lost most 3D IoU, by class.
        improved: the boxes that gained most.
    """

    average_precision: Mapping[str, Any]
    same_pairs: Mapping[str, Any]
    worsened: Mapping[str, Sequence[ChangedBox]]
    improved: Mapping[str, Sequence[ChangedBox]]

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as a tree of plain values."""
        tree: dict[str, Any] = {}
        for class_name, figures in self.average_precision.items():
            tree[class_name] = {**figures, "same_pairs": self.same_pairs[class_name]}
            for name, boxes in (("improved", self.improved), ("worsened", self.worsened)):
                tree[class_name][name] = [
                    {**vars(changed), "change": changed.change} for changed in boxes[class_name]
                ]
        return tree


def compare_kitti(
    first: MatchingProblem,
    second: MatchingProblem,
    thresholds: Mapping[str, Sequence[float]],
    *,
    partners: NDArray[np.int64] | None = None,
    num_replicates: int = NUM_REPLICATES,
    num_changed: int = NUM_CHANGED,
    seed: int = 0,
    progress: Callable[[Iterable[str]], Iterable[str]] | None = None,
) -> KittiComparison:
    """Compare two result sets on the same frames and labels.

    Args:
        first: labels and the first set of detections.
        second: the same labels and the second set.
        thresholds: by class, of ``resolve_iou_thresholds``.
        partners: see ``common_pairs``; for before and after refinement.
        num_replicates: of the bootstrap.
        num_changed: length of the lists of changed boxes.
        seed: of the bootstrap.
        progress: wraps the iterable of classes.

    Raises:
        ValueError: if the two have different labels.
    """
    frames = [(problem.labels.frame_ids, len(problem.label_names)) for problem in (first, second)]
    if frames[0] != frames[1]:
        got = f"{len(first.labels)} and {len(second.labels)} frames, or other labels"
        raise input_error("both result sets", "on the same frames and labels", got)
    weights = draw_weights(len(first.labels), num_replicates, seed)
    average_precision: dict[str, Any] = {}
    same_pairs: dict[str, dict[str, Any]] = {}
    improved: dict[str, list[ChangedBox]] = {}
    worsened: dict[str, list[ChangedBox]] = {}
    for name in progress(thresholds) if progress else thresholds:
        average_precision[name] = _compare_ap(first, second, name, thresholds[name], weights)
        same_pairs[name] = {}
        for difficulty in DIFFICULTIES:
            pairs = common_pairs(first, second, name, difficulty, partners)
            num_labels = int((first.status(name, difficulty)[0] == COUNTED).sum())
            same_pairs[name][difficulty.name] = _compare_pairs(first, *pairs, num_labels, weights)
        changed = sorted(_changed_boxes(first, name, *pairs), key=lambda box: box.change)
        worsened[name] = [box for box in changed[:num_changed] if box.change < 0]
        improved[name] = [box for box in changed[::-1][:num_changed] if box.change > 0]
    return KittiComparison(average_precision, same_pairs, worsened, improved)


def _compare_ap(
    first: MatchingProblem,
    second: MatchingProblem,
    class_name: str,
    thresholds: Sequence[float],
    weights: NDArray[np.int32],
) -> dict[str, Any]:
    """AP R40 of both sets with intervals, by metric, threshold and difficulty."""
    weights = np.concatenate([np.ones_like(weights[:1]), weights])  # every frame once: plain AP
    tree: dict[str, Any] = {}
    for metric in first.metrics:
        for difficulty in DIFFICULTIES:
            statuses = [problem.status(class_name, difficulty) for problem in (first, second)]
            changes = [
                problem.match(metric, thresholds, *status)
                for problem, status in zip((first, second), statuses, strict=True)
            ]
            for k, threshold in enumerate(thresholds):
                before, after = (
                    resampled_ap_r40(p, part.counts[k], part.recall_scores[k], labels, weights)
                    for p, part, (labels, _) in zip((first, second), changes, statuses, strict=True)
                )
                by_threshold = tree.setdefault(metric, {})
                by_threshold.setdefault(format_threshold(threshold), {})[difficulty.name] = {
                    "first": float(before[0]),
                    "second": float(after[0]),
                    "difference": float(after[0] - before[0]),
                    **interval(after[1:] - before[1:]),
                }
    return tree


def _compare_pairs(
    problem: MatchingProblem,
    first: MatchedPairs,
    second: MatchedPairs,
    num_labels: int,
    weights: NDArray[np.int32],
) -> dict[str, Any]:
    """Summaries of common pairs, and the difference of the mean 3D IoU with its interval."""
    figures: dict[str, Any] = {
        "first": summarize(first, num_labels),
        "second": summarize(second, num_labels),
        "mean_iou_3d_difference": None,
        "low": None,
        "high": None,
    }
    if len(first):
        change = second.iou_3d - first.iou_3d
        frames = problem.labels.frame_of_object[first.labels]
        sums = weights @ np.bincount(frames, change, minlength=len(problem.labels))
        num_pairs = weights @ np.bincount(frames, minlength=len(problem.labels))
        figures["mean_iou_3d_difference"] = float(change.mean())
        figures |= interval(sums[num_pairs > 0] / num_pairs[num_pairs > 0])
    return figures


def _changed_boxes(
    problem: MatchingProblem, class_name: str, first: MatchedPairs, second: MatchedPairs
) -> list[ChangedBox]:
    """All common pairs as changed boxes."""
    labels, rows = problem.labels, first.labels
    frames = labels.frame_of_object[rows]
    columns = (
        (rows - labels.starts[frames]).tolist(),
        np.hypot(*labels.objects.location[rows][:, [0, 2]].T).tolist(),
        first.iou_3d.tolist(),
        second.iou_3d.tolist(),
    )
    return [
        ChangedBox(labels.frame_ids[frame], label, class_name, distance, before, after)
        for frame, label, distance, before, after in zip(frames, *columns, strict=True)
    ]


def interval(samples: FloatArray) -> dict[str, float]:
    """The percentiles that hold ``CONFIDENCE`` of the samples between them."""
    low, high = np.quantile(samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"low": float(low), "high": float(high)}
