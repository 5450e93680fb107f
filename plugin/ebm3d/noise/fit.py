"""Noise scales from the errors of a detector."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.boxes.angles import wrap_to_pi
from ebm3d.boxes.local import local_offsets
from ebm3d.errors import check_valid_boxes, shape_error

# Of a Gaussian, 68.27 % lie within one standard deviation of zero.
_ONE_SIGMA = math.erf(1 / math.sqrt(2))


def fit_noise_stds(true: Tensor, detected: Tensor) -> Tensor:
    """Fit the standard deviations of :class:`BoxNoise` to matched boxes of one class.

    Each is the 68.27 % quantile of the absolute error, robust against gross errors, in the
    coordinates of ``axes="box", sizes="log"``. Yaw errors count modulo pi: a heading flipped by pi
    is an error of the direction classifier, which no noise should cover.

    Args:
        true: ``(N, 7)`` true boxes, N >= 1.
        detected: ``(N, 7)`` the boxes detected for them.

    Returns:
        ``(7,)``: along, across, up (m); length, width, height (log ratio); yaw (rad). Errors are
        taken about zero: a bias of the detector widens the noise.

    Raises:
        ValueError: for wrong shapes, no pairs, or boxes that are not finite and of positive size.
    """
    check_valid_boxes(true, "true")
    check_valid_boxes(detected, "detected")
    if true.shape != detected.shape or len(true) == 0:
        raise shape_error("detected", f"(N, 7) with N >= 1, as true {tuple(true.shape)}", detected)
    offsets = local_offsets(true, detected)
    ratio = torch.log(detected[:, 3:6] / true[:, 3:6])
    yaw = 0.5 * wrap_to_pi(2 * offsets[:, 6:])
    errors = torch.cat((offsets[:, :3], ratio, yaw), dim=1).abs()
    return torch.quantile(errors.double(), _ONE_SIGMA, dim=0).to(errors.dtype)
