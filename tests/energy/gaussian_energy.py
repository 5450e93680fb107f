"""An energy whose normalizer is known."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Normal

from ebm3d.boxes.codings import LocalCoding
from ebm3d.noise import BoxNoise

NOISE = BoxNoise([0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04])
MOVING_NOISE = BoxNoise([0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04, 0.9, 0.3])
CONSTANT, STD = 17.3, 0.4


class GaussianEnergy:
    """f of boxes: the log density of residuals from N boxes, independent of STD, plus CONSTANT."""

    def __init__(self, count: int, noise: BoxNoise = NOISE) -> None:
        low = torch.tensor([5.0, -10, -2, 3, 1.4, 1.2, -3], dtype=torch.float64)
        spread = torch.tensor([20.0, 20, 1, 2, 1, 1, 6])
        self.boxes = low + spread * torch.rand(count, 7, dtype=torch.float64)
        if noise.num_columns > 7:
            velocities = 8 * torch.randn(count, 2, dtype=torch.float64)
            self.boxes = torch.cat((self.boxes, velocities), dim=1)
        self.labels = torch.zeros(count, dtype=torch.int64)
        self.coding = LocalCoding(self.boxes, noise.noise_std(self.boxes, self.labels))
        self.noise, self.num_calls = noise, 0

    def log_prob(self, boxes: Tensor) -> Tensor:
        """Log density of boxes ``(N, 7)`` or ``(N, S, 7)``."""
        residuals = Normal(0, STD).log_prob(self.coding.encode(boxes)).sum(-1)
        return residuals - self.coding.log_volume(boxes)

    def __call__(self, boxes: Tensor) -> Tensor:
        """f of boxes ``(N, 7)`` or variants ``(N, S, 7)``."""
        self.num_calls += 1
        return CONSTANT + self.log_prob(boxes)
