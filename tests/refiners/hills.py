"""Functions of boxes to climb."""

from __future__ import annotations

import torch
from torch import Tensor

CURVATURE = 3.0
MODE = torch.tensor([10.0, -2.0, -1.5, 4.0, 1.8, 1.6, 0.4], dtype=torch.float64)
SCALE = (0.5, 0.2, 0.1, 0.3, 0.15, 0.25, 0.4)
# With velocities.
MOVING_MODE = torch.cat((MODE, torch.tensor([6.0, -3.0], dtype=torch.float64)))
MOVING_SCALE = (*SCALE, 0.45, 0.35)


def quadratic(boxes: Tensor) -> Tensor:
    """-k / 2 |y - mode|^2."""
    mode = MOVING_MODE[: boxes.shape[1]].to(boxes)
    return -0.5 * CURVATURE * (boxes - mode).square().sum(dim=1)


def rugged(boxes: Tensor) -> Tensor:
    """Many maxima, steep, of period 2 pi in the yaw."""
    return torch.sin(40 * boxes).sum(dim=1) + 5 * torch.cos(boxes[:, 0]) * torch.cos(boxes[:, 6])


def starts(count: int = 8, columns: int = 7) -> Tensor:
    """Boxes near the mode."""
    return MOVING_MODE[:columns] + 0.3 * torch.randn(count, columns, dtype=torch.float64)
