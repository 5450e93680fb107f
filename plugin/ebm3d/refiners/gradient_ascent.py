"""Gradient ascent on f with a step size per box that shrinks where a step would not climb."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ebm3d.devices import constant
from ebm3d.errors import check_positive, input_error, is_number
from ebm3d.refiners.ascent import Ascent, StepRule
from ebm3d.refiners.steps import StepLimits
from ebm3d.registry import register


@register
class GradientAscent(Ascent):
    r"""Refine boxes by gradient ascent on f.

    .. math:: y \leftarrow y + \lambda\, S^2\, \nabla f(y) \text{ where } f \text{ does not fall},
        \quad \lambda \leftarrow \eta\lambda \text{ elsewhere}

    Source: Gustafsson et al., "Accurate 3D Object Detection using Energy-Based Models", 2020;
    docs/method.md, M-7. The defaults are the published loop. Deviations: units S of the steps, in
    the axes of the box or the world; limits in those units; growing steps; fewer evaluations.

    Args:
        num_steps: T; 0 returns the input boxes.
        step_size: :math:`\lambda`; dimensionless with ``step_scale``.
        step_decay: :math:`\eta`, in (0, 1).
        step_growth: factor of :math:`\lambda` after an accepted step, at least 1.
        step_scale: S, seven numbers in m and rad (nine with those of velocities along and across,
            m/s), or one row per class; None for ones.
        axes: "box" measures S along and across the input box; "world" along x and y.
        max_step: largest move per dimension in one step, in units of S; None for no limit.
        max_displacement: largest move per dimension in all, in units of S; None for no limit.
        min_size: smallest size of an accepted box, meters.
    """

    def __init__(
        self,
        num_steps: int = 10,
        step_size: float = 2e-4,
        step_decay: float = 0.5,
        step_growth: float = 1.0,
        step_scale: Sequence[float] | Sequence[Sequence[float]] | None = None,
        axes: str = "world",
        max_step: float | None = None,
        max_displacement: float | None = None,
        min_size: float = 0.05,
    ) -> None:
        limits = StepLimits(step_scale, axes, max_step, max_displacement, min_size)
        super().__init__(num_steps, limits)
        check_positive("step_size", step_size)
        if not (is_number(step_decay) and 0 < step_decay < 1):
            raise input_error("step_decay", "in (0, 1)", step_decay)
        if not (is_number(step_growth) and step_growth >= 1):
            raise input_error("step_growth", "at least 1 and finite", step_growth)
        self.step_size, self.step_decay, self.step_growth = step_size, step_decay, step_growth

    def rule(self, boxes: Tensor) -> StepRule:
        """Steps along the gradient."""
        return _GradientSteps(boxes, self.step_size, self.step_decay, self.step_growth)


class _GradientSteps(StepRule):
    """Lambda ``(N, 1)`` of each box."""

    def __init__(self, boxes: Tensor, size: float, decay: float, growth: float) -> None:
        self._size = boxes.new_full((len(boxes), 1), size)
        self._growth, self._decay = constant((growth, decay), boxes)

    def step(self, gradient: Tensor) -> Tensor:
        """Along the gradient."""
        return self._size * gradient

    def update(self, step: Tensor, change: Tensor, unknown: Tensor, accepted: Tensor) -> None:
        """Shrink or grow lambda."""
        self._size = self._size * torch.where(accepted, self._growth, self._decay)
