"""Cars that a detector finds a meter short of the truth, and heads that move them there or not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.densities import BoxDistribution, GaussianDensity

SHORT = 1.0


def cars(*along: float) -> Tensor:
    """Cars at so many meters along the x axis, four meters long."""
    boxes = torch.tensor([[0.0, 0.0, -1.7, 4.0, 2.0, 1.5, 0.0]]).repeat(len(along), 1)
    boxes[:, 0] = torch.tensor(along)
    return boxes


def instances(boxes: Tensor, **fields: Any) -> Any:
    """Cars of score one half, as a dense head gives them."""
    from mmdet3d.structures import LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    return InstanceData(
        **{
            "bboxes_3d": LiDARInstance3DBoxes(boxes),
            "scores_3d": torch.full((len(boxes),), 0.5),
            "labels_3d": torch.zeros(len(boxes), dtype=torch.int64),
            **fields,
        }
    )


def frame(name: str, truths: Tensor, found: Tensor | None = None, **fields: Any) -> Any:
    """A frame whose boxes are paired row by row; by default all are SHORT."""
    from ebm3d.adapters.engine.head_evaluation import DetectedFrame

    found = truths - torch.eye(7)[0] * SHORT if found is None else found
    rows = torch.arange(min(len(truths), len(found)))
    given = {
        "bev": torch.zeros(1, 1, 2, 2),
        "points": [],
        "result": instances(found),
        "meta": {"lidar_path": f"{name}.bin"},
        "seconds": 0.25,
        **fields,
    }
    return DetectedFrame(name, truths=truths, pairs=torch.stack((rows, rows), dim=1), **given)


class ShiftingHead:
    """Leaves boxes short by what it has for its mode, with a Gaussian around them.

    Args:
        left: meters by mode.
        std: of the Gaussian in every unit; None for no density.
    """

    def __init__(self, left: Mapping[str, float], std: float | None = 0.2) -> None:
        self.left, self.std = left, std
        self.mover = SimpleNamespace(mode=next(iter(left)))

    def refine(self, bev: Any, points: Any, boxes: Any, labels: Any, scores: Any) -> list[Any]:
        """Moved boxes of one frame."""
        moved = boxes[0].clone()
        moved[:, 0] += SHORT - self.left[self.mover.mode]
        if self.std is None:
            return [{"boxes": moved}]
        log_variance = torch.full_like(moved, 2 * math.log(self.std))
        density = GaussianDensity(torch.zeros_like(moved), log_variance)
        coding = LocalCoding(moved, torch.ones_like(moved))
        return [{"boxes": moved, "box_distribution": BoxDistribution(density, coding, math.pi)}]

    def parameters(self) -> list[Tensor]:
        """None."""
        return []
