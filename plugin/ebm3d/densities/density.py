"""What every density of box residuals offers.

N boxes, one density each; D residuals (7 for boxes); K samples. Residuals are what a coding of
:mod:`ebm3d.boxes.codings` makes of boxes: dimensionless or in units of the coding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ebm3d.errors import shape_error
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


def check_parameters(axes: str, **parameters: Tensor) -> None:
    """Raise unless all parameters of a density have the shape of the first.

    Args:
        axes: the axes of that shape in words, for example ``"(N, D)"``.
        **parameters: tensors by their names.

    Raises:
        ValueError: for another number of axes, or shapes that differ.
    """
    names, (first, *others) = list(parameters), parameters.values()
    if first.ndim != axes.count(",") + 1:
        raise shape_error(names[0], axes, first)
    for name, value in zip(names[1:], others, strict=True):
        if value.shape != first.shape:
            raise shape_error(name, f"{tuple(first.shape)}, that of {names[0]}", value)


def check_residuals(residuals: Tensor, point: Tensor) -> None:
    """Raise unless residuals end in the shape ``(N, D)`` of a density's location.

    Args:
        residuals: ``(..., N, D)``.
        point: any tensor ``(N, D)`` of the density.

    Raises:
        ValueError: for another shape.
    """
    if residuals.shape[-2:] != point.shape:
        rows, columns = point.shape
        raise shape_error("residuals", f"(..., {rows}, {columns}), a row per density", residuals)
