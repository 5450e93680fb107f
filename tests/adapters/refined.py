"""Small heads on a map of 12.8 m x 12.8 m, and frames for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.adapters.tiny import RANGE

CHANNELS, CELLS = 8, 32

REFINEMENT_HEAD: dict[str, Any] = {
    "type": "EBMRefinementHead",
    "in_channels": CHANNELS,
    "point_cloud_range": RANGE,
    "pooling": [
        {"type": "BEVGridPool", "grid": (3, 4), "projection": 4},
        {"type": "PointBoxPool", "channels": (8, 8)},
    ],
    "network": {
        "type": "EnergyNetwork",
        "mean_sizes": [[3.9, 1.6, 1.56]],
        "hidden_channels": (16,),
    },
    "noise": {"type": "BoxNoise", "stds": [0.25, 0.12, 0.08, 0.06, 0.06, 0.06, 0.06]},
    "loss": {"type": "NCELoss", "num_noise_samples": 16},
    "refiner": {
        "type": "GradientAscent",
        "num_steps": 4,
        "step_size": 0.5,
        "step_scale": [0.25, 0.12, 0.08, 0.25, 0.1, 0.1, 0.06],
        "axes": "box",
        "max_step": 0.5,
        "max_displacement": 3.0,
    },
    "max_refined": 100,
}


@dataclass
class Frames:
    """Two frames: map, clouds, boxes, labels, scores."""

    bev: Tensor
    points: list[Tensor]
    boxes: list[Tensor]
    labels: list[Tensor]
    scores: list[Tensor]

    def one(self, index: int) -> Frames:
        """The frame alone."""
        part = slice(index, index + 1)
        return Frames(
            self.bev[part],
            self.points[part],
            self.boxes[part],
            self.labels[part],
            self.scores[part],
        )


def build_frames(counts: tuple[int, ...] = (3, 2)) -> Frames:
    """Random frames with so many boxes each, points in and around the boxes."""
    low = torch.tensor([3.0, -4, -2, 3, 1.4, 1.2, -3])
    spread = torch.tensor([7.0, 8, 0.5, 1.5, 0.5, 0.5, 6])
    boxes = [low + spread * torch.rand(count, 7) for count in counts]
    clouds = []
    for own in boxes:
        around = own[:, None, :3] + torch.randn(len(own), 50, 3) * torch.tensor([1.2, 0.8, 0.5])
        clouds.append(torch.cat((around, torch.rand(len(own), 50, 1)), dim=2).reshape(-1, 4))
    return Frames(
        torch.randn(len(counts), CHANNELS, CELLS, CELLS),
        clouds,
        boxes,
        [torch.zeros(count, dtype=torch.int64) for count in counts],
        [torch.rand(count) for count in counts],
    )


def build_head(**options: Any) -> Any:
    """An :class:`EBMRefinementHead` whose f varies from the start."""
    from mmdet3d.registry import MODELS

    head = MODELS.build({**REFINEMENT_HEAD, **options})
    torch.nn.init.normal_(head.network.layers[-1].weight)
    return head
