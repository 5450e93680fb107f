"""Constants of the Gaussian mixture of :class:`ebm3d.noise.BoxNoise` on one device.

N boxes of D columns; S variants of each; C classes, or one row for all of them; K mixture
components.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MixtureTables:
    """Constants of one type on one device; not to be changed in place.

    Attributes:
        stds: ``(C, D)`` standard deviations.
        multipliers: ``(K,)`` factors of ``stds``, one per component.
        curvatures: ``(K,)`` second derivative of a component's log density, in units of ``stds``.
        log_peaks: ``(C, K)`` log of a component's share times its density at the center.
    """

    stds: Tensor
    multipliers: Tensor
    curvatures: Tensor
    log_peaks: Tensor

    @classmethod
    @functools.lru_cache(maxsize=64)
    def of(
        cls,
        stds: tuple[tuple[float, ...], ...],
        multipliers: tuple[float, ...],
        dtype: torch.dtype,
        device: torch.device,
    ) -> MixtureTables:
        """Compute the constants in float64, once for each type and device."""
        # They take part in gradients even if inference mode asks for them first.
        with torch.inference_mode(False):
            rows = torch.tensor(stds, dtype=torch.float64)
            factors = torch.tensor(multipliers, dtype=torch.float64)
            size = rows.shape[1]
            constant = -size / 2 * math.log(2 * math.pi) - math.log(len(multipliers))
            log_peaks = constant - rows.log().sum(1, keepdim=True) - size * factors.log()
            tables = (rows, factors, -factors.square().reciprocal(), log_peaks)
            return cls(*(table.to(device, dtype) for table in tables))

    def class_stds(self, labels: Tensor) -> Tensor:
        """Standard deviations ``(N, D)`` of classes ``(N,)``."""
        return _rows(self.stds, labels)

    def log_density(self, z: Tensor, labels: Tensor) -> Tensor:
        """Log density ``(N, S)`` per unit volume of offsets, at ``(N, S, D)`` offsets over stds."""
        squared = z.square().sum(-1, keepdim=True)
        log_peaks = _rows(self.log_peaks, labels)[:, None]
        components = torch.addcmul(log_peaks, squared, self.curvatures, value=0.5)
        return torch.logsumexp(components, dim=-1)


def _rows(table: Tensor, labels: Tensor) -> Tensor:
    """Rows ``(N, ...)`` of the classes; a table of one row serves all."""
    return table.expand(len(labels), -1) if len(table) == 1 else table[labels]
