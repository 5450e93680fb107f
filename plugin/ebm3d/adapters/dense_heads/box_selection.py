"""From candidate boxes with densities to detections: score decay, NMS, direction, voting."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from mmdet3d.models.layers import box3d_multiclass_nms
from mmdet3d.structures import limit_period, xywhr2xyxyr
from mmengine.structures import InstanceData
from torch import Tensor

from ebm3d.densities import BoxDistribution
from ebm3d.densities.uncertainty import check_std, decayed_scores
from ebm3d.densities.voting import VarianceVoting


def select_boxes(
    candidates: BoxDistribution,
    scores: Tensor,
    ends: Tensor | None,
    direction: tuple[float, float],
    box_type: Any,
    cfg: Any,
    score_decay: float = 0.0,
    voting: VarianceVoting | None = None,
    velocities: Tensor | None = None,
) -> InstanceData:
    """Suppress overlapping candidates as the host does, and keep the densities of the others.

    Args:
        candidates: M boxes.
        scores: ``(M, K)`` of K classes, in [0, 1].
        ends: class of the direction ``(M,)``, or None for yaws modulo 2 pi.
        direction: the host's ``dir_offset`` and ``dir_limit_offset``, radians.
        box_type: the host's class of boxes.
        cfg: with the host's ``score_thr``, ``nms_thr``, ``max_num``, ``use_rotate_nms``.
        score_decay: see :func:`~ebm3d.densities.uncertainty.decayed_scores`; applied before NMS.
        voting: of all candidates above ``score_thr`` on the boxes NMS keeps.
        velocities: ``(M, 0 or 2)``, m/s, become further columns of the detections.

    Returns:
        N detections; fields as in ``DistributionAnchor3DHead.predict_by_feat``.
    """
    boxes = candidates.boxes
    std = candidates.std if score_decay or voting else None
    if std is not None:
        check_std(std, "box_std")
    if std is not None and score_decay:
        scores = decayed_scores(scores, std, boxes, score_decay)
    threshold = cfg.get("score_thr", 0)
    _, kept_scores, labels, kept = box3d_multiclass_nms(
        boxes,
        xywhr2xyxyr(box_type(boxes).bev),
        torch.cat((scores, scores.new_zeros(len(scores), 1)), dim=1),  # a column of the background
        threshold,
        cfg.max_num,
        cfg,
        torch.arange(len(boxes), device=boxes.device),  # comes back selected
    )
    kept = kept.long()  # an empty one comes back as float
    chosen, final = candidates[kept], boxes[kept]
    if ends is not None:
        offset, limit_offset = direction
        axis = limit_period(final[:, 6] - offset, limit_offset, math.pi)
        yaw = axis + offset + math.pi * ends[kept].to(final)
        chosen = replace(chosen, coding=chosen.coding.turned(yaw - final[:, 6]))
        final = torch.cat((final[:, :6], yaw[:, None]), dim=1)
    if std is not None and voting:
        same_class = (scores > threshold)[:, labels].t()
        final = voting(final, boxes, std.square(), same_class, candidates.yaw_period)
        shift = chosen.residuals(final) - chosen.density.point
        chosen = replace(chosen, density=chosen.density.translated(shift))
    if velocities is not None:
        final = torch.cat((final, velocities[kept]), dim=1)
    return InstanceData(
        bboxes_3d=box_type(final, box_dim=final.shape[1]),
        scores_3d=kept_scores,
        labels_3d=labels,
        box_std=chosen.std,
        box_covariance=chosen.covariance,
        box_distribution=chosen,
    )
