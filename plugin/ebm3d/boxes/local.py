"""Offsets between boxes in the axes of one of them.

A *local offset* has D components as the boxes: along the heading, across it (to the left), up
(bottom to bottom), length, width, height (meters), yaw (radians); of nine, the last are the
difference of the velocities along and across (m/s). Rotation preserves volume: a density of local
offsets is a density of boxes, with no Jacobian.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.boxes.angles import wrap_yaw
from ebm3d.boxes.frames import rotate_about_z


def add_local_offsets(reference: Tensor, offsets: Tensor) -> Tensor:
    """Return the boxes at local offsets ``(..., D)`` from a reference; yaw in (-pi, pi]."""
    return wrap_yaw(reference + rotate_offsets(offsets, reference[..., 6]))


def local_offsets(reference: Tensor, boxes: Tensor) -> Tensor:
    """Return the local offsets ``(..., D)`` of boxes from a reference; yaw in (-pi, pi]."""
    return wrap_yaw(rotate_offsets(boxes - reference, -reference[..., 6]))


def rotate_offsets(offsets: Tensor, yaw: Tensor) -> Tensor:
    """Rotate center and velocity of offsets ``(..., D)`` by yaws that broadcast to ``(...)``."""
    rotated = rotate_about_z(offsets, yaw)
    if offsets.shape[-1] == 7:
        return rotated
    return torch.cat((rotated[..., :7], rotate_about_z(offsets[..., 7:], yaw)), dim=-1)
