"""What every density of box residuals offers.

N boxes, one density each; D residuals (7 for boxes); K samples. Residuals are what a coding of
:mod:`ebm3d.boxes.codings` makes of boxes: dimensionless or in units of the coding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ebm3d.records import TensorRecord


class Density(TensorRecord, ABC):
    """N normalized densities over D residuals; a frozen dataclass of tensors with N rows."""

    @property
    @abstractmethod
    def point(self) -> Tensor:
        """The point estimate ``(N, D)``; each class says which one."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """``(N, D)``."""

    @property
    @abstractmethod
    def variance(self) -> Tensor:
        """``(N, D)``, the diagonal of :attr:`covariance`."""

    @property
    def covariance(self) -> Tensor:
        """``(N, D, D)``; diagonal unless a class says otherwise."""
        return torch.diag_embed(self.variance)

    @abstractmethod
    def log_prob(self, residuals: Tensor) -> Tensor:
        """Log density, nats.

        Args:
            residuals: ``(..., N, D)``.

        Returns:
            ``(..., N)``; exp of it integrates to one over the D residuals.
        """

    @abstractmethod
    def cdf(self, residuals: Tensor) -> Tensor:
        """Marginal distribution functions.

        Args:
            residuals: ``(..., N, D)``.

        Returns:
            ``(..., N, D)`` in [0, 1].
        """

    @abstractmethod
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw independent samples, without a graph.

        Args:
            num_samples: K, at least 0.
            generator: source of randomness on the density's device.

        Returns:
            ``(K, N, D)``.
        """
