"""Offsets between boxes in the axes of one of them.

A *local offset* has seven components: along the heading, across it (to the left), up (bottom to
bottom), length, width, height (meters), yaw (radians). Rotation preserves volume: a density of
local offsets is a density of boxes, with no Jacobian.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.boxes.angles import wrap_to_pi
from ebm3d.boxes.frames import rotate_about_z


def add_local_offsets(reference: Tensor, offsets: Tensor) -> Tensor:
    """Return the boxes at local offsets ``(..., 7)`` from a reference; yaw in (-pi, pi]."""
    moved = reference + rotate_about_z(offsets, reference[..., 6])
    return torch.cat((moved[..., :6], wrap_to_pi(moved[..., 6:])), dim=-1)


def local_offsets(reference: Tensor, boxes: Tensor) -> Tensor:
    """Return the local offsets ``(..., 7)`` of boxes from a reference; yaw in (-pi, pi]."""
    offsets = rotate_about_z(boxes - reference, -reference[..., 6])
    return torch.cat((offsets[..., :6], wrap_to_pi(offsets[..., 6:])), dim=-1)
