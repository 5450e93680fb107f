"""What a dense head's second stage has to offer: two methods."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor


class RefinementHead(BaseModule):
    """Base of every refinement head that ``RefinedDenseHead`` takes."""

    @property
    def wants_detections(self) -> bool:
        """Whether ``loss`` is given, as its fifth argument, what is detected in training frames.

        One :class:`ebm3d.noise.Detections` a frame; that costs a prediction of the dense head in
        every step. A head that wants them says ``wants_detections = True``, or decides here.
        """
        return False

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
            labels: B tensors ``(N_b,)``; negative ones are of no class.

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
            Per frame ``boxes`` ``(N_b, 7)``, in the order given, and any further fields of length
            N_b (tensors, or :class:`ebm3d.records.TensorRecord`), which become fields of the
            predictions. ``scores_3d`` among them replaces the detector's scores.
        """
