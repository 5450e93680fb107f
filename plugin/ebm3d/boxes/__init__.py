"""Boxes: conventions, angles, frames, corners, residuals, exact rotated IoU."""

from ebm3d.boxes.angles import observation_angle, wrap_to_pi
from ebm3d.boxes.corners import bev_corners, corners_3d
from ebm3d.boxes.frames import points_to_box_frame, rotate_about_z
from ebm3d.boxes.local import add_local_offsets, local_offsets

__all__ = [
    "add_local_offsets",
    "bev_corners",
    "corners_3d",
    "local_offsets",
    "observation_angle",
    "points_to_box_frame",
    "rotate_about_z",
    "wrap_to_pi",
]
