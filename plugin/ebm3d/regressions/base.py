"""What every box regression offers: a loss for raw outputs, and the density they stand for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ebm3d.densities import Density
from ebm3d.errors import input_error
from ebm3d.regressions.outputs import check_outputs, check_targets, known_targets

NUM_RESIDUALS = 7


class BoxRegression(nn.Module, ABC):
    """A representation of box residuals, chosen by ``regression=dict(type=...)`` in a config.

    The head gives P = ``num_outputs`` numbers per box, applies ``loss_weight``, and calls a
    regression only for N boxes that need a loss or a density of their D residuals: seven, or nine
    with velocities, as the head says by ``num_residuals``.
    """

    num_outputs: int

    def __init__(self, loss_weight: float = 1.0, num_residuals: int = NUM_RESIDUALS) -> None:
        super().__init__()
        if not 0 <= loss_weight < math.inf:
            raise input_error("loss_weight", "at least 0 and finite", loss_weight)
        if num_residuals not in (7, 9):
            raise input_error("num_residuals", "7, or 9 with velocities", num_residuals)
        self.loss_weight, self.num_residuals = loss_weight, num_residuals

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss ``(N, D)``, or ``(N, 1)`` where the residuals share one, without the weight.

        Of ``outputs`` ``(N, P)`` and residuals of the true boxes ``(N, D)``, the yaw's wrapped;
        velocities that are unknown are NaN.
        """

    @abstractmethod
    def density(self, outputs: Tensor) -> Density:
        """N densities over D residuals that outputs ``(N, P)`` stand for."""

    def regularizers(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Further terms of the loss, by name: weighted scalars. Arguments as for :meth:`loss`."""
        del outputs, targets
        return {}


class MaskedBoxRegression(BoxRegression):
    """A regression in which unknown velocities add neither loss nor gradient."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See :meth:`BoxRegression.loss`; zero where a velocity's target is NaN."""
        check_outputs(outputs, self.num_outputs)
        check_targets(targets, outputs, self.num_residuals)
        targets, known = known_targets(targets)
        losses = self.residual_loss(outputs, targets, known)
        return torch.where(known, losses, 0.0) if losses.shape == known.shape else losses

    @abstractmethod
    def residual_loss(self, outputs: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Return :meth:`loss` of checked arguments; per residual, any number where not known.

        Targets are zero where not ``known`` ``(N, D)``; a shared loss leaves them out.
        """
