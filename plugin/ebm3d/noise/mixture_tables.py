"""Constants of the Gaussian mixture of :class:`ebm3d.noise.BoxNoise`, on one device.

N boxes; S variants of each; C classes, or one row for all of them; K mixture components.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.devices import constant


@dataclass(frozen=True)
class MixtureTables:
    """Constants in one type, on one device; not to be changed in place.

    Attributes:
        stds: ``(C, 7)`` standard deviations.
        scales: ``(K,)`` what each component multiplies them by.
        curvatures: ``(K,)`` second derivative of a component's log density, in units of ``stds``.
        log_peaks: ``(C, K)`` log of the share of each component times its density at the center.
    """

    stds: Tensor
    scales: Tensor
    curvatures: Tensor
    log_peaks: Tensor

    @classmethod
    def of(
        cls, stds: tuple[tuple[float, ...], ...], scales: tuple[float, ...], like: Tensor
    ) -> MixtureTables:
        """Compute the constants in float64, once for each type and device.

        Args:
            stds: rows of seven.
            scales: one per component.
            like: gives type and device.
        """
        curvatures, log_peaks = _logarithms(stds, scales)
        tables = (constant(values, like) for values in (stds, scales, curvatures, log_peaks))
        return cls(*tables)

    def class_stds(self, labels: Tensor) -> Tensor:
        """Standard deviations ``(N, 7)`` of classes ``(N,)``."""
        return self._rows(self.stds, labels)

    def log_density(self, z: Tensor, labels: Tensor) -> Tensor:
        """Log density ``(N, S)`` of offsets ``(N, S, 7)`` in standard deviations; nats.

        In the units the standard deviations are given in, not per standard deviation.
        """
        squared = z.square().sum(-1, keepdim=True)
        log_peaks = self._rows(self.log_peaks, labels)[:, None]
        components = torch.addcmul(log_peaks, squared, self.curvatures, value=0.5)
        return torch.logsumexp(components, dim=-1)

    @staticmethod
    def _rows(table: Tensor, labels: Tensor) -> Tensor:
        """Rows ``(N, ...)`` of the classes; the same row where there is one for all."""
        return table.expand(len(labels), -1) if len(table) == 1 else table[labels]


@functools.lru_cache(maxsize=64)
def _logarithms(
    stds: tuple[tuple[float, ...], ...], scales: tuple[float, ...]
) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """``curvatures`` and ``log_peaks`` of :class:`MixtureTables`."""
    curvatures = tuple(-1 / scale**2 for scale in scales)
    shared = -3.5 * math.log(2 * math.pi) - math.log(len(scales))
    log_peaks = tuple(
        tuple(shared - sum(map(math.log, row)) - 7 * math.log(scale) for scale in scales)
        for row in stds
    )
    return curvatures, log_peaks
