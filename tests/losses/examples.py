"""Noise around known boxes, and energies of known form for the training methods."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ebm3d.boxes.codings import LocalCoding
from ebm3d.losses import (
    ConditionalNCELoss,
    ConfidenceLoss,
    DSMLoss,
    KLDISLoss,
    MLISLoss,
    MLMCMCLoss,
    NCELoss,
    NCEPlusLoss,
    ScoreMatchingLoss,
    SNLLoss,
)
from ebm3d.noise import BoxNoise, NoiseSamples

STDS = [[0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04], [0.1, 0.1, 0.1, 0.1, 0.08, 0.05, 0.15]]
MOVING_STDS = [[*STDS[0], 0.9, 0.3], [*STDS[1], 0.4, 0.4]]


def random_boxes(count: int, columns: int = 7) -> Tensor:
    """Boxes ``(count, columns)`` of any heading, float64."""
    low = torch.tensor([5.0, -10, -2, 3, 1.4, 1.2, -3], dtype=torch.float64)
    spread = torch.tensor([20.0, 20, 1, 2, 1, 1, 6], dtype=torch.float64)
    boxes = low + spread * torch.rand(count, 7, dtype=torch.float64)
    if columns == 7:
        return boxes
    return torch.cat((boxes, 8 * torch.randn(count, columns - 7, dtype=torch.float64)), dim=1)


@dataclass
class FixedNoise:
    """Noise that gives the same samples every time, and remembers the last factor of its scales."""

    boxes: Tensor
    labels: Tensor
    noise_std: Tensor
    reference: Tensor
    drawn: NoiseSamples
    noise: BoxNoise
    factor: float = 1.0
    generator: torch.Generator | None = None

    @property
    def reference_noise_std(self) -> Tensor:
        return self.noise.noise_std(self.reference, self.labels)

    def sample(self, num_samples: int) -> NoiseSamples:
        assert num_samples < self.drawn.boxes.shape[1]
        kept = num_samples + 1
        return NoiseSamples(self.drawn.boxes[:, :kept], self.drawn.log_q[:, :kept])

    def log_prob(self, boxes: Tensor) -> Tensor:
        return self.noise.log_prob(self.boxes, boxes, self.labels)

    def scale_std(self, factor: float) -> FixedNoise:
        self.factor = factor
        narrow = BoxNoise((self.noise.stds * factor).tolist())
        return fixed_noise(self.boxes, self.labels, narrow, 1)


def fixed_noise(
    boxes: Tensor, labels: Tensor, noise: BoxNoise | None = None, num_samples: int = 64
) -> FixedNoise:
    """Samples of a noise drawn once."""
    noise = BoxNoise(STDS) if noise is None else noise
    drawn = noise.sample(boxes, labels, num_samples)
    noise_std = noise.noise_std(boxes, labels)
    reference = noise.sample(boxes, labels, 1).boxes[:, 1]
    return FixedNoise(boxes, labels, noise_std, reference, drawn, noise)


class ResidualEnergy:
    """f whose log density of residuals is a function h, so that Z is that of exp h."""

    def __init__(self, noise: FixedNoise, h: Callable[[Tensor], Tensor]) -> None:
        self.coding, self.h = LocalCoding(noise.boxes, noise.noise_std), h
        self.labels = noise.labels

    def __call__(self, boxes: Tensor) -> Tensor:
        return self.h(self.coding.encode(boxes)) - self.coding.log_volume(boxes)

    def pooled(self, boxes: Tensor) -> Tensor:
        return self.labels[:, None, None].expand(-1, boxes.shape[1], -1).to(boxes)


class SmallEnergy(nn.Module):
    """A network on the numbers of a box and its class."""

    def __init__(
        self, labels: Tensor, dtype: torch.dtype = torch.float64, columns: int = 7
    ) -> None:
        super().__init__()
        self.labels = labels
        layers = nn.Linear(columns + 1, 16), nn.SiLU(), nn.Linear(16, 1)
        self.layers = nn.Sequential(*layers).to(dtype)

    def _features(self, boxes: Tensor) -> Tensor:
        classes = self.labels[:, None, None].expand(-1, boxes.shape[1], 1).to(boxes)
        sine = torch.sin(boxes[..., 6:7])
        return torch.cat((boxes[..., :6], sine, classes, boxes[..., 7:]), dim=-1)

    def forward(self, boxes: Tensor) -> Tensor:
        values: Tensor = self.layers(self._features(boxes))[..., 0]
        return values

    def pooled(self, boxes: Tensor) -> Tensor:
        return self._features(boxes)[..., :8].detach()


def quadratic(curvature: float, mean: Tensor | float = 0.0) -> Callable[[Tensor], Tensor]:
    """h of isotropic Gaussian residuals, its peak at zero height."""

    def h(residuals: Tensor) -> Tensor:
        return -0.5 * curvature * (residuals - mean).square().sum(-1)

    return h


LOG_2PI = math.log(2 * math.pi)
# Every training method, with the settings that change what it computes.
METHODS: dict[str, Callable[[], Any]] = {
    "nce": lambda: NCELoss(16),
    "nce+": lambda: NCEPlusLoss(num_noise_samples=16),
    "conditional nce": lambda: ConditionalNCELoss(16),
    "ml-is": lambda: MLISLoss(16),
    "kld-is": lambda: KLDISLoss(16),
    "ml-mcmc": lambda: MLMCMCLoss(4, 0.2, 3),
    "exact score matching": ScoreMatchingLoss,
    "sliced score matching": lambda: ScoreMatchingLoss("sliced", 2),
    "dsm": lambda: DSMLoss(num_noise_samples=5),
    "snl": lambda: SNLLoss(8, 16),
    "confidence": lambda: ConfidenceLoss(num_noise_samples=16),
}
