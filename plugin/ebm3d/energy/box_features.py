"""How the box enters the network directly: z, sizes, distance, viewing angle, velocity.

N boxes; S variants of each.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ebm3d.boxes.frames import rotate_about_z
from ebm3d.devices import constant
from ebm3d.pooling.twins import apply, gradients

NUM_BOX_FEATURES = 8
NUM_VELOCITY_FEATURES = 2
_SIZE_SCALE = 4.0
_DISTANCE_SCALE = 25.0  # meters
_SCALE = (*(_SIZE_SCALE,) * 3, 1.0, 1 / _DISTANCE_SCALE, 1.0, 1.0, 1.0)
# Angles whose cosines are cosine and sine of the observation angle, and the sine of twice it.
_ANGLE_FACTORS, _ANGLE_OFFSETS = (1.0, 1.0, 2.0), (0.0, -math.pi / 2, -math.pi / 2)


def class_shift(log_mean_sizes: Tensor) -> Tensor:
    """Return the constants ``(num_classes, 8)`` of the features from ``(num_classes, 3)``."""
    shift = log_mean_sizes.new_zeros(len(log_mean_sizes), NUM_BOX_FEATURES)
    shift[:, :3], shift[:, 4] = -_SIZE_SCALE * log_mean_sizes, -1.0
    return shift


def box_features(boxes: Tensor, shift: Tensor) -> Tensor:
    r"""Describe boxes by eight numbers; docs/method.md, M-6.

    Four times the logarithms of length, width and height over those of the class; the bottom z in
    meters; the distance from the sensor over 25 m, less one; cosine and sine of the observation
    angle :math:`\alpha`, and :math:`\sin 2\alpha`.

    Args:
        boxes: ``(N, S, 7)``, sizes positive.
        shift: ``(N, 8)`` rows of :func:`class_shift`.

    Returns:
        ``(N, S, 8)``, differentiable in boxes, twice; the first gradient in closed form.
    """
    features: Tensor = apply(_BoxFeatures, boxes, shift[:, None])
    return features


def velocity_features(boxes: Tensor) -> Tensor:
    """Inverse hyperbolic sines of the velocity along and across the heading, m/s.

    Linear below 1 m/s, where a parked car and a slow one differ, logarithmic above.

    Args:
        boxes: ``(N, S, 9)``.

    Returns:
        ``(N, S, 2)``, differentiable in boxes, twice.
    """
    return torch.asinh(rotate_about_z(boxes[..., 7:9], -boxes[..., 6]))


def _by_torch(boxes: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features ``(N, S, 8)``, distances ``(N, S, 1)`` and angles ``(N, S, 3)``."""
    distance = torch.linalg.vector_norm(boxes[..., :2], dim=-1, keepdim=True)
    observed = boxes[..., 6:] - torch.atan2(boxes[..., 1:2], boxes[..., :1])
    offsets, factors = constant(_ANGLE_OFFSETS, boxes), constant(_ANGLE_FACTORS, boxes)
    angles = torch.addcmul(offsets, observed, factors)
    parts = torch.log(boxes[..., 3:6]), boxes[..., 2:3], distance, torch.cos(angles)
    features = torch.addcmul(shift, torch.cat(parts, dim=-1), constant(_SCALE, boxes))
    return features, distance, angles


class _BoxFeatures(torch.autograd.Function):
    """:func:`_by_torch` with its gradient in closed form."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, shift: Tensor) -> Tensor:
        features, distance, angles = _by_torch(boxes, shift)
        ctx.save_for_backward(boxes, shift, distance, angles)
        return features

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        boxes, shift, distance, angles = ctx.saved_tensors
        if torch.is_grad_enabled():
            features = _by_torch(boxes, shift)[0]
            return gradients(features, (boxes,), grad, ctx.needs_input_grad)[0], None
        grad = grad * constant(_SCALE, boxes)
        by_angle = constant(tuple((-factor,) for factor in _ANGLE_FACTORS), boxes)
        grad_angle = (grad[..., 5:] * torch.sin(angles)) @ by_angle
        # At the sensor neither distance nor angle has a slope: zero, as torch has it.
        distance = distance.clamp_min(torch.finfo(boxes.dtype).tiny)
        x, y = (boxes[..., :2] / distance).split(1, dim=-1)
        outward, around = grad[..., 4:5], grad_angle / distance
        grad_x = torch.addcmul(x * outward, y, around)
        grad_y = torch.addcmul(y * outward, x, around, value=-1)
        grad_sizes = grad[..., :3] / boxes[..., 3:6]
        parts = grad_x, grad_y, grad[..., 3:4], grad_sizes, grad_angle
        return torch.cat(parts, dim=-1), None
