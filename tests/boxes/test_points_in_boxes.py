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
    result = []
    for point in points:
        shares = [
            np.dot(point - origin, edge - origin) / np.dot(edge - origin, edge - origin)
            for edge in edges
        ]
        result.append(all(0 <= share <= 1 for share in shares))
    return result


def test_agrees_with_the_half_spaces_of_the_faces(
    random_boxes: NDArray[np.float64], rng: np.random.Generator
) -> None:
    boxes = random_boxes[:12]
    spread = rng.uniform(-1.2, 1.2, size=(12, 200, 3)) * boxes[:, None, 3:6]
    points = (boxes[:, None, :3] + spread).reshape(-1, 3)
    expected = np.array([_half_space_oracle(points, box) for box in boxes]).T
    assert expected.sum() > 100
    np.testing.assert_array_equal(points_in_boxes(points, boxes), expected)


def test_the_origin_of_a_box_is_its_bottom_centre() -> None:
    box = np.array([[5.0, 1.0, -2.0, 4.0, 2.0, 1.5, 0.3]])
    points = np.array([[5.0, 1.0, -2.01], [5.0, 1.0, -1.99], [5.0, 1.0, -0.51], [5.0, 1.0, -0.49]])
    np.testing.assert_array_equal(points_in_boxes(points, box)[:, 0], [False, True, True, False])


def test_yaw_turns_counter_clockwise() -> None:
    box = np.array([[0.0, 0.0, 0.0, 4.0, 1.0, 1.0, np.pi / 4]])
    points = np.array([[1.2, 1.2, 0.5], [1.2, -1.2, 0.5]])
    np.testing.assert_array_equal(points_in_boxes(points, box)[:, 0], [True, False])


def test_the_faces_belong_to_the_box() -> None:
    box = np.array([[0.0, 0.0, 0.0, 4.0, 2.0, 1.0, 0.0]])
    points = np.array([[2.0, 1.0, 1.0], [-2.0, -1.0, 0.0], [2.0, 1.0, np.nextafter(1.0, 2.0)]])
    np.testing.assert_array_equal(points_in_boxes(points, box)[:, 0], [True, True, False])


@pytest.mark.parametrize(("num_points", "num_boxes"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_lies_in_nothing(num_points: int, num_boxes: int) -> None:
    inside = points_in_boxes(np.zeros((num_points, 4)), np.ones((num_boxes, 7)))
    assert inside.shape == (num_points, num_boxes)


def test_further_columns_of_points_are_not_read() -> None:
    box = np.array([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0]])
    assert points_in_boxes(np.array([[0.0, 0.0, 0.5, np.nan]]), box).all()


def test_boxes_with_velocities_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"pass boxes\[:, :7\]"):
        points_in_boxes(np.zeros((1, 3)), np.zeros((1, 9)))


def test_points_without_three_columns_are_refused() -> None:
    with pytest.raises(ValueError, match=r"points must have shape \(P, 3\)"):
        points_in_boxes(np.zeros((4, 2)), np.zeros((1, 7)))
