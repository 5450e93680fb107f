"""The difficulty levels of the KITTI object benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.kitti_labels import DONT_CARE, KittiObjects


@dataclass(frozen=True)
class DifficultyLimits:
    """What an object may be at most (at least, for the height) to belong to a level.

    Attributes:
        name: the level.
        height: the 2D box must be higher than this, pixels.
        occluded: greatest occlusion level.
        truncated: greatest share outside the picture.
    """

    name: str
    height: float
    occluded: int
    truncated: float


# Table on the benchmark's page; MIN_HEIGHT, MAX_OCCLUSION, MAX_TRUNCATION of its evaluation code.
DIFFICULTIES = (
    DifficultyLimits("easy", 40.0, 0, 0.15),
    DifficultyLimits("moderate", 25.0, 1, 0.30),
    DifficultyLimits("hard", 25.0, 2, 0.50),
)


def difficulty(objects: KittiObjects) -> NDArray[np.int64]:
    """Give every object the easiest level it belongs to.

    Args:
        objects: labels of one frame, N of them.

    Returns:
        0 easy, 1 moderate, 2 hard, -1 none of them or DontCare; shape ``(N,)``.
    """
    height = objects.bbox[:, 3] - objects.bbox[:, 1]
    level = np.full(len(objects), -1, dtype=np.int64)
    for index, limits in reversed(list(enumerate(DIFFICULTIES))):
        belongs = (
            (height > limits.height)
            & (objects.occluded <= limits.occluded)
            & (objects.truncated <= limits.truncated)
            & (objects.names != DONT_CARE)
        )
        level[belongs] = index
    return level
