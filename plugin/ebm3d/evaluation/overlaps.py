"""Overlap of every label with every detection of the same frame, computed once.

F frames; G labels and D detections of all frames; P pairs of the same frame: the matrix of frame
``i`` (labels x detections, row by row) lies in ``pair_starts[i]`` to ``pair_starts[i + 1]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from ebm3d.boxes.iou import common_height, intersection_area
from ebm3d.boxes.kernels import threads_for
from ebm3d.datasets.kitti_frames import KittiFrames
from ebm3d.datasets.kitti_labels import KittiObjects
from ebm3d.evaluation.kitti_protocol import DONT_CARE, METRICS

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_SECONDS_PER_PAIR = 3e-8  # most pairs are far apart


@dataclass(frozen=True, eq=False)
class FrameOverlaps:
    """Overlaps of the pairs of all frames.

    Args:
        pair_starts: first pair of each frame, ``(F + 1,)``.
        iou: by metric of ``METRICS``, ``(P,)``; 0 of DontCare regions.
        dont_care_share: largest share of each 2D box in one DontCare region, ``(D,)``.
    """

    pair_starts: IntArray
    iou: Mapping[str, FloatArray]
    dont_care_share: FloatArray

    def pair_rows(self, labels: KittiFrames, detections: KittiFrames) -> tuple[IntArray, IntArray]:
        """Return label and detection of each pair, rows of all frames, both ``(P,)``."""
        frame = np.repeat(np.arange(len(labels)), np.diff(self.pair_starts))
        width = np.diff(detections.starts)[frame]
        label, detection = np.divmod(np.arange(len(frame)) - self.pair_starts[frame], width)
        return labels.starts[frame] + label, detections.starts[frame] + detection


def upright_boxes(objects: KittiObjects) -> FloatArray:
    """Return the boxes ``(N, 7)`` in the camera's upright frame, ``z`` at the bottom.

    x forward, y left, z up: the camera's axes under other names, so overlaps stay the same.
    """
    return np.column_stack(
        [
            objects.location[:, 2],
            -objects.location[:, :2],
            objects.dimensions[:, ::-1],
            -objects.rotation_y - np.pi / 2,
        ]
    )


def frame_overlaps(labels: KittiFrames, detections: KittiFrames) -> FrameOverlaps:
    """Compute the overlaps of all pairs of all frames. Memory: 24 bytes a pair."""
    counts = np.diff(labels.starts) * np.diff(detections.starts)
    pair_starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    num_pairs = int(pair_starts[-1])
    iou = {metric: np.zeros(num_pairs) for metric in METRICS}
    dont_care_share = np.zeros(len(detections.objects))
    with threads_for(num_pairs * _SECONDS_PER_PAIR):
        _fill_overlaps(
            labels.starts,
            detections.starts,
            pair_starts,
            np.ascontiguousarray(labels.objects.bbox),
            np.ascontiguousarray(detections.objects.bbox),
            upright_boxes(labels.objects),
            upright_boxes(detections.objects),
            np.char.lower(labels.objects.names) == DONT_CARE,
            *iou.values(),
            dont_care_share,
        )
    return FrameOverlaps(pair_starts, iou, dont_care_share)


@njit(cache=True, error_model="numpy")
def image_overlap(bbox: FloatArray, other: FloatArray, by_other: bool) -> float:
    """IoU of two 2D boxes ``(4,)``; with ``by_other`` the common share of the second one's area."""
    width = min(bbox[2], other[2]) - max(bbox[0], other[0])
    height = min(bbox[3], other[3]) - max(bbox[1], other[1])
    if width <= 0.0 or height <= 0.0:
        return 0.0
    common = width * height
    other_area = (other[2] - other[0]) * (other[3] - other[1])
    if by_other:
        return common / other_area
    return common / ((bbox[2] - bbox[0]) * (bbox[3] - bbox[1]) + other_area - common)


@njit(cache=True, parallel=True, error_model="numpy")
def _fill_overlaps(
    label_starts: IntArray,
    detection_starts: IntArray,
    pair_starts: IntArray,
    label_bboxes: FloatArray,
    detection_bboxes: FloatArray,
    label_boxes: FloatArray,
    detection_boxes: FloatArray,
    dont_care: NDArray[np.bool_],
    bbox: FloatArray,
    bev: FloatArray,
    volume: FloatArray,
    dont_care_share: FloatArray,
) -> None:
    """Fill the last four arrays, frames in parallel."""
    for frame in prange(len(pair_starts) - 1):
        pair = pair_starts[frame]
        for i in range(label_starts[frame], label_starts[frame + 1]):
            label = label_boxes[i]
            label_area = label[3] * label[4]
            for j in range(detection_starts[frame], detection_starts[frame + 1]):
                in_image = image_overlap(label_bboxes[i], detection_bboxes[j], dont_care[i])
                detection = detection_boxes[j]
                if dont_care[i]:
                    dont_care_share[j] = max(dont_care_share[j], in_image)
                else:
                    bbox[pair] = in_image
                    if label[3] > 0.0 and detection[3] > 0.0:
                        common = intersection_area(label, detection)
                        if common > 0.0:
                            area = detection[3] * detection[4]
                            bev[pair] = common / (label_area + area - common)
                            solid = common * common_height(label, detection)
                            both = label_area * label[5] + area * detection[5]
                            volume[pair] = solid / (both - solid)
                pair += 1
