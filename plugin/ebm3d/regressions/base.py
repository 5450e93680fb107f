"""What every box regression offers: a loss for raw outputs, and the density they stand for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import Tensor, nn

from ebm3d.densities import Density
from ebm3d.errors import input_error

NUM_RESIDUALS = 7


class BoxRegression(nn.Module, ABC):
    """A representation of box residuals, chosen by ``regression=dict(type=...)`` in a config.

    The head gives P = ``num_outputs`` numbers per box, applies ``loss_weight``, and calls a
    regression only for N boxes that need a loss or a density of their 7 residuals.
    """

    num_outputs: int

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        if not 0 <= loss_weight < math.inf:
            raise input_error("loss_weight", "at least 0 and finite", loss_weight)
        self.loss_weight = loss_weight

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss ``(N, 7)``, or ``(N, 1)`` where the residuals share one, without the weight.

        Of ``outputs`` ``(N, P)`` and residuals of the true boxes ``(N, 7)``, the yaw's wrapped.
        """

    @abstractmethod
    def density(self, outputs: Tensor) -> Density:
        """N densities over 7 residuals that outputs ``(N, P)`` stand for."""

    def regularizers(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Further terms of the loss, by name: weighted scalars. Arguments as for :meth:`loss`."""
        del outputs, targets
        return {}
