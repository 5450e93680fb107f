"""An f that is the log density of a known Gaussian of residuals, plus a constant."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from ebm3d.boxes.codings import LocalCoding

UNITS = (0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04)
LOG_Z = 3.7


@dataclass
class KnownGaussian:
    """Correlated, half as wide as the units, off the boxes; one box heads along -x.

    Called with ``(N, S, 7)`` it gives ``(N, S)``, with ``(N, 7)`` ``(N,)``.
    """

    boxes: Tensor
    noise_std: Tensor
    mean: Tensor
    covariance: Tensor

    @property
    def coding(self) -> LocalCoding:
        """Residuals around the boxes."""
        return LocalCoding(self.boxes, self.noise_std)

    @property
    def modes(self) -> Tensor:
        """Where the density in meters is highest: the volume moves it to smaller sizes."""
        volume = torch.cat((torch.zeros(3), torch.ones(3), torch.zeros(1))) * self.noise_std
        return self.coding.decode(self.mean - (self.covariance @ volume[..., None])[..., 0])

    def __call__(self, boxes: Tensor) -> Tensor:
        """Return f."""
        if boxes.ndim == 2:
            return self(boxes[:, None])[:, 0]
        density = MultivariateNormal(self.mean[:, None], self.covariance[:, None])
        log_p = density.log_prob(self.coding.encode(boxes)) - self.coding.log_volume(boxes)
        return log_p + LOG_Z


def known_gaussian(count: int = 4) -> KnownGaussian:
    """Fixed boxes, float64."""
    generator = torch.Generator().manual_seed(11)
    options = {"generator": generator, "dtype": torch.float64}
    low = torch.tensor([5.0, -10, -2, 3, 1.4, 1.2, -3], dtype=torch.float64)
    spread = torch.tensor([20.0, 20, 1, 2, 1, 1, 6], dtype=torch.float64)
    boxes = low + spread * torch.rand(count, 7, **options)
    boxes[:1, 6] = math.pi - 1e-3
    mean = 0.3 * torch.randn(count, 7, **options)
    root = 0.3 * torch.eye(7, dtype=torch.float64) + 0.06 * torch.randn(count, 7, 7, **options)
    noise_std = torch.tensor(UNITS, dtype=torch.float64).expand(count, 7)
    return KnownGaussian(boxes, noise_std, mean, root @ root.transpose(1, 2))
