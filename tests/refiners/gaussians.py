"""An f that is the log density of a known Gaussian of residuals, plus a constant."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from ebm3d.boxes.codings import LocalCoding

UNITS = (0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04, 0.9, 0.3)
LOG_Z = 3.7


@dataclass
class KnownGaussian:
    """Correlated, half as wide as the units, off the boxes; one box heads along -x.

    Called with ``(N, S, D)`` it gives ``(N, S)``, with ``(N, D)`` ``(N,)``.
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
        volume = torch.zeros_like(self.noise_std)
        volume[:, 3:6] = self.noise_std[:, 3:6]
        return self.coding.decode(self.mean - (self.covariance @ volume[..., None])[..., 0])

    def __call__(self, boxes: Tensor) -> Tensor:
        """Return f."""
        if boxes.ndim == 2:
            return self(boxes[:, None])[:, 0]
        density = MultivariateNormal(self.mean[:, None], self.covariance[:, None])
        log_p = density.log_prob(self.coding.encode(boxes)) - self.coding.log_volume(boxes)
        return log_p + LOG_Z


def known_gaussian(count: int = 4, columns: int = 7) -> KnownGaussian:
    """Fixed boxes, float64."""
    generator = torch.Generator().manual_seed(11)
    options = {"generator": generator, "dtype": torch.float64}
    low = torch.tensor([5.0, -10, -2, 3, 1.4, 1.2, -3], dtype=torch.float64)
    spread = torch.tensor([20.0, 20, 1, 2, 1, 1, 6], dtype=torch.float64)
    boxes = low + spread * torch.rand(count, 7, **options)
    boxes[:1, 6] = math.pi - 1e-3
    mean = 0.3 * torch.randn(count, columns, **options)
    root = 0.06 * torch.randn(count, columns, columns, **options)
    root = root + 0.3 * torch.eye(columns, dtype=torch.float64)
    noise_std = torch.tensor(UNITS[:columns], dtype=torch.float64).expand(count, columns)
    if columns > 7:
        boxes = torch.cat((boxes, 8 * torch.randn(count, 2, **options)), dim=1)
    return KnownGaussian(boxes, noise_std, mean, root @ root.transpose(1, 2))
