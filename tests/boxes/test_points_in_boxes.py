"""Points in boxes against half spaces spanned by the corners."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ebm3d.boxes.points_in_boxes import points_in_boxes


def _half_space_oracle(points: NDArray[np.float64], box: NDArray[np.float64]) -> list[bool]:
    """Inside means on the inner side of all six faces; the faces come from four corners."""
    x, y, z, dx, dy, dz, yaw = box

    def corner(along: float, across: float, up: float) -> NDArray[np.float64]:
        turned = complex(along * dx, across * dy) * complex(np.cos(yaw), np.sin(yaw))
        return np.array([x + turned.real, y + turned.imag, z + up * dz])

    origin = corner(-0.5, -0.5, 0.0)
    edges = [corner(0.5, -0.5, 0.0), corner(-0.5, 0.5, 0.0), corner(-0.5, -0.5, 1.0)]
    edges = [(e - origin) / np.dot(e - origin, e - origin) for e in edges]
    shares = (points - origin) @ np.array(edges).T
    return list(((shares >= 0) & (shares <= 1)).all(axis=1))


def test_agrees_with_the_half_spaces_of_the_faces(
    random_boxes: NDArray[np.float64], rng: np.random.Generator
) -> None:
    boxes = random_boxes[:12]
    spread = rng.uniform(-1.2, 1.2, size=(12, 200, 3)) * boxes[:, None, 3:6]
    points = (boxes[:, None, :3] + spread).reshape(-1, 3)
    expected = np.array([_half_space_oracle(points, box) for box in boxes]).T
    assert expected.sum() > 100
    np.testing.assert_array_equal(points_in_boxes(points, boxes), expected)


@pytest.mark.parametrize(
    ("box", "points", "expected"),
    [
        # z is the bottom
        ([5, 1, -2, 4, 2, 1.5, 0.3], [[5, 1, -2.01], [5, 1, -1.99], [5, 1, -0.51], [5, 1, -0.49]],
         [False, True, True, False]),
        # the yaw is counter-clockwise
        ([0, 0, 0, 4, 1, 1, np.pi / 4], [[1.2, 1.2, 0.5], [1.2, -1.2, 0.5]], [True, False]),
        # the faces belong to the box
        ([0, 0, 0, 4, 2, 1, 0], [[2, 1, 1], [-2, -1, 0], [2, 1, np.nextafter(1.0, 2.0)]],
         [True, True, False]),
        # further columns are not read
        ([0, 0, 0, 1, 1, 1, 0], [[0, 0, 0.5, np.nan]], [True]),
    ],
)  # fmt: skip
def test_conventions(box: list[float], points: list[list[float]], expected: list[bool]) -> None:
    inside = points_in_boxes(np.array(points, dtype=float), np.array([box], dtype=float))
    assert inside[:, 0].tolist() == expected


@pytest.mark.parametrize(("num_points", "num_boxes"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_lies_in_nothing(num_points: int, num_boxes: int) -> None:
    inside = points_in_boxes(np.zeros((num_points, 4)), np.ones((num_boxes, 7)))
    assert inside.shape == (num_points, num_boxes)


def test_wrong_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="boxes"):
        points_in_boxes(np.zeros((1, 3)), np.zeros((1, 9)))
    with pytest.raises(ValueError, match="points"):
        points_in_boxes(np.zeros((4, 2)), np.zeros((1, 7)))
