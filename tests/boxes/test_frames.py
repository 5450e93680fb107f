from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.boxes import points_to_box_frame, rotate_about_z


def test_point_ahead_of_the_box_lies_on_the_first_axis():
    box = torch.tensor([1.0, 2.0, 3.0, 4.0, 2.0, 1.5, math.pi / 2], dtype=torch.float64)
    # Yaw 90 degrees: ahead is +y, left is -x.
    points = torch.tensor([[1.0, 7.0, 3.5], [-2.0, 2.0, 3.0]], dtype=torch.float64)
    local = points_to_box_frame(points, box)
    expected = torch.tensor([[5.0, 0.0, 0.5], [0.0, 3.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(local, expected)


def test_box_frame_and_back_is_the_identity(random_boxes: NDArray[np.float64]):
    boxes = torch.from_numpy(random_boxes)
    points = torch.randn(64, 5, 3, dtype=torch.float64) * 10
    local = points_to_box_frame(points, boxes)
    back = rotate_about_z(local, boxes[:, None, 6]) + boxes[:, None, :3]
    torch.testing.assert_close(back, points)


def test_leading_axes_of_points_and_boxes_broadcast(random_boxes: NDArray[np.float64]):
    boxes = torch.from_numpy(random_boxes).reshape(8, 8, 7)
    points = torch.randn(8, 1, 6, 3, dtype=torch.float64)
    local = points_to_box_frame(points, boxes)
    assert local.shape == (8, 8, 6, 3)
    torch.testing.assert_close(local[3, 5], points_to_box_frame(points[3, 0], boxes[3, 5]))


def test_quarter_turn_is_counter_clockwise():
    vectors = torch.tensor([[1.0, 0.0, 5.0, 6.0]], dtype=torch.float64)
    turned = rotate_about_z(vectors, torch.tensor(math.pi / 2, dtype=torch.float64))
    expected = torch.tensor([[0.0, 1.0, 5.0, 6.0]], dtype=torch.float64)
    torch.testing.assert_close(turned, expected)


def test_box_frame_is_differentiable_in_points_and_boxes(random_boxes: NDArray[np.float64]):
    boxes = torch.from_numpy(random_boxes[:3]).requires_grad_()
    points = torch.randn(3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(points_to_box_frame, (points, boxes))
