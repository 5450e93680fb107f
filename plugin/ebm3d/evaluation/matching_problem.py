"""Labels and detections of a KITTI evaluation, and who counts.

G labels, D detections.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.kitti_frames import KittiFrames
from ebm3d.errors import input_error
from ebm3d.evaluation.average_precision import PrecisionRecallCurve, sample_curve
from ebm3d.evaluation.kitti_protocol import (
    DONT_CARE,
    METRICS,
    NEIGHBORS,
    NO_ANGLE,
    NUM_SAMPLES,
    OCCLUSION_LEVELS,
    Difficulty,
)
from ebm3d.evaluation.matching import (
    COUNTED,
    IGNORED,
    SKIPPED,
    Frame,
    MatchChanges,
    StatusArray,
    match_frames,
)
from ebm3d.evaluation.overlaps import FrameOverlaps, frame_overlaps

BoolArray = NDArray[np.bool_]


class MatchingProblem:
    """Labels and detections of an evaluation, with all that matchings share.

    Args:
        labels: ground truth with DontCare regions, camera frame.
        detections: with scores, of the same frames in the same order.
        uses_image: whether the rules of the image apply (``bbox``, AOS, least heights of 2D boxes);
            ``None``: they do unless there are objects and none has a 2D box.
        dropped: detections that were left out before, by reason and class.

    Raises:
        ValueError: if frames differ, scores are missing, or a score or location is not finite.
    """

    def __init__(
        self,
        labels: KittiFrames,
        detections: KittiFrames,
        *,
        uses_image: bool | None = None,
        dropped: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        _check_frames(labels, detections)
        self.labels = labels
        self.detections = detections
        self.dropped = dropped or {}
        self.scores = np.ascontiguousarray(detections.objects.score, dtype=np.float64)
        self.overlaps: FrameOverlaps = frame_overlaps(labels, detections)
        self.label_names = np.char.lower(labels.objects.names)
        self.detection_names = np.char.lower(detections.objects.names)
        self.has_box_2d = has_box_2d(labels)
        self.uses_image = has_images(labels) if uses_image is None else uses_image
        known = np.isin(labels.objects.occluded, OCCLUSION_LEVELS)
        self.uses_occlusion = self.uses_image or bool(known.any())
        self.metrics = METRICS if self.uses_image else METRICS[1:]
        sizes = detections.objects.dimensions
        self.has_angles = not bool((detections.objects.alpha == NO_ANGLE).any())
        self.has_box_3d = not len(sizes) or bool((sizes > 0).all(axis=1).any())
        self._order = np.argsort(-self.scores, kind="stable")

    def is_detected(self, class_name: str) -> BoolArray:
        """Return which detections are of the class, ``(D,)``."""
        return np.asarray(self.detection_names == class_name.lower())

    def beyond(self, difficulty: Difficulty) -> dict[str, BoolArray]:
        """Return by reason which labels of any class lie beyond a difficulty, ``(G,)`` each."""
        objects = self.labels.objects
        reasons = {}
        if self.uses_image:
            low = objects.bbox[:, 3] - objects.bbox[:, 1] <= difficulty.min_height
            reasons = {"without_2d_box": low & ~self.has_box_2d, "low_2d_box": low}
        if self.uses_occlusion:
            reasons["occluded"] = objects.occluded > difficulty.max_occlusion
        return {**reasons, "truncated": objects.truncated > difficulty.max_truncation}

    def is_low(self, difficulty: Difficulty) -> BoolArray:
        """Return which detections the protocol ignores for their 2D box, ``(D,)``."""
        bbox = self.detections.objects.bbox
        low = np.abs(bbox[:, 3] - bbox[:, 1]) < difficulty.min_height
        return np.asarray(low & self.uses_image)

    def status(self, class_name: str, difficulty: Difficulty) -> tuple[StatusArray, StatusArray]:
        """Return which labels ``(G,)`` and detections ``(D,)`` count, are ignored or take no part.

        As in the official tool, a label must be higher than the least height, a detection at least
        that high; too low a 2D box makes a detection of any class ignored.
        """
        same_class = self.label_names == class_name.lower()
        neighbor = np.isin(self.label_names, NEIGHBORS[class_name.lower()])
        beyond = np.any(list(self.beyond(difficulty).values()), axis=0)
        labels = np.full(len(self.label_names), SKIPPED, dtype=np.int8)
        labels[same_class & ~beyond] = COUNTED
        labels[(same_class & beyond) | neighbor] = IGNORED
        detections = np.full(len(self.scores), SKIPPED, dtype=np.int8)
        detections[self.is_detected(class_name)] = COUNTED
        detections[self.is_low(difficulty)] = IGNORED
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
        """Sample the curve of each threshold of ``match``; NaN where the metric has no meaning."""
        num_labels = int((label_status == COUNTED).sum())
        with_angles = self.has_angles if metric == "bbox" else self.has_box_3d
        scores = self.scores[self._order]
        for counts, recall_scores in zip(changes.counts, changes.recall_scores, strict=True):
            totals = np.cumsum(counts[self._order], axis=0)
            curve = sample_curve(recall_scores, num_labels, scores, totals, with_angles)
            if metric not in self.metrics:
                curve = replace(curve, precision=np.full(NUM_SAMPLES, np.nan), similarity=None)
            yield curve


def has_box_2d(frames: KittiFrames) -> BoolArray:
    """Return which objects have a 2D box, one of positive area, ``(N,)``."""
    left, top, right, bottom = frames.objects.bbox.T
    return np.asarray((right > left) & (bottom > top))


def has_images(labels: KittiFrames) -> bool:
    """Whether any object has a 2D box, or there is no object at all."""
    is_object = np.char.lower(labels.objects.names) != DONT_CARE
    return bool(has_box_2d(labels)[is_object].any()) or not is_object.any()


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
