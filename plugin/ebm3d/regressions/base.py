"""What every box regression offers: a loss for raw outputs, and the density they stand for.

N boxes (positive anchors, or boxes of a second stage); P raw outputs per box; 7 residuals of a
coding (:mod:`ebm3d.boxes.codings`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import Tensor, nn

from ebm3d.densities import Density
from ebm3d.errors import input_error

NUM_RESIDUALS = 7


class BoxRegression(nn.Module, ABC):
    """A representation of box residuals, chosen by ``regression=dict(type=...)`` in a config.

    A linear layer of the head gives P numbers per box; a regression is called only for boxes that
    need a loss or a density.

    Attributes:
        num_outputs: P.
        loss_weight: factor of the loss, which the head applies.

    Raises:
        ValueError: if the weight is negative or not finite.
    """

    num_outputs: int

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        if not 0 <= loss_weight < math.inf:
            raise input_error("loss_weight", "at least 0 and finite", loss_weight)
        self.loss_weight = loss_weight

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss per element, not reduced and not weighted.

        Args:
            outputs: ``(N, P)``.
            targets: ``(N, 7)`` residuals of the true boxes, the yaw's wrapped.

        Returns:
            ``(N, 7)``, or ``(N, 1)`` where the residuals share a loss.
        """

    @abstractmethod
    def density(self, outputs: Tensor) -> Density:
        """N densities over 7 residuals that outputs ``(N, P)`` stand for."""

    def regularizers(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Further terms of the loss, by name: weighted scalars. Arguments as for :meth:`loss`."""
        del outputs, targets
        return {}
