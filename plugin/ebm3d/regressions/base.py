"""What every box regression offers: a loss for raw outputs, and the density they stand for.

N boxes (positive anchors, or boxes of a second stage); P raw outputs of the last linear layer per
box; D = 7 residuals of a coding (:mod:`ebm3d.boxes.codings`).
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

    The head in front gives P numbers per box, of a linear layer without activation, and only for
    boxes that need them: whatever a regression adds (codes, bits) is computed for those alone.

    Attributes:
        num_outputs: P.
        loss_weight: factor of the loss.

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
            targets: ``(N, 7)`` residuals of the true boxes; the yaw's wrapped by the head.

        Returns:
            ``(N, 7)``, one loss per residual, or ``(N, 1)`` where the residuals share one; finite
            as long as the squares of outputs and targets are.
        """

    @abstractmethod
    def density(self, outputs: Tensor) -> Density:
        """The densities the outputs stand for.

        Args:
            outputs: ``(N, P)``.

        Returns:
            N densities over 7 residuals.
        """

    def regularizers(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Further terms of the loss that belong to the batch or to the codes.

        Args:
            outputs: ``(N, P)``.
            targets: ``(N, 7)``.

        Returns:
            Named scalars, weighted; none unless a regression says otherwise.
        """
        del outputs, targets
        return {}
