from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ebm3d.boxes import bev_corners, corners_3d, points_to_box_frame


def test_corners_of_an_upright_box_by_hand():
    box = torch.tensor([[10.0, 5.0, -1.0, 4.0, 2.0, 1.5, 0.0]])
    expected = torch.tensor([[[12.0, 6.0], [8.0, 6.0], [8.0, 4.0], [12.0, 4.0]]])
    torch.testing.assert_close(bev_corners(box), expected)


def test_heading_points_from_the_rear_to_the_front_corners():
    box = torch.tensor([[0.0, 0.0, 0.0, 4.0, 2.0, 1.5, math.pi / 2]])
    front_left, rear_left, rear_right, front_right = bev_corners(box)[0]
    torch.testing.assert_close(front_left, torch.tensor([-1.0, 2.0]))
    torch.testing.assert_close(rear_left, torch.tensor([-1.0, -2.0]))
    torch.testing.assert_close(rear_right, torch.tensor([1.0, -2.0]))
    torch.testing.assert_close(front_right, torch.tensor([1.0, 2.0]))


def test_footprint_is_counter_clockwise_and_has_the_area_of_the_box(
    random_boxes: NDArray[np.float64],
):
    boxes = torch.from_numpy(random_boxes)
    corners = bev_corners(boxes)
    after = corners.roll(-1, dims=1)
    area = 0.5 * (corners[..., 0] * after[..., 1] - corners[..., 1] * after[..., 0]).sum(1)
    torch.testing.assert_close(area, boxes[:, 3] * boxes[:, 4])


def test_corners_are_the_faces_in_the_frame_of_the_box(random_boxes: NDArray[np.float64]):
    boxes = torch.from_numpy(random_boxes)
    local = points_to_box_frame(corners_3d(boxes), boxes)
    torch.testing.assert_close(local[..., :2].abs(), boxes[:, None, 3:5].expand(-1, 8, 2) / 2)
    torch.testing.assert_close(local[:, :4, 2], torch.zeros(64, 4, dtype=torch.float64))
    torch.testing.assert_close(local[:, 4:, 2], boxes[:, 5:6].expand(-1, 4))


@pytest.mark.parametrize("function", [bev_corners, corners_3d])
def test_no_boxes_have_no_corners(function):
    assert function(torch.zeros(0, 7)).shape[0] == 0


def test_corners_are_differentiable(random_boxes: NDArray[np.float64]):
    boxes = torch.from_numpy(random_boxes[:3]).requires_grad_()
    assert torch.autograd.gradcheck(corners_3d, boxes)


def test_boxes_with_velocities_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"boxes\[:, :7\]"):
        bev_corners(torch.zeros(2, 9))
