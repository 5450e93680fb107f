"""Angles: wrapping, and the observation angle."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wrap_to_pi(angle: Tensor) -> Tensor:
    r"""Wrap angles into (-pi, pi].

    .. math:: a - 2\pi \left\lceil \frac{a - \pi}{2\pi} \right\rceil

    Args:
        angle: radians, any shape.

    Returns:
        The same angles modulo 2 pi, in (-pi, pi], same shape and dtype; those that lie there
        already come back bit by bit. The derivative is one everywhere but at the seam.
    """
    turns = torch.ceil((angle - math.pi) / (2 * math.pi))
    return torch.sub(angle, turns, alpha=2 * math.pi)


def observation_angle(boxes: Tensor) -> Tensor:
    """Return the heading relative to the ray from the sensor to the box.

    Args:
        boxes: ``(..., 7)`` boxes, LiDAR frame, sensor at the origin.

    Returns:
        ``yaw - atan2(y, x)`` in (-pi, pi], radians, shape ``(...)``. Zero: the box drives straight
        away from the sensor, so that its rear is seen.
    """
    return wrap_to_pi(boxes[..., 6] - torch.atan2(boxes[..., 1], boxes[..., 0]))
