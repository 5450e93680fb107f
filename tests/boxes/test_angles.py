from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ebm3d.boxes import observation_angle, wrap_to_pi

_angles = st.floats(-50.0, 50.0)


@given(_angles)
def test_wrapped_angle_lies_in_the_half_open_interval(angle: float):
    wrapped = float(wrap_to_pi(torch.tensor(angle, dtype=torch.float64)))
    assert -math.pi < wrapped <= math.pi


@given(_angles)
def test_wrapping_keeps_the_angle_modulo_a_turn(angle: float):
    wrapped = float(wrap_to_pi(torch.tensor(angle, dtype=torch.float64)))
    assert math.cos(wrapped) == pytest.approx(math.cos(angle), abs=1e-12)
    assert math.sin(wrapped) == pytest.approx(math.sin(angle), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_angles_in_range_come_back_bit_by_bit(dtype: torch.dtype):
    angle = torch.empty(1000, dtype=dtype).uniform_(-3.14159, math.pi)
    angle = torch.cat((angle, torch.tensor([0.0, 1e-30, -1e-30, math.pi], dtype=dtype)))
    assert torch.equal(wrap_to_pi(angle), angle)


def test_minus_pi_becomes_pi():
    angle = torch.tensor([-math.pi, 3 * math.pi], dtype=torch.float64)
    torch.testing.assert_close(wrap_to_pi(angle), torch.full_like(angle, math.pi))


def test_derivative_of_wrapping_is_one():
    angle = torch.tensor([-7.0, -1.0, 0.0, 2.0, 12.0], dtype=torch.float64, requires_grad=True)
    wrap_to_pi(angle).sum().backward()
    assert torch.equal(angle.grad, torch.ones(5, dtype=torch.float64))


def test_box_driving_straight_away_is_observed_at_zero():
    yaw = torch.tensor([0.3, -2.0, math.pi / 2])
    boxes = torch.zeros(3, 7)
    boxes[:, 0], boxes[:, 1], boxes[:, 6] = 20 * torch.cos(yaw), 20 * torch.sin(yaw), yaw
    torch.testing.assert_close(observation_angle(boxes), torch.zeros(3), atol=1e-6, rtol=0)


def test_observation_angle_does_not_change_when_the_world_turns_about_the_sensor():
    boxes = torch.randn(20, 7, dtype=torch.float64)
    turned = boxes.clone()
    cos, sin = math.cos(0.7), math.sin(0.7)
    turned[:, 0] = cos * boxes[:, 0] - sin * boxes[:, 1]
    turned[:, 1] = sin * boxes[:, 0] + cos * boxes[:, 1]
    turned[:, 6] += 0.7
    difference = wrap_to_pi(observation_angle(turned) - observation_angle(boxes))
    torch.testing.assert_close(difference, torch.zeros_like(difference), atol=1e-12, rtol=0)


def test_observation_angle_grows_with_the_yaw():
    boxes = torch.tensor([[10.0, 5.0, 0, 4, 2, 1.5, 0.2], [10.0, 5.0, 0, 4, 2, 1.5, 0.3]])
    alpha = observation_angle(boxes)
    assert float(alpha[1] - alpha[0]) == pytest.approx(0.1, abs=1e-6)
