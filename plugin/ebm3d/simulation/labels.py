"""Labels of a simulated frame by the habits of KITTI's annotators.

An object is labeled where the image shows a part of it and an echo of it lies in the camera's view;
one that is shown but left no echo becomes a DontCare region; one wholly behind others is left out.
Occlusion is by the visible share of the rays that would meet the object alone, truncation by the
share of the projected box outside the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.kitti_calibration import KittiCalibration, boxes_to_camera
from ebm3d.datasets.kitti_labels import DONT_CARE, KittiObjects
from ebm3d.simulation.camera import image_boxes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
# Visible shares above which an object is fully visible, partly, largely occluded; below: unknown.
# Chosen so that the shares of the levels among cars come close to those of KITTI's labels.
OCCLUSION_LIMITS = (0.80, 0.40, 0.07)
_DONT_CARE_NUMBERS = [-1.0, -1.0, -10.0, *[0.0] * 4, *[-1.0] * 3, *[-1000.0] * 3, -10.0]
MAX_TRUNCATION = 0.95  # beyond it a sliver at the border is left; a DontCare region


def occlusion_level(visible_share: FloatArray) -> IntArray:
    """Return 0 visible, 1 partly, 2 largely occluded, 3 unknown, by the visible share."""
    return np.sum([visible_share < limit for limit in OCCLUSION_LIMITS], axis=0).astype(np.int64)


def make_labels(
    names: NDArray[np.str_],
    boxes: FloatArray,
    visible_share: FloatArray,
    num_points: IntArray,
    calibration: KittiCalibration,
) -> tuple[KittiObjects, IntArray]:
    """Label the N objects of a frame: names, LiDAR boxes, visible shares, echoes in the view.

    Returns the labels, DontCare regions last, and the indices of the labeled objects in their
    order. The visible share is 1 where no ray would meet an object.
    """
    bbox, truncated = image_boxes(boxes, calibration)
    shown = truncated < 1.0
    labeled = shown & (num_points > 0) & (truncated <= MAX_TRUNCATION)
    kept, rest = np.flatnonzero(labeled), np.flatnonzero(shown & ~labeled & (visible_share > 0))
    location, dimensions, rotation_y = boxes_to_camera(boxes[kept], calibration)
    alpha = rotation_y - np.arctan2(location[:, 0], location[:, 2])
    alpha = np.mod(alpha + np.pi, 2 * np.pi) - np.pi
    occluded = occlusion_level(visible_share[kept])
    columns = [truncated[kept], occluded, alpha, bbox[kept], dimensions, location, rotation_y]
    table = np.tile(_DONT_CARE_NUMBERS, (len(kept) + len(rest), 1))
    table[: len(kept)] = np.column_stack(columns)
    table[len(kept) :, 3:7] = bbox[rest]
    all_names = np.array([*names[kept], *[DONT_CARE] * len(rest)], dtype=np.str_)
    return KittiObjects.from_table(all_names, table), kept
