"""One number for how uncertain a box is, and scores that fall with it.

N boxes ``(x, y, z, dx, dy, dz, yaw)``, z at the bottom center.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.errors import can_read, check_boxes, input_error, shape_error

# What a spread of NaN comes from, and what to do.
UNTRAINED = (
    "a DirectBoxRegression has no spread before it was trained, as with a checkpoint of the host: "
    "train it, or leave out score_decay and voting"
)


def relative_uncertainty(std: Tensor, boxes: Tensor) -> Tensor:
    r"""Root mean square displacement of a box's corners, in diagonals of the box.

    .. math::
        u^2 = \frac{\sigma_x^2 + \sigma_y^2 + \sigma_z^2
            + \tfrac14 (\sigma_{d_x}^2 + \sigma_{d_y}^2) + \tfrac12 \sigma_{d_z}^2
            + \tfrac14 (d_x^2 + d_y^2)\, \sigma_\theta^2}{d_x^2 + d_y^2 + d_z^2}

    the mean over the eight corners, to first order and for uncorrelated dimensions: a corner is
    half a length and half a width from the axis, at the bottom or a height above it, and as far
    from the axis as the yaw's lever is long. Dimensionless, the same for a box however it is
    turned. Ours; docs/method.md, M-18.

    Args:
        std: standard deviation of each dimension ``(N, 7)``, m and rad.
        boxes: ``(N, 7)``.

    Returns:
        ``(N,)``, at least 0. NaN where a standard deviation is NaN.

    Raises:
        ValueError: if a shape is wrong.
    """
    check_boxes(boxes)
    if std.shape != boxes.shape:
        raise shape_error("std", f"({len(boxes)}, 7), as boxes", std)
    variance = std.square()
    squares = boxes[:, 3:6].square()
    turning = squares[:, :2].sum(1) * variance[:, 6] / 4
    sizes = variance[:, 3:5].sum(1) / 4 + variance[:, 5] / 2
    return torch.sqrt((variance[:, :3].sum(1) + sizes + turning) / squares.sum(1))


def decayed_scores(scores: Tensor, uncertainty: Tensor, decay: float) -> Tensor:
    r"""Scores that fall with the uncertainty: :math:`s\,e^{-\kappa u}`.

    Ranks sure boxes before others of the same score. docs/method.md, M-18.

    Args:
        scores: ``(N,)``, or ``(N, K)`` of K classes.
        uncertainty: u, ``(N,)``, from :func:`relative_uncertainty`.
        decay: kappa, at least 0: at 10, a root mean square displacement of 5 % of the diagonal
            takes 39 % of the score.

    Returns:
        The shape of ``scores``.

    Raises:
        ValueError: if ``decay`` is negative or no number, the rows differ in number, or in main
            memory an uncertainty is not finite. On another device looking would wait for it: call
            :func:`check_known` once before.
    """
    if uncertainty.shape != scores.shape[:1] or scores.ndim > 2:
        raise shape_error(
            "uncertainty", "(N,), a row per row of scores (N,) or (N, K)", uncertainty
        )
    if not 0 <= decay < math.inf:
        raise input_error("score_decay", "at least 0 and finite", decay)
    if can_read(uncertainty):
        check_known(uncertainty, "uncertainty")
    factors = torch.exp(-decay * uncertainty)
    return scores * (factors if scores.ndim == 1 else factors[:, None])


def decayed_where_known(scores: Tensor, std: Tensor, boxes: Tensor, decay: float) -> Tensor:
    """Scores that fall with the uncertainty; a box without a density keeps its score.

    Args:
        scores: ``(N,)``.
        std: standard deviation of each dimension ``(N, 7)``, m and rad; NaN where there is none.
        boxes: ``(N, 7)``.
        decay: kappa, see :func:`decayed_scores`.

    Returns:
        ``(N,)``, in the dtype of ``scores``.
    """
    uncertainty = relative_uncertainty(std, boxes)
    known = torch.isfinite(uncertainty)
    lowered = decayed_scores(scores, torch.where(known, uncertainty, 0.0), decay)
    return torch.where(known, lowered.to(scores.dtype), scores)


def check_known(values: Tensor, name: str) -> None:
    """Raise if a value is not finite, as the spreads of an untrained regression.

    Args:
        values: ``(N, ...)``; looked at, which waits for a device.
        name: for the message.

    Raises:
        ValueError: with the first row that is not finite.
    """
    rows = torch.isfinite(values).flatten(1).all(1) if values.ndim > 1 else torch.isfinite(values)
    if not bool(rows.all()):
        first = int(torch.nonzero(~rows)[0, 0])
        raise input_error(name, "finite", f"{values[first].tolist()} in row {first}", UNTRAINED)
