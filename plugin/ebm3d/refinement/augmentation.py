"""Augmentation of labelled clouds: flip, rotation, scaling, height, dropped points.

P points; N boxes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.boxes.angles import wrap_yaw


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a frame, those of clouds and boxes alike.

    Attributes:
        max_rotation: about the sensor's vertical axis, radians, of either sense.
        max_scaling: of all lengths, relative.
        max_lift: of the sensor's height, meters.
        max_dropped: largest share of points that are left out.
    """

    max_rotation: float = math.pi
    max_scaling: float = 0.02
    max_lift: float = 0.1
    max_dropped: float = 0.5

    def __call__(
        self, points: Tensor, boxes: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return points ``(P', F)`` and boxes ``(N, 7)`` of a changed frame.

        Args:
            points: ``(P, F)``: x, y, z, and columns that stay.
            boxes: ``(N, 7)``.
            generator: source of randomness.
        """
        draw = torch.rand(6, generator=generator, dtype=torch.float64).tolist()
        flip = 1 if draw[0] < 0.5 else -1
        angle = self.max_rotation * (2 * draw[1] - 1)
        scale = 1 + self.max_scaling * (2 * draw[2] - 1)
        lift = self.max_lift * (2 * draw[3] - 1)
        kept = torch.rand(len(points), generator=generator) >= self.max_dropped * draw[4]
        points = points[kept]
        cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
        # Rows times this: y is flipped, then all is turned and scaled.
        motion = points.new_tensor([[cos, sin, 0], [-sin * flip, cos * flip, 0], [0, 0, scale]])
        up = points.new_tensor([0, 0, lift])
        moved = torch.cat((points[:, :3] @ motion + up, points[:, 3:]), dim=1)
        yaw = flip * boxes[:, 6:7] + angle
        center = boxes[:, :3] @ motion.to(boxes) + up.to(boxes)
        return moved, wrap_yaw(torch.cat((center, boxes[:, 3:6] * scale, yaw), dim=1))
