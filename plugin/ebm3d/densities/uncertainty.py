"""Relative uncertainty of boxes, and scores that decay with it."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.errors import check_boxes, input_error, shape_error


def relative_uncertainty(std: Tensor, boxes: Tensor) -> Tensor:
    r"""Root mean square displacement of a box's corners, in diagonals of the box.

    .. math::
        u^2 = \frac{\sigma_x^2 + \sigma_y^2 + \sigma_z^2
            + \tfrac14 (\sigma_{d_x}^2 + \sigma_{d_y}^2) + \tfrac12 \sigma_{d_z}^2
            + \tfrac14 (d_x^2 + d_y^2)\, \sigma_\theta^2}{d_x^2 + d_y^2 + d_z^2}

    the mean over the eight corners, to first order and for uncorrelated dimensions. Ours;
    docs/method.md, M-18. Standard deviations ``(N, D)`` in m and rad; returns ``(N,)``. Velocities
    and their deviations do not enter.
    """
    check_boxes(boxes, columns=(7, 9))
    if std.shape != boxes.shape:
        raise shape_error("std", f"{tuple(boxes.shape)}, as boxes", std)
    variance, squares = std.square(), boxes[:, 3:6].square()
    rotation = squares[:, :2].sum(1) * variance[:, 6] / 4
    sizes = variance[:, 3:5].sum(1) / 4 + variance[:, 5] / 2
    return torch.sqrt((variance[:, :3].sum(1) + sizes + rotation) / squares.sum(1))


def decayed_scores(scores: Tensor, std: Tensor, boxes: Tensor, decay: float) -> Tensor:
    r"""Scores that fall with the relative uncertainty: :math:`s\,e^{-\kappa u}`.

    docs/method.md, M-18.

    Args:
        scores: ``(N,)``, or ``(N, K)`` of K classes.
        std: ``(N, D)``, m and rad; a box keeps its scores where one is not finite.
        boxes: ``(N, D)``.
        decay: kappa, at least 0: at 10, a displacement of 5 % of the diagonal takes 39 %.
    """
    if len(scores) != len(boxes) or scores.ndim > 2:
        raise shape_error("scores", f"({len(boxes)},) or ({len(boxes)}, K)", scores)
    uncertainty = relative_uncertainty(std, boxes)
    factors = torch.where(torch.isfinite(uncertainty), torch.exp(-decay * uncertainty), 1.0)
    return (scores * (factors if scores.ndim == 1 else factors[:, None])).to(scores.dtype)


def check_std(std: Tensor, name: str) -> None:
    """Raise if a standard deviation ``(N, 7)`` is not finite; waits for a device."""
    known = torch.isfinite(std).all(dim=1)
    if not bool(known.all()):
        row = int((~known).nonzero()[0, 0])
        remedy = (
            "a DirectBoxRegression has no spread before it was trained, as with a checkpoint of "
            "the host: train it, or leave out score_decay and voting"
        )
        raise input_error(name, "finite", f"{std[row].tolist()} in row {row}", remedy)
