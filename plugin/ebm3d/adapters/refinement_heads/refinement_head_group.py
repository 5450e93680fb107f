"""Several refinement heads trained side by side on the features of one frozen detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet3d.registry import MODELS
from torch import Tensor

from ebm3d.adapters.refinement_heads.refinement_head import RefinementHead
from ebm3d.devices import seeded
from ebm3d.errors import input_error
from ebm3d.noise import Detections


@MODELS.register_module()
class RefinementHeadGroup(RefinementHead):
    """Heads that share nothing but the detector: one pass of it serves all of them.

    Every head starts from the same random state and draws the same noise in every step as it
    would alone with that state; their parameters are disjoint, so that the sum of their losses
    trains each as its own loss would. Gradients are to be clipped head by head
    (``GroupwiseClipOptimWrapper``). For comparisons: the host's configs take a single head.

    Args:
        heads: configs of refinement heads by name; names without dots.
        selected: name of the head that refines; the first if left out.
        init_cfg: as in mmengine.

    Raises:
        ValueError: if there is no head, a name has a dot, or ``selected`` names none.
    """

    def __init__(
        self,
        heads: Mapping[str, dict[str, Any]],
        selected: str | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not heads or any("." in name for name in heads):
            raise input_error("heads", "at least one, names without dots", list(heads))
        seed = int(torch.randint(2**62, ()))
        built: dict[str, Any] = {}
        for name, head in heads.items():
            with seeded(seed, "cpu"):
                built[name] = MODELS.build(head)
        self.heads = torch.nn.ModuleDict(built)
        self.selected = next(iter(built)) if selected is None else selected
        if self.selected not in built:
            raise input_error("selected", f"one of {', '.join(built)}", repr(selected))

    @property
    def wants_detections(self) -> bool:
        """Whether a head wants what the detector finds in the training frames."""
        heads: Any = self.heads
        return any(head.wants_detections for head in heads.values())

    def loss(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        detections: Sequence[Detections] = (),
    ) -> dict[str, Tensor]:
        """Return the losses of every head, their names behind the head's and a dot.

        Args:
            bev: ``(B, C, H, W)``.
            points: B clouds, or none.
            boxes: B tensors of true boxes ``(N_b, >= 7)``.
            labels: B tensors ``(N_b,)``.
            detections: what the detector found in the B frames, for the heads that want it.
        """
        seed = int(torch.randint(2**62, ()))
        losses: dict[str, Tensor] = {}
        heads: Any = self.heads
        for name, head in heads.items():
            with seeded(seed, bev.device):
                wanted = (detections,) if head.wants_detections else ()
                terms: dict[str, Tensor] = head.loss(bev, points, boxes, labels, *wanted)
            losses.update({f"{name}.{term}": value for term, value in terms.items()})
        return losses

    def refine(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        scores: Sequence[Tensor],
    ) -> list[dict[str, Any]]:
        """Refine with the selected head; arguments and result as that head's."""
        head: Any = self.heads[self.selected]
        refined: list[dict[str, Any]] = head.refine(bev, points, boxes, labels, scores)
        return refined
