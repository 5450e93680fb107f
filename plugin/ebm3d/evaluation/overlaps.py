"""Overlap of every label with every detection of the same frame: computed once, used by all.

F frames; G labels and D detections of all frames; P pairs of the same frame: the matrix of frame
``i`` (labels x detections, row by row) lies in ``pair_starts[i]`` to ``pair_starts[i + 1]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from ebm3d.boxes.iou import common_height, intersection_area
from ebm3d.boxes.kernels import threads_for
from ebm3d.datasets.kitti_frames import KittiFrames
from ebm3d.datasets.kitti_labels import KittiObjects
from ebm3d.evaluation.kitti_protocol import DONT_CARE

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Most pairs are far apart; to the right power of ten.
_SECONDS_PER_PAIR = 3e-8


@dataclass(frozen=True, eq=False)
class FrameOverlaps:
    """Overlaps by metric.

    Attributes:
        pair_starts: where the matrix of each frame begins, shape ``(F + 1,)``.
        bbox: IoU of the 2D boxes; for DontCare labels the share of the detection's box that lies
            in the label's, shape ``(P,)``.
        bev: IoU of the outlines from above, 0 for DontCare, shape ``(P,)``.
        volume: IoU of the volumes, 0 for DontCare, shape ``(P,)``.
    """

    pair_starts: IntArray
    bbox: FloatArray
    bev: FloatArray
    volume: FloatArray

    def of(self, metric: str) -> FloatArray:
        """Return the overlaps of ``"bbox"``, ``"bev"`` or ``"3d"``."""
        return {"bbox": self.bbox, "bev": self.bev, "3d": self.volume}[metric]


def upright_boxes(objects: KittiObjects) -> FloatArray:
    """Return the objects' boxes in the upright frame of the camera, axes as in the LiDAR frame.

    x forward, y left, z up, with the camera as the origin: a renaming of the camera's axes and not
    a calibration, so overlaps are those of the camera frame.

    Args:
        objects: labels or detections, camera frame.

    Returns:
        ``(x, y, z, dx, dy, dz, yaw)``, ``z`` at the bottom, shape ``(N, 7)``.
    """
    return np.column_stack(
        [
            objects.location[:, 2],
            -objects.location[:, 0],
            -objects.location[:, 1],
            objects.dimensions[:, 2],
            objects.dimensions[:, 1],
            objects.dimensions[:, 0],
            -objects.rotation_y - np.pi / 2,
        ]
    )


def frame_overlaps(labels: KittiFrames, detections: KittiFrames) -> FrameOverlaps:
    """Compute the overlaps of all pairs of all frames.

    Args:
        labels: ground truth, DontCare regions included.
        detections: of the same frames in the same order.

    Returns:
        The overlaps. Memory: 24 bytes a pair.
    """
    counts = np.diff(labels.starts) * np.diff(detections.starts)
    pair_starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    dont_care = np.char.lower(labels.objects.names) == DONT_CARE
    bbox = np.zeros(pair_starts[-1])
    bev = np.zeros(pair_starts[-1])
    volume = np.zeros(pair_starts[-1])
    with threads_for(len(bbox) * _SECONDS_PER_PAIR):
        _fill_overlaps(
            labels.starts,
            detections.starts,
            pair_starts,
            np.ascontiguousarray(labels.objects.bbox),
            np.ascontiguousarray(detections.objects.bbox),
            upright_boxes(labels.objects),
            upright_boxes(detections.objects),
            dont_care,
            bbox,
            bev,
            volume,
        )
    return FrameOverlaps(pair_starts, bbox, bev, volume)


@njit(cache=True, error_model="numpy")
def image_overlap(bbox: FloatArray, other: FloatArray, by_other: bool) -> float:
    """Overlap of two boxes in the picture.

    Args:
        bbox: left, top, right, bottom, shape ``(4,)``, pixels.
        other: shape ``(4,)``.
        by_other: divide the common area by the area of ``other`` instead of the union.

    Returns:
        The ratio, 0 where the boxes do not overlap.
    """
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
) -> None:
    """Fill the three overlap arrays, frames in parallel."""
    for frame in prange(len(pair_starts) - 1):
        pair = pair_starts[frame]
        for i in range(label_starts[frame], label_starts[frame + 1]):
            first = label_boxes[i]
            area = first[3] * first[4]
            for j in range(detection_starts[frame], detection_starts[frame + 1]):
                bbox[pair] = image_overlap(label_bboxes[i], detection_bboxes[j], dont_care[i])
                second = detection_boxes[j]
                if not dont_care[i] and first[3] > 0.0 and second[3] > 0.0:
                    common = intersection_area(first, second)
                    if common > 0.0:
                        other_area = second[3] * second[4]
                        bev[pair] = common / (area + other_area - common)
                        solid = common * common_height(first, second)
                        both = area * first[5] + other_area * second[5]
                        volume[pair] = solid / (both - solid)
                pair += 1
