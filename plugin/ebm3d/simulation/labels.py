"""Labels of a simulated frame by the habits of KITTI's annotators.

* An object of a class is labeled where the picture shows a part of it and at least one echo of it
  lies in the camera's view.
* One that the picture shows but that left no echo there (too far, between two beams, dropped out)
  becomes a DontCare region.
* One that stands wholly behind others is left out: nobody could see it.
* Occlusion is the visible share of the rays that would meet the object if it stood alone.
* Truncation is the share of the projected box outside the picture.
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
    """Label the objects of a frame.

    Args:
        names: class names, shape ``(N,)``.
        boxes: LiDAR frame, shape ``(N, 7)``.
        visible_share: of the rays that would meet the object alone; 1 where none would,
            shape ``(N,)``.
        num_points: echoes of every object within the camera's view, shape ``(N,)``.
        calibration: of the camera.

    Returns:
        The labels, DontCare regions last, and the indices of the labeled objects in the order of
        their labels.
    """
    bbox, truncated = image_boxes(boxes, calibration)
    shown = truncated < 1.0
    labeled = shown & (num_points > 0) & (truncated <= MAX_TRUNCATION)
    ignored = shown & ~labeled & (visible_share > 0)
    kept, rest = np.flatnonzero(labeled), np.flatnonzero(ignored)
    location, dimensions, rotation_y = boxes_to_camera(boxes[kept], calibration)
    alpha = rotation_y - np.arctan2(location[:, 0], location[:, 2])
    alpha = np.mod(alpha + np.pi, 2 * np.pi) - np.pi
    num = len(rest)
    objects = KittiObjects(
        names=np.array([*names[kept], *[DONT_CARE] * num], dtype=np.str_),
        truncated=np.concatenate([truncated[kept], np.full(num, -1.0)]),
        occluded=np.concatenate([occlusion_level(visible_share[kept]), np.full(num, -1)]),
        alpha=np.concatenate([alpha, np.full(num, -10.0)]),
        bbox=np.concatenate([bbox[kept], bbox[rest]]),
        dimensions=np.concatenate([dimensions, np.full((num, 3), -1.0)]),
        location=np.concatenate([location, np.full((num, 3), -1000.0)]),
        rotation_y=np.concatenate([rotation_y, np.full(num, -10.0)]),
    )
    return objects, kept
