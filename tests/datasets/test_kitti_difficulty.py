from __future__ import annotations

import numpy as np
import pytest

from ebm3d.datasets import KittiObjects
from ebm3d.datasets.kitti_difficulty import difficulty


@pytest.mark.parametrize(
    ("height", "occluded", "truncated", "name", "level"),
    [
        (40.5, 0, 0.15, "Car", 0),
        (40.0, 0, 0.0, "Car", 1),
        (40.5, 1, 0.0, "Car", 1),
        (40.5, 0, 0.16, "Car", 1),
        (25.5, 1, 0.30, "Car", 1),
        (25.5, 2, 0.30, "Car", 2),
        (25.5, 1, 0.31, "Car", 2),
        (25.5, 2, 0.50, "Car", 2),
        (25.0, 0, 0.0, "Car", -1),
        (40.5, 3, 0.0, "Car", -1),
        (40.5, 0, 0.51, "Car", -1),
        (80.0, -1, -1.0, "DontCare", -1),
    ],
)
def test_an_object_has_the_easiest_level_whose_limits_it_keeps(
    height: float, occluded: int, truncated: float, name: str, level: int
) -> None:
    table = np.array([[truncated, occluded, 0, 10, 20, 30, 20 + height, *[1.0] * 7]])
    objects = KittiObjects.from_table(np.array([name]), table)
    assert difficulty(objects).tolist() == [level]
    assert difficulty(objects.select(np.zeros(0, dtype=np.int64))).shape == (0,)
