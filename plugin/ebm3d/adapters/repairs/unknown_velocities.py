"""Velocities that nuScenes does not know: NaN in the data, no part of the loss."""

from __future__ import annotations

from functools import cache, wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor


@cache
def repair_unknown_velocities() -> bool:
    """Keep unknown velocities NaN, and learn nothing from them.

    Upstream defects: ``NuScenesDataset.parse_ann_info`` (``nuscenes_dataset.py``, line 154) turns
    them to 0, a value like any other; ``CenterHead`` (``centerpoint_head.py``, line 658) gives NaN
    the weight 0, which leaves the loss NaN; ``Anchor3DHead`` gives it the weight 1. Here an unknown
    target is the prediction itself: loss and gradient 0.
    """
    from mmdet3d.datasets import NuScenesDataset
    from mmdet3d.models.dense_heads import Anchor3DHead, CenterHead

    parse = NuScenesDataset.parse_ann_info

    @wraps(parse)
    def parse_ann_info(self: Any, info: dict[str, Any]) -> Any:
        annotations = parse(self, info)
        boxes = annotations["gt_bboxes_3d"]
        if self.with_velocity and len(boxes):
            key = "bbox_3d_isvalid" if self.use_valid_flag else "num_lidar_pts"
            rows = [i["velocity"] for i in info["instances"] if i[key] > 0]
            unknown = ~np.isfinite(np.array(rows, dtype=float)).all(axis=1)
            boxes.tensor[torch.from_numpy(unknown), 7:] = torch.nan
        return annotations

    NuScenesDataset.parse_ann_info = parse_ann_info
    for cls in (Anchor3DHead, CenterHead):
        _mask_losses_of(cls)
    return True


def _mask_losses_of(cls: Any) -> None:
    """Let the box loss of a dense head see no unknown velocity."""
    init = cls.__init__

    @wraps(init)
    def init_with_mask(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.loss_bbox.register_forward_pre_hook(_known_targets)

    cls.__init__ = init_with_mask


def _known_targets(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Predictions and targets (..., D), D > 8, the last two columns the velocity."""
    predicted, target, *rest = inputs
    if target.shape[-1] < 9:
        return inputs
    unknown = torch.zeros_like(target, dtype=torch.bool)
    unknown[..., -2:] = target[..., -2:].isnan()
    known: Tensor = torch.where(unknown, predicted.detach(), target)
    return predicted, known, *rest
