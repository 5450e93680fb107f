"""Predicted boxes that an evaluation leaves out: which, and when to warn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from mmengine.logging import MMLogger
from numpy.typing import NDArray

from ebm3d.datasets.kitti_frames import KittiFrames
from ebm3d.datasets.kitti_labels import DONT_CARE, KittiObjects
from ebm3d.errors import input_error
from ebm3d.evaluation.left_out import REASONS

FloatArray = NDArray[np.float64]

# Left out of as many confident boxes as there are objects: the share that deserves a warning. A
# detector that sees all around finds most objects outside the image, without a defect.
_MAX_LEFT_OUT = {"outside_limits": 0.02, "behind_camera": 0.5, "outside_image": 0.5}
_LABELS_END = ", as labels end with the image; check the calibration if they should be inside"
_REMEDIES = {
    "outside_limits": "; widen it, or take it out of the evaluator's config",
    "behind_camera": _LABELS_END,
    "outside_image": _LABELS_END,
}


def check_limits(limits: Sequence[float] | None) -> None:
    """Raise a ``ValueError`` unless these are None or x, y, z from and to."""
    pairs = [] if limits is None or len(limits) != 6 else zip(limits[:3], limits[3:], strict=True)
    if limits is not None and [low < high for low, high in pairs] != [True] * 3:
        expected = "six numbers, x, y, z from and to, or None"
        raise input_error("pcd_limit_range", expected, list(limits))


def find_left_out(
    boxes: FloatArray,
    detections: KittiObjects,
    limit_range: Sequence[float] | None,
    uses_image: bool,
) -> dict[str, NDArray[np.bool_]]:
    """Return by reason which detections are left out, ``(N,)`` each; the first reason counts.

    Args:
        boxes: of the detections, LiDAR frame, shape ``(N, 7)``.
        detections: from ``detections_of_boxes``.
        limit_range: x, y, z from and x, y, z to between which the bottom center must lie, or
            ``None``.
        uses_image: whether a detection must meet the picture, in front of the camera.
    """
    reasons = {"outside_limits": np.zeros(len(detections), dtype=np.bool_)}
    if limit_range is not None:
        center = np.asarray(boxes, dtype=np.float64).reshape((-1, 7))[:, :3]
        low, high = np.asarray(limit_range[:3]), np.asarray(limit_range[3:])
        reasons["outside_limits"] = ~((center > low) & (center < high)).all(axis=1)
    rest = uses_image & ~reasons["outside_limits"]
    left, top, right, bottom = detections.bbox.T
    is_behind = detections.location[:, 2] <= 0
    reasons["behind_camera"] = rest & is_behind
    reasons["outside_image"] = rest & ~is_behind & ~((right > left) & (bottom > top))
    return reasons


def warn_left_out(
    labels: KittiFrames, scores: FloatArray, reasons: Mapping[str, NDArray[np.bool_]]
) -> None:
    """Warn where many confident boxes, as many as there are objects, are left out for a reason."""
    num = min(int((labels.objects.names != DONT_CARE).sum()), len(scores))
    if not num:
        return
    confident = scores >= np.partition(scores, -num)[-num]
    num = int(confident.sum())
    for reason, mask in reasons.items():
        if (found := int((mask & confident).sum())) > _MAX_LEFT_OUT[reason] * num:
            MMLogger.get_current_instance().warning(
                "%d of the %d most confident boxes lie %s and are not evaluated%s",
                *(found, num, REASONS[reason], _REMEDIES[reason]),
            )
