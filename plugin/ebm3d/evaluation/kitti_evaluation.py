"""The KITTI object evaluation as one pure function of labels and detections.

G labels, D detections. docs/evaluation.md states every rule with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.kitti_frames import KittiFrames
from ebm3d.errors import input_error
from ebm3d.evaluation.average_precision import RECALL_POINTS, PrecisionRecallCurve, sample_curve
from ebm3d.evaluation.kitti_protocol import (
    CLASSES,
    DIFFICULTIES,
    METRICS,
    NEIGHBORS,
    NO_ANGLE,
    NUM_SAMPLES,
    Difficulty,
    resolve_iou_thresholds,
)
from ebm3d.evaluation.matching import (
    COUNTED,
    IGNORED,
    NO_FALSE_POSITIVE,
    SKIPPED,
    Frame,
    MatchChanges,
    StatusArray,
    match_frames,
)
from ebm3d.evaluation.overlaps import FrameOverlaps, frame_overlaps

BoolArray = NDArray[np.bool_]
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
    """

    curves: Mapping[CurveKey, PrecisionRecallCurve]
    num_labels: Mapping[tuple[str, str], int]
    num_detections: Mapping[str, int]
    notes: tuple[str, ...] = ()

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
    notes = tuple(_notes(problem, num_labels, num_detections))
    return KittiEvaluation(curves, num_labels, num_detections, notes)


class MatchingProblem:
    """Labels and detections of :func:`evaluate_kitti`, with all that matchings share."""

    def __init__(self, labels: KittiFrames, detections: KittiFrames) -> None:
        _check_frames(labels, detections)
        self.labels = labels
        self.detections = detections
        self.scores = np.ascontiguousarray(detections.objects.score, dtype=np.float64)
        self.overlaps: FrameOverlaps = frame_overlaps(labels, detections)
        self.label_names = np.char.lower(labels.objects.names)
        self.detection_names = np.char.lower(detections.objects.names)
        sizes = detections.objects.dimensions
        self.has_angles = not bool((detections.objects.alpha == NO_ANGLE).any())
        self.has_box_3d = not len(sizes) or bool((sizes > 0).all(axis=1).any())
        self._order = np.argsort(-self.scores, kind="stable")

    def is_detected(self, class_name: str) -> BoolArray:
        """Return which detections are of the class, ``(D,)``."""
        return np.asarray(self.detection_names == class_name.lower())

    def status(self, class_name: str, difficulty: Difficulty) -> tuple[StatusArray, StatusArray]:
        """Return which labels ``(G,)`` and detections ``(D,)`` count, are ignored or take no part.

        As in the official tool, a label must be higher than the least height, a detection at least
        that high; too low a 2D box makes a detection of any class ignored.
        """
        objects = self.labels.objects
        same_class = self.label_names == class_name.lower()
        neighbor = np.isin(self.label_names, NEIGHBORS[class_name.lower()])
        beyond = (
            (objects.occluded > difficulty.max_occlusion)
            | (objects.truncated > difficulty.max_truncation)
            | (objects.bbox[:, 3] - objects.bbox[:, 1] <= difficulty.min_height)
        )
        labels = np.full(len(objects), SKIPPED, dtype=np.int8)
        labels[same_class & ~beyond] = COUNTED
        labels[(same_class & beyond) | neighbor] = IGNORED
        detections = np.full(len(self.scores), SKIPPED, dtype=np.int8)
        detections[self.is_detected(class_name)] = COUNTED
        detections[_heights(self.detections) < difficulty.min_height] = IGNORED
        return labels, detections

    def match(
        self,
        metric: str,
        thresholds: Sequence[float],
        label_status: StatusArray,
        detection_status: StatusArray,
    ) -> MatchChanges:
        """Match all frames at all overlap thresholds, with the statuses of ``status``."""
        share = self.overlaps.dont_care_share
        angle, share = ("alpha", share) if metric == "bbox" else ("rotation_y", 0 * share)
        label_angles, detection_angles = (
            np.ascontiguousarray(getattr(frames.objects, angle))
            for frames in (self.labels, self.detections)
        )
        iou, labels, detections = self.overlaps.iou[metric], label_status, detection_status
        frames = Frame(iou, labels, label_angles, detections, detection_angles, self.scores, share)
        starts = self.labels.starts, self.detections.starts, self.overlaps.pair_starts
        return match_frames(*starts, frames, np.asarray(thresholds, dtype=np.float64))

    def curves(
        self, metric: str, changes: MatchChanges, label_status: StatusArray
    ) -> Iterator[PrecisionRecallCurve]:
        """Sample the curve of each threshold of ``match``."""
        num_labels = int((label_status == COUNTED).sum())
        with_angles = self.has_angles if metric == "bbox" else self.has_box_3d
        scores = self.scores[self._order]
        for counts, recall_scores in zip(changes.counts, changes.recall_scores, strict=True):
            totals = np.cumsum(counts[self._order], axis=0)
            yield sample_curve(recall_scores, num_labels, scores, totals, with_angles)


def _heights(frames: KittiFrames) -> NDArray[np.float64]:
    """Heights of the 2D boxes, pixels."""
    return np.abs(frames.objects.bbox[:, 3] - frames.objects.bbox[:, 1])


def _check_frames(labels: KittiFrames, detections: KittiFrames) -> None:
    """Raise unless labels and detections belong together."""
    if labels.frame_ids != detections.frame_ids:
        differing = set(labels.frame_ids) ^ set(detections.frame_ids)
        got = f"{len(detections)} frames for {len(labels)} labeled ones"
        got += f", in one set only: {min(differing)!r}" if differing else ", in another order"
        remedy = "bring both to the same frames with KittiFrames.select"
        raise input_error("frames of detections", "those of labels, in the same order", got, remedy)
    score = detections.objects.score
    if score is None:
        raise input_error("detections", "scored", "objects without score", "read with scores=True")
    for name, value in (("score", score), ("location", detections.objects.location)):
        if not np.isfinite(value).all():
            row = int(np.argwhere(~np.isfinite(value))[0][0])
            frame = detections.frame_ids[int(detections.frame_of_object[row])]
            raise input_error(f"{name} of detections", "finite", f"{value[row]} in frame {frame!r}")


def _notes(
    problem: MatchingProblem,
    num_labels: Mapping[tuple[str, str], int],
    num_detections: Mapping[str, int],
) -> Iterator[str]:
    """What a reader of the numbers must know."""
    for (class_name, difficulty), num in num_labels.items():
        if num == 0:
            yield f"{class_name}, {difficulty}: no label counts, so AP is 0 whatever is detected."
        elif num < NUM_SAMPLES:
            yield (
                f"{class_name}, {difficulty}: only {num} labels count; with fewer than 41 even "
                "perfect detections score below 100."
            )
    for class_name, num in num_detections.items():
        if num == 0:
            yield f"{class_name}: nothing is detected, so AP is 0."
    if not problem.has_angles:
        yield "alpha is -10 (unknown) for some detections, so AOS is not evaluated."
    if not problem.has_box_3d:
        yield "no detection gives a 3D box, so BEV and 3D are 0."
    heights = _heights(problem.detections)
    if num_flat := int((heights == 0).sum()):
        yield (
            f"{num_flat} of {len(heights)} detections have a 2D box without height; the protocol "
            "ignores them in every metric. Write the projection of the 3D box into the image."
        )
