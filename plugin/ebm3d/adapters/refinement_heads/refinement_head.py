"""The interface of a dense head's second stage."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor


class RefinementHead(BaseModule):
    """Base of every refinement head that ``RefinedDenseHead`` takes."""

    @abstractmethod
    def loss(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Return the losses of B training frames.

        Args:
            bev: ``(B, C, H, W)``, the first map of the neck; without a graph if the detector is
                frozen.
            points: B clouds ``(P, F)``, or none.
            boxes: B tensors of true boxes ``(N_b, >= 7)``.
            labels: B tensors ``(N_b,)``; negative ones are of no class and left out.

        Returns:
            Scalars by name; those whose name holds "loss" are summed and minimized, others logged.
        """

    @abstractmethod
    def refine(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        scores: Sequence[Tensor],
    ) -> list[dict[str, Any]]:
        """Refine the boxes of B frames.

        Args:
            bev: ``(B, C, H, W)``.
            points: B clouds, or none.
            boxes: B tensors of detected boxes ``(N_b, >= 7)``.
            labels: B tensors ``(N_b,)``.
            scores: B tensors ``(N_b,)``.

        Returns:
            Per frame ``boxes`` ``(N_b, 7)``, or ``(N_b, 9)`` with velocities, in the order of the
            input, and further fields of length N_b (tensors, or
            :class:`ebm3d.records.TensorRecord`), which become fields of
            the predictions. ``scores_3d`` among them replaces the detector's scores.
        """
