"""Angles, frames, local offsets and corners of boxes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.boxes import (
    add_local_offsets,
    bev_corners,
    corners_3d,
    local_offsets,
    observation_angle,
    points_to_box_frame,
    rotate_about_z,
    wrap_to_pi,
)

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def boxes(random_boxes: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(random_boxes)


@given(st.floats(-50.0, 50.0))
def test_wrapped_angle_lies_in_the_half_open_interval_and_is_the_same_angle(angle: float):
    wrapped = float(wrap_to_pi(torch.tensor(angle, dtype=torch.float64)))
    assert -math.pi < wrapped <= math.pi
    assert math.cos(wrapped) == pytest.approx(math.cos(angle), abs=1e-12)
    assert math.sin(wrapped) == pytest.approx(math.sin(angle), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_angles_in_range_keep_every_bit(dtype: torch.dtype):
    angle = torch.empty(1000, dtype=dtype).uniform_(-3.14159, math.pi)
    angle = torch.cat((angle, torch.tensor([0.0, 1e-30, -1e-30, math.pi], dtype=dtype)))
    assert torch.equal(wrap_to_pi(angle), angle)


def test_minus_pi_becomes_pi_and_the_derivative_is_one():
    angle = torch.tensor([-math.pi, 3 * math.pi])
    torch.testing.assert_close(wrap_to_pi(angle), torch.full_like(angle, math.pi))
    angle = torch.tensor([-7.0, -1.0, 0.0, 2.0, 12.0], requires_grad=True)
    wrap_to_pi(angle).sum().backward()
    assert torch.equal(angle.grad, torch.ones(5))


def test_box_driving_straight_away_is_observed_at_zero_whatever_its_heading():
    boxes = torch.zeros(3, 7)
    boxes[:, 6] = yaw = torch.tensor([0.3, -2.0, math.pi / 2])
    boxes[:, 0], boxes[:, 1] = 20 * torch.cos(yaw), 20 * torch.sin(yaw)
    torch.testing.assert_close(observation_angle(boxes), torch.zeros(3), atol=1e-12, rtol=0)
    boxes[:, 6] += 0.1
    torch.testing.assert_close(observation_angle(boxes), torch.full((3,), 0.1))


def test_point_ahead_of_the_box_lies_on_the_first_axis():
    box = torch.tensor([1.0, 2.0, 3.0, 4.0, 2.0, 1.5, math.pi / 2])
    # Yaw 90 degrees: ahead is +y, left is -x.
    local = points_to_box_frame(torch.tensor([[1.0, 7.0, 3.5], [-2.0, 2.0, 3.0]]), box)
    torch.testing.assert_close(local, torch.tensor([[5.0, 0.0, 0.5], [0.0, 3.0, 0.0]]))


def test_box_frame_and_back_is_the_identity_and_broadcasts(boxes: Tensor):
    boxes, points = boxes.view(8, 8, 7), 10 * torch.randn(8, 1, 6, 3)
    local = points_to_box_frame(points, boxes)
    assert local.shape == (8, 8, 6, 3)
    back = rotate_about_z(local, boxes[..., None, 6]) + boxes[..., None, :3]
    torch.testing.assert_close(back, points.expand(8, 8, 6, 3))


def test_rotation_is_counter_clockwise_and_keeps_further_components():
    rotated = rotate_about_z(torch.tensor([[1.0, 0.0, 5.0, 6.0]]), torch.tensor(math.pi / 2))
    torch.testing.assert_close(rotated, torch.tensor([[0.0, 1.0, 5.0, 6.0]]))


def test_adding_and_reading_local_offsets_are_inverse(boxes: Tensor):
    offsets = torch.randn(64, 7)
    offsets[:, 6] = wrap_to_pi(offsets[:, 6])
    torch.testing.assert_close(local_offsets(boxes, add_local_offsets(boxes, offsets)), offsets)
    reference = boxes.roll(1, dims=0)
    torch.testing.assert_close(add_local_offsets(reference, local_offsets(reference, boxes)), boxes)


def test_along_is_the_heading_and_across_is_to_its_left():
    reference = torch.tensor([5.0, 3.0, -1.0, 4.0, 2.0, 1.5, math.pi / 2])
    moved = add_local_offsets(reference, torch.tensor([1.0, 0.5, 0.25, 0.1, 0.2, 0.3, 0.4]))
    expected = torch.tensor([4.5, 4.0, -0.75, 4.1, 2.2, 1.8, math.pi / 2 + 0.4])
    torch.testing.assert_close(moved, expected)


def test_offsets_preserve_volume_and_wrap_the_yaw(boxes: Tensor):
    jacobian = torch.autograd.functional.jacobian(
        lambda offsets: add_local_offsets(boxes[0], offsets), torch.zeros(7)
    )
    torch.testing.assert_close(torch.det(jacobian), torch.tensor(1.0))
    first, second = torch.zeros(7), torch.zeros(7)
    first[6], second[6] = 3.1, -3.1
    assert float(local_offsets(first, second)[6]) == pytest.approx(2 * math.pi - 6.2)


def test_corners_by_hand_start_at_the_front_left_and_run_counter_clockwise():
    box = torch.tensor([[10.0, 5.0, -1.0, 4.0, 2.0, 1.5, 0.0]])
    expected = torch.tensor([[[12.0, 6.0], [8.0, 6.0], [8.0, 4.0], [12.0, 4.0]]])
    torch.testing.assert_close(bev_corners(box), expected)
    box[0, 6] = math.pi / 2
    expected = torch.tensor([[[9.0, 7.0], [9.0, 3.0], [11.0, 3.0], [11.0, 7.0]]])
    torch.testing.assert_close(bev_corners(box), expected)


def test_corners_are_the_faces_in_the_frame_of_the_box(boxes: Tensor):
    local = points_to_box_frame(corners_3d(boxes), boxes)
    torch.testing.assert_close(local[..., :2].abs(), boxes[:, None, 3:5].expand(-1, 8, 2) / 2)
    torch.testing.assert_close(local[:, :4, 2], torch.zeros(64, 4))
    torch.testing.assert_close(local[:, 4:, 2], boxes[:, 5:6].expand(-1, 4))


@pytest.mark.parametrize("function", [bev_corners, corners_3d])
def test_boxes_may_be_none_and_must_have_seven_columns(function: Callable[[Tensor], Tensor]):
    assert function(torch.zeros(0, 7)).shape[0] == 0
    with pytest.raises(ValueError, match=r"boxes\[:, :7\]"):
        function(torch.zeros(2, 9))


def test_corners_and_frames_are_differentiable(boxes: Tensor):
    leaf = boxes[:3].clone().requires_grad_()
    assert torch.autograd.gradcheck(corners_3d, leaf)
    points = torch.randn(3, 4, 3, requires_grad=True)
    assert torch.autograd.gradcheck(points_to_box_frame, (points, leaf))
