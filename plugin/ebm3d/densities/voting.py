"""Variance voting: overlapping candidates refine the boxes that NMS keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.boxes import wrap_to_pi
from ebm3d.boxes.iou import iou_bev
from ebm3d.errors import check_boxes, check_positive, input_error, shape_error

_LEAST_VARIANCE = 1e-12  # of a micrometer, or a microradian


@dataclass(frozen=True)
class VarianceVoting:
    r"""Replace each kept box by a weighted mean of the candidates that overlap with it.

    .. math::
        y_d = \frac{\sum_i w_i\, y_{i,d} / \sigma_{i,d}^2}{\sum_i w_i / \sigma_{i,d}^2}, \qquad
        w_i = e^{-(1 - \mathrm{IoU}_i)^2 / \tau}

    over the candidates whose IoU with the kept box exceeds a threshold. Source: He, Zhu, Wang,
    Savvides, Zhang, "Bounding Box Regression with Uncertainty for Accurate Object Detection", CVPR
    2019, the voting step of its Algorithm 1. Deviations: the IoU is the rotated one in BEV; the
    mean is one of centers, sizes and yaws instead of edges; yaws enter by their wrapped differences
    from the kept box's. docs/method.md, M-18.

    Args:
        iou_threshold: in [0, 1).
        temperature: tau, positive: at 0.05, a candidate of IoU 0.5 votes with e^-5.
    """

    iou_threshold: float
    temperature: float

    def __post_init__(self) -> None:
        if not 0 <= self.iou_threshold < 1:
            raise input_error("voting.iou_threshold", "in [0, 1)", self.iou_threshold)
        check_positive("voting.temperature", self.temperature)

    @torch.no_grad()
    def __call__(
        self,
        kept: Tensor,
        candidates: Tensor,
        variances: Tensor,
        same_class: Tensor,
        yaw_period: float,
    ) -> Tensor:
        """Refine boxes; a yaw stays within half a period of the kept box's.

        Args:
            kept: ``(K, 7)``, each of them, up to its yaw's period, a candidate too.
            candidates: ``(M, 7)``.
            variances: ``(M, 7)``, m^2 and rad^2, finite; at least 1e-12 is assumed.
            same_class: ``(K, M)`` whether the candidate is of the kept box's class.
            yaw_period: 2 pi, or pi if a candidate may be flipped by pi.
        """
        check_boxes(kept, "kept")
        check_boxes(candidates, "candidates")
        if variances.shape != candidates.shape:
            raise shape_error("variances", f"({len(candidates)}, 7), as candidates", variances)
        if same_class.shape != (len(kept), len(candidates)):
            raise shape_error("same_class", f"({len(kept)}, {len(candidates)})", same_class)
        overlaps = iou_bev(kept, candidates)
        voters = same_class & (overlaps > self.iou_threshold)
        weights = torch.exp(-(1 - overlaps).square() / self.temperature) * voters
        # The mean of differences from the kept box: their rounding errors are small.
        differences = candidates - kept[:, None]
        turns = 2 * math.pi / yaw_period
        yaw = wrap_to_pi(differences[..., 6:] * turns) / turns
        differences = torch.cat((differences[..., :6], yaw), dim=-1)
        votes = weights[..., None] / variances.clamp_min(_LEAST_VARIANCE)
        total = votes.sum(1)
        mean = (votes * differences).sum(1) / total
        # Boxes without area overlap with nothing, not even with themselves.
        return kept + torch.where(total > 0, mean, 0.0)
