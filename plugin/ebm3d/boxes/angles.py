"""Angles: wrapping, and the observation angle."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wrap_to_pi(angle: Tensor) -> Tensor:
    r"""Wrap radians into (-pi, pi]; angles that lie there keep every bit.

    .. math:: a - 2\pi \left\lceil \frac{a - \pi}{2\pi} \right\rceil

    The derivative is one.
    """
    turns = torch.ceil((angle - math.pi) / (2 * math.pi))
    return torch.sub(angle, turns, alpha=2 * math.pi)


def wrap_yaw(boxes: Tensor) -> Tensor:
    """Return boxes or local offsets ``(..., D)``, D >= 7, with the yaw in (-pi, pi]."""
    return torch.cat((boxes[..., :6], wrap_to_pi(boxes[..., 6:7]), boxes[..., 7:]), dim=-1)


def observation_angle(boxes: Tensor) -> Tensor:
    """Return ``yaw - atan2(y, x)`` of boxes ``(..., 7)``, radians in (-pi, pi].

    Zero where the sensor, at the origin of the LiDAR frame, sees the rear of the box.
    """
    return wrap_to_pi(boxes[..., 6] - torch.atan2(boxes[..., 1], boxes[..., 0]))
