"""Noise scales from the errors of a detector."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.boxes.angles import wrap_to_pi
from ebm3d.boxes.local import local_offsets
from ebm3d.errors import (
    can_read,
    check_floating_boxes,
    check_valid_boxes,
    input_error,
    shape_error,
)

# Of a Gaussian, 68.27 % lie within one standard deviation of zero.
_ONE_SIGMA = math.erf(1 / math.sqrt(2))


def box_errors(boxes: Tensor, others: Tensor) -> Tensor:
    """Return by how much others differ from boxes, ``(N, D)`` each, as :func:`fit_noise_stds`.

    Yaw errors count modulo pi.
    """
    offsets = local_offsets(boxes, others)
    ratios = torch.log(others[:, 3:6] / boxes[:, 3:6])
    yaw = 0.5 * wrap_to_pi(2 * offsets[:, 6:7])
    return torch.cat((offsets[:, :3], ratios, yaw, offsets[:, 7:]), dim=1)


def fit_noise_stds(true: Tensor, detected: Tensor) -> Tensor:
    """Fit the standard deviations of :class:`BoxNoise` to matched boxes of one class.

    Each is the 68.27 % quantile of the absolute error, robust against gross errors, in the
    coordinates of ``axes="box", sizes="log"``. Yaw errors count modulo pi: a heading flipped by pi
    is an error of the direction classifier, which no noise should cover.

    Args:
        true: ``(N, D)`` true boxes, N >= 1, D of 7 or 9 columns; velocities of NaN are unknown.
        detected: ``(N, D)`` the boxes detected for them.

    Returns:
        ``(D,)``: along, across, up (m); length, width, height (log ratio); yaw (rad); velocity
        along and across (m/s), over the pairs where it is known. Errors are taken about zero: a
        bias of the detector widens the noise.

    Raises:
        ValueError: for wrong shapes, no pairs (of known velocity), or boxes that are not finite and
            of positive size.
    """
    for name, boxes in (("true", true), ("detected", detected)):
        check_floating_boxes(boxes, name, (7, 9))
        known = torch.cat(
            (boxes[:, :7], boxes[:, 7:].masked_fill(boxes[:, 7:].isnan(), 0.0)), dim=1
        )
        check_valid_boxes(known, name, (7, 9))
    if true.shape != detected.shape or len(true) == 0:
        expected = f"{tuple(true.shape)}, as true, of at least one box (N >= 1)"
        raise shape_error("detected", expected, detected)
    errors = box_errors(true, detected).abs()
    fitted = torch.nanquantile(errors.double(), _ONE_SIGMA, dim=0).to(errors.dtype)
    if can_read(fitted) and bool(fitted.isnan().any()):
        raise input_error("velocities", "known in at least one pair", "NaN in all of them")
    return fitted
