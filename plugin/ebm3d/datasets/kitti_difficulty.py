"""The difficulty levels of the KITTI object benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.kitti_labels import DONT_CARE, KittiObjects


@dataclass(frozen=True)
class Difficulty:
    """Which objects count at one difficulty; the others are ignored."""

    name: str
    min_height: float  # of the 2D box, pixels, that labels must exceed and detections reach
    max_occlusion: int
    max_truncation: float


# The benchmark's page; MIN_HEIGHT, MAX_OCCLUSION, MAX_TRUNCATION of the development kit.
DIFFICULTIES = (
    Difficulty("easy", 40.0, 0, 0.15),
    Difficulty("moderate", 25.0, 1, 0.3),
    Difficulty("hard", 25.0, 2, 0.5),
)


def difficulty(objects: KittiObjects) -> NDArray[np.int64]:
    """Easiest level of each object: 0 easy, 1 moderate, 2 hard, -1 none or DontCare, ``(N,)``.

    An object without a 2D box has no height to limit: occlusion and truncation decide alone.
    """
    height = objects.bbox[:, 3] - objects.bbox[:, 1]
    height = np.where(has_2d_box(objects), height, np.inf)
    level = np.full(len(objects), -1, dtype=np.int64)
    for index, limits in reversed(list(enumerate(DIFFICULTIES))):
        belongs = (
            (height > limits.min_height)
            & (objects.occluded <= limits.max_occlusion)
            & (objects.truncated <= limits.max_truncation)
            & (objects.names != DONT_CARE)
        )
        level[belongs] = index
    return level


def has_2d_box(objects: KittiObjects) -> NDArray[np.bool_]:
    """Whether the 2D box of each object has an area, ``(N,)``."""
    left, top, right, bottom = objects.bbox.T
    return np.asarray((right > left) & (bottom > top))
