"""Boxes that overlap vote on the one NMS keeps, the surer the heavier.

K kept boxes; M candidates, those NMS chose from; boxes ``(x, y, z, dx, dy, dz, yaw)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.boxes import wrap_to_pi
from ebm3d.boxes.iou import iou_bev
from ebm3d.densities.uncertainty import check_known
from ebm3d.errors import can_read, check_boxes, input_error, shape_error

_LEAST_VARIANCE = 1e-12  # of a micrometer, or a microradian


@dataclass(frozen=True)
class VarianceVoting:
    r"""Replace each kept box by the mean of the candidates that overlap with it.

    .. math::
        y_d = \frac{\sum_i w_i\, y_{i,d} / \sigma_{i,d}^2}{\sum_i w_i / \sigma_{i,d}^2}, \qquad
        w_i = e^{-(1 - \mathrm{IoU}_i)^2 / \tau}

    over the candidates whose IoU with the kept box exceeds a threshold. Source: He, Zhu, Wang,
    Savvides, Zhang, "Bounding Box Regression with Uncertainty for Accurate Object Detection", CVPR
    2019, the voting step of its Algorithm 1. Deviations: the IoU is that of rotated boxes seen from
    above; the mean is one of centers, sizes and yaws instead of edges; yaws vote by their wrapped
    differences from the kept box's, and those of candidates that point the other way as if turned.
    docs/method.md, M-18.

    Attributes:
        iou_threshold: in [0, 1); 0 lets every overlapping candidate vote.
        temperature: tau, positive: at 0.05, a candidate of IoU 0.5 votes with e^-5.

    Raises:
        ValueError: if one is out of its range.
    """

    iou_threshold: float
    temperature: float

    def __post_init__(self) -> None:
        if not 0 <= self.iou_threshold < 1:
            raise input_error("voting.iou_threshold", "in [0, 1)", self.iou_threshold)
        if not 0 < self.temperature < math.inf:
            raise input_error("voting.temperature", "positive and finite", self.temperature)

    @torch.no_grad()
    def __call__(
        self,
        kept: Tensor,
        candidates: Tensor,
        variances: Tensor,
        same_class: Tensor,
        yaw_period: float,
    ) -> Tensor:
        """Return the boxes voted for.

        Args:
            kept: ``(K, 7)``, each of them, up to its yaw's period, a candidate too.
            candidates: ``(M, 7)``.
            variances: ``(M, 7)``, m^2 and rad^2; none counts as less than 1e-12.
            same_class: ``(K, M)`` boolean: whether the candidate is of the kept box's class.
            yaw_period: pi if candidates do not know their front, otherwise 2 pi.

        Returns:
            ``(K, 7)``, the yaw within half a period of the kept box's.

        Raises:
            ValueError: if a shape is wrong, or in main memory a variance is not finite; see
                :func:`ebm3d.densities.uncertainty.decayed_scores`.
        """
        check_boxes(kept, "kept")
        check_boxes(candidates, "candidates")
        if variances.shape != candidates.shape:
            raise shape_error("variances", f"({len(candidates)}, 7), as candidates", variances)
        if same_class.shape != (len(kept), len(candidates)):
            raise shape_error("same_class", f"({len(kept)}, {len(candidates)})", same_class)
        if can_read(variances):
            check_known(variances, "variances")
        overlaps = iou_bev(kept, candidates)
        voters = same_class & (overlaps > self.iou_threshold)
        weights = torch.exp(-(1 - overlaps).square() / self.temperature) * voters
        precisions = 1 / variances.clamp_min(_LEAST_VARIANCE)
        # To the kept box, whose own difference is 0: rounding stays small beside the votes.
        differences = candidates - kept[:, None]
        turns = 2 * math.pi / yaw_period
        yaw = wrap_to_pi(differences[..., 6:] * turns) / turns
        differences = torch.cat((differences[..., :6], yaw), dim=-1)
        votes = weights[..., None] * precisions
        total = votes.sum(1)
        mean = (votes * differences).sum(1) / total
        # Boxes without area overlap with nothing, not even with themselves.
        return kept + torch.where(total > 0, mean, 0.0)
