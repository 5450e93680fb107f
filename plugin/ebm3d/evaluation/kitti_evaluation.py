"""The KITTI object evaluation as one pure function of labels and detections.

docs/evaluation.md states every rule with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.kitti_frames import KittiFrames
from ebm3d.errors import input_error
from ebm3d.evaluation.average_precision import (
    RECALL_POINTS,
    PrecisionRecallCurve,
    sample_curve,
)
from ebm3d.evaluation.kitti_protocol import (
    CLASSES,
    DIFFICULTIES,
    DONT_CARE,
    METRICS,
    NEIGHBORS,
    NO_ANGLE,
    Difficulty,
    resolve_iou_thresholds,
)
from ebm3d.evaluation.matching import (
    COUNTED,
    IGNORED,
    NO_FALSE_POSITIVE,
    SKIPPED,
    MatchSteps,
    match_frames,
)
from ebm3d.evaluation.overlaps import FrameOverlaps, frame_overlaps

FloatArray = NDArray[np.float64]
StatusArray = NDArray[np.int8]

SIMILARITY_NAMES = {"bbox": "aos", "bev": "ahs_bev", "3d": "ahs_3d"}
"""Average orientation (heading) similarity by the metric that matched: alpha for ``bbox``,
rotation_y for the others, as in the official tool's extensions."""

CurveKey = tuple[str, str, float, str]


@dataclass(frozen=True)
class KittiEvaluation:
    """What one evaluation found.

    Attributes:
        curves: by class, metric (``bbox``, ``bev``, ``3d``), overlap threshold and difficulty.
        num_labels: labels that count, by class and difficulty.
        num_detections: detections by class.
        notes: what a reader of the numbers must know: classes without labels or detections,
            metrics that could not be evaluated.
    """

    curves: Mapping[CurveKey, PrecisionRecallCurve]
    num_labels: Mapping[tuple[str, str], int]
    num_detections: Mapping[str, int]
    notes: tuple[str, ...] = field(default=())

    def average_precision(
        self, class_name: str, metric: str, threshold: float, difficulty: str, name: str = "ap_r40"
    ) -> float:
        """Return one figure in percent.

        Args:
            class_name: ``"Car"``, ``"Pedestrian"`` or ``"Cyclist"``.
            metric: ``"bbox"``, ``"bev"``, ``"3d"``, or ``"aos"``, ``"ahs_bev"``, ``"ahs_3d"``.
            threshold: one of the overlap thresholds evaluated.
            difficulty: ``"easy"``, ``"moderate"`` or ``"hard"``.
            name: ``"ap_r40"`` or ``"ap_r11"``.

        Raises:
            KeyError: if it was not evaluated.
        """
        overlap = {v: k for k, v in SIMILARITY_NAMES.items()}.get(metric, metric)
        curve = self.curves[class_name, overlap, threshold, difficulty]
        if metric == overlap:
            return curve.average_precision(name)
        return curve.average_similarity(name)

    def as_dict(self) -> dict[str, Any]:
        """Return all AP by class, metric, threshold, difficulty; ``None``: nothing to evaluate."""
        tree: dict[str, Any] = {}
        for (class_name, metric, threshold, difficulty), curve in self.curves.items():
            for kind in (metric, SIMILARITY_NAMES[metric]):
                values = {
                    name: curve.average_precision(name)
                    if kind == metric
                    else curve.average_similarity(name)
                    for name in RECALL_POINTS
                }
                absent = self.num_labels[class_name, difficulty] == 0
                place = tree.setdefault(class_name, {}).setdefault(kind, {})
                place.setdefault(format_threshold(threshold), {})[difficulty] = {
                    name: None if absent or math.isnan(value) else value
                    for name, value in values.items()
                }
        for class_name, place in tree.items():
            place["num_labels"] = {
                d.name: self.num_labels[class_name, d.name] for d in DIFFICULTIES
            }
            place["num_detections"] = self.num_detections[class_name]
        return tree


def format_threshold(threshold: float) -> str:
    """Return the threshold as it stands in keys: two digits, more where two do not suffice."""
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
        classes: which to evaluate, of Car, Pedestrian, Cyclist.
        iou_thresholds: for bbox, BEV and 3D alike: for all classes, or by class; ``None`` for the
            defaults of ``kitti_protocol``.

    Returns:
        Precision-recall curves and average precision of every class, metric, threshold and
        difficulty.

    Raises:
        ValueError: if the frames differ, the detections have no scores, or a class or threshold
            is unknown.
    """
    problem = MatchingProblem(labels, detections)
    return evaluate_problem(problem, resolve_iou_thresholds(classes, iou_thresholds))


def evaluate_problem(
    problem: MatchingProblem,
    thresholds: Mapping[str, Sequence[float]],
    *,
    metrics: Sequence[str] = METRICS,
    band: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None,
) -> KittiEvaluation:
    """Evaluate prepared labels and detections, all of them or those of a band.

    Args:
        problem: labels and detections with their overlaps.
        thresholds: by class, of ``resolve_iou_thresholds``.
        metrics: which to evaluate, of ``METRICS``.
        band: which labels ``(G,)`` and detections ``(D,)`` lie in the band, see ``band_status``.

    Returns:
        As ``evaluate_kitti``.
    """
    curves: dict[CurveKey, PrecisionRecallCurve] = {}
    num_labels: dict[tuple[str, str], int] = {}
    for class_name, values in thresholds.items():
        for difficulty in DIFFICULTIES:
            label_status = problem.label_status(class_name, difficulty)
            detection_status = problem.detection_status(class_name, difficulty)
            if band is not None:
                label_status, detection_status = band_status(label_status, detection_status, *band)
            num_labels[class_name, difficulty.name] = int((label_status == COUNTED).sum())
            for metric in metrics:
                steps = problem.match(metric, values, label_status, detection_status)
                for value, curve in zip(
                    values, problem.curves(metric, steps, label_status), strict=True
                ):
                    curves[class_name, metric, value, difficulty.name] = curve
    num_detections = {name: int(problem.is_detected(name).sum()) for name in thresholds}
    notes = tuple(_notes(problem, num_labels, num_detections))
    return KittiEvaluation(curves, num_labels, num_detections, notes)


class MatchingProblem:
    """Labels and detections with everything that all matchings share, computed once.

    Args:
        labels: ground truth with DontCare regions, camera frame.
        detections: with scores, of the same frames in the same order.
        overlaps: of these, if known already.

    Raises:
        ValueError: if the frames differ or the detections have no finite scores.
    """

    def __init__(
        self,
        labels: KittiFrames,
        detections: KittiFrames,
        overlaps: FrameOverlaps | None = None,
    ) -> None:
        _check_frames(labels, detections)
        score = detections.objects.score
        assert score is not None
        self.labels = labels
        self.detections = detections
        self.scores = np.ascontiguousarray(score, dtype=np.float64)
        self.overlaps = frame_overlaps(labels, detections) if overlaps is None else overlaps
        self.label_names = np.char.lower(labels.objects.names)
        self.detection_names = np.char.lower(detections.objects.names)
        self.dont_care_share = self._dont_care_share()
        self.has_angles = not bool((detections.objects.alpha == NO_ANGLE).any())
        self.has_box_3d = bool(
            len(detections.objects) == 0 or (detections.objects.dimensions > 0).all(axis=1).any()
        )
        self._order = np.argsort(-self.scores, kind="stable")
        self.sorted_scores = self.scores[self._order]

    def is_detected(self, class_name: str) -> NDArray[np.bool_]:
        """Return which detections are of the class, shape ``(D,)``."""
        return np.asarray(self.detection_names == class_name.lower())

    def label_status(self, class_name: str, difficulty: Difficulty) -> StatusArray:
        """Return which labels count, are ignored or take no part, shape ``(G,)``.

        A label must be higher than the least height, a detection at least that high: the official
        tool compares so, and labels of exactly 25 and 40 pixels exist.
        """
        objects = self.labels.objects
        own = self.label_names == class_name.lower()
        neighbor = np.isin(self.label_names, NEIGHBORS[class_name.lower()])
        beyond = (
            (objects.occluded > difficulty.max_occlusion)
            | (objects.truncated > difficulty.max_truncation)
            | (objects.bbox[:, 3] - objects.bbox[:, 1] <= difficulty.min_height)
        )
        status = np.full(len(objects), SKIPPED, dtype=np.int8)
        status[own & ~beyond] = COUNTED
        status[(own & beyond) | neighbor] = IGNORED
        return status

    def detection_status(self, class_name: str, difficulty: Difficulty) -> StatusArray:
        """Return which detections count, are ignored or take no part, shape ``(D,)``.

        Too low a 2D box makes a detection of any class ignored, as in the official tool.
        """
        bbox = self.detections.objects.bbox
        status = np.full(len(bbox), SKIPPED, dtype=np.int8)
        status[self.is_detected(class_name)] = COUNTED
        status[np.abs(bbox[:, 3] - bbox[:, 1]) < difficulty.min_height] = IGNORED
        return status

    def match(
        self,
        metric: str,
        thresholds: Sequence[float],
        label_status: StatusArray,
        detection_status: StatusArray,
    ) -> MatchSteps:
        """Match all frames at all thresholds.

        Args:
            metric: ``"bbox"``, ``"bev"`` or ``"3d"``.
            thresholds: overlap that a match must exceed.
            label_status: shape ``(G,)``.
            detection_status: shape ``(D,)``.
        """
        values = np.asarray(thresholds, dtype=np.float64)
        if metric == "bbox":
            in_dont_care = self.dont_care_share > values[:, None]
            angles = (self.labels.objects.alpha, self.detections.objects.alpha)
        else:
            in_dont_care = np.zeros((len(values), len(self.scores)), dtype=np.bool_)
            angles = (self.labels.objects.rotation_y, self.detections.objects.rotation_y)
        return match_frames(
            self.labels.starts,
            self.detections.starts,
            self.overlaps.pair_starts,
            self.overlaps.of(metric),
            label_status,
            detection_status,
            self.scores,
            in_dont_care,
            np.ascontiguousarray(angles[0]),
            np.ascontiguousarray(angles[1]),
            values,
        )

    def curves(
        self, metric: str, steps: MatchSteps, label_status: StatusArray
    ) -> Iterator[PrecisionRecallCurve]:
        """Sample the curve of each threshold of ``steps``."""
        num_labels = int((label_status == COUNTED).sum())
        with_angles = self.has_angles if metric == "bbox" else self.has_box_3d
        for k in range(len(steps.similarity)):
            yield sample_curve(
                steps.recall_scores[k],
                num_labels,
                self.sorted_scores,
                np.cumsum(steps.true_positives[k, self._order]),
                np.cumsum(steps.false_positives[k, self._order]),
                num_labels + np.cumsum(steps.false_negatives[k, self._order]),
                np.cumsum(steps.similarity[k, self._order]) if with_angles else None,
            )

    def _dont_care_share(self) -> FloatArray:
        """Largest share of each detection's 2D box that lies in one DontCare region, shape (D,)."""
        share = np.zeros(len(self.scores))
        dont_care = self.label_names == DONT_CARE
        starts, pairs = self.detections.starts, self.overlaps.pair_starts
        frame_of_label = self.labels.frame_of_object
        first_label = self.labels.starts[frame_of_label]
        num = np.diff(starts)[frame_of_label]
        for i in np.flatnonzero(dont_care & (num > 0)):
            frame = frame_of_label[i]
            begin = pairs[frame] + (i - first_label[i]) * num[i]
            rows = slice(starts[frame], starts[frame + 1])
            share[rows] = np.maximum(share[rows], self.overlaps.bbox[begin : begin + num[i]])
        return share


def band_status(
    label_status: StatusArray,
    detection_status: StatusArray,
    label_in_band: NDArray[np.bool_],
    detection_in_band: NDArray[np.bool_],
) -> tuple[StatusArray, StatusArray]:
    """Restrict an evaluation to the labels of a band, for example of distance.

    Labels outside are ignored. Detections outside may find a label inside (two estimates of one
    distance may fall on either side of a border), but are no false positives.

    Args:
        label_status: shape ``(G,)``.
        detection_status: shape ``(D,)``.
        label_in_band: shape ``(G,)``.
        detection_in_band: shape ``(D,)``.

    Returns:
        New statuses of labels and detections.
    """
    labels = label_status.copy()
    labels[(label_status == COUNTED) & ~label_in_band] = IGNORED
    detections = detection_status.copy()
    detections[(detection_status == COUNTED) & ~detection_in_band] = NO_FALSE_POSITIVE
    return labels, detections


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
        elif num < 41:
            yield (
                f"{class_name}, {difficulty}: only {num} labels count; with fewer than 41 even "
                "perfect detections score below 100."
            )
    for class_name, num in num_detections.items():
        if num == 0:
            yield f"{class_name}: nothing is detected, so AP is 0."
    if not problem.has_angles:
        yield "alpha is -10 (unknown) for some detections, so AOS is not evaluated."
    objects = problem.detections.objects
    if not problem.has_box_3d:
        yield "no detection gives a 3D box, so BEV and 3D are 0."
    height = np.abs(objects.bbox[:, 3] - objects.bbox[:, 1])
    if len(height) and (num_flat := int((height == 0).sum())):
        yield (
            f"{num_flat} of {len(height)} detections have a 2D box without height; the protocol "
            "ignores them in every metric. Write the projection of the 3D box into the picture."
        )
