"""Residuals between boxes in a box's own axes: what noise is drawn in and steps are taken in.

A *local offset* of a box from a reference box has seven components: along the heading, across it
(to the left), up (bottom to bottom), length, width, height, yaw. Along and across are turned by the
reference's yaw, so that an error in depth of a car does not depend on where the car is heading.
The turn preserves volume: a density of local offsets is a density of boxes with no Jacobian.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.boxes.angles import wrap_to_pi
from ebm3d.boxes.frames import rotate_about_z


def add_local_offsets(reference: Tensor, offsets: Tensor) -> Tensor:
    """Move boxes by offsets given in their own axes.

    Args:
        reference: ``(..., 7)`` boxes.
        offsets: ``(..., 7)``: along, across, up (m); length, width, height (m); yaw (rad).

    Returns:
        ``(..., 7)`` boxes, yaw in (-pi, pi]. Differentiable in both arguments.
    """
    turned = rotate_about_z(offsets, reference[..., 6])
    moved = reference + turned
    return torch.cat((moved[..., :6], wrap_to_pi(moved[..., 6:])), dim=-1)


def local_offsets(reference: Tensor, boxes: Tensor) -> Tensor:
    """Return the offsets of ``boxes`` from ``reference`` in the axes of ``reference``.

    Args:
        reference: ``(..., 7)`` boxes.
        boxes: ``(..., 7)`` boxes.

    Returns:
        ``(..., 7)``, the inverse of :func:`add_local_offsets`; the yaw difference in (-pi, pi].
    """
    difference = boxes - reference
    turned = rotate_about_z(difference, -reference[..., 6])
    return torch.cat((turned[..., :6], wrap_to_pi(turned[..., 6:])), dim=-1)
