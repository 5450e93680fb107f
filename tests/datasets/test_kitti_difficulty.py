from __future__ import annotations

import numpy as np
import pytest

from ebm3d.datasets import KittiObjects
from ebm3d.datasets.kitti_difficulty import difficulty


def _object(height: float, occluded: int, truncated: float, name: str = "Car") -> KittiObjects:
    return KittiObjects(
        names=np.array([name]),
        truncated=np.array([truncated]),
        occluded=np.array([occluded]),
        alpha=np.zeros(1),
        bbox=np.array([[10.0, 20.0, 30.0, 20.0 + height]]),
        dimensions=np.ones((1, 3)),
        location=np.ones((1, 3)),
        rotation_y=np.zeros(1),
    )


@pytest.mark.parametrize(
    ("height", "occluded", "truncated", "level"),
    [
        (40.5, 0, 0.15, 0),
        (40.0, 0, 0.0, 1),
        (40.5, 1, 0.0, 1),
        (40.5, 0, 0.16, 1),
        (25.5, 1, 0.30, 1),
        (25.5, 2, 0.30, 2),
        (25.5, 1, 0.31, 2),
        (25.5, 2, 0.50, 2),
        (25.0, 0, 0.0, -1),
        (40.5, 3, 0.0, -1),
        (40.5, 0, 0.51, -1),
    ],
)
def test_an_object_has_the_easiest_level_whose_limits_it_keeps(
    height: float, occluded: int, truncated: float, level: int
) -> None:
    assert difficulty(_object(height, occluded, truncated)).tolist() == [level]


def test_dont_care_has_no_level() -> None:
    assert difficulty(_object(80.0, -1, -1.0, name="DontCare")).tolist() == [-1]


def test_no_objects_have_no_levels() -> None:
    none = _object(80.0, 0, 0.0).select(np.zeros(0, dtype=np.int64))
    assert difficulty(none).shape == (0,)
