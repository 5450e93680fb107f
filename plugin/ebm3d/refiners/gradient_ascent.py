"""Gradient ascent on f with a step size per box that shrinks where a step would not climb.

N boxes; T steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ebm3d.devices import constant
from ebm3d.errors import check_positive, input_error, is_number
from ebm3d.refiners.ascent import Ascent, StepRule, Trial
from ebm3d.refiners.steps import StepLimits
from ebm3d.registry import register


@register
class GradientAscent(Ascent):
    r"""Refine boxes by gradient ascent on f.

    .. math:: y \leftarrow y + \lambda\, S^2\, \nabla f(y) \text{ where } f \text{ does not fall},
        \quad \lambda \leftarrow \eta\lambda \text{ elsewhere}

    Source: Gustafsson et al. 2020, docs/method.md, M-7. With ``step_scale=None, axes="world"``,
    a step of 2e-4 and no limits it is the published loop. Deviations: gradients are taken in units
    of S (``step_scale``), in the box's axes if wanted, so that meters and radians get steps that
    suit them; a step is at most ``max_step`` of those units and the whole way at most
    ``max_displacement``; the step grows by ``step_growth`` after a success; T + 1 evaluations and T
    gradients suffice, because f and gradient of an accepted box are kept.

    A candidate whose f is not finite or whose sizes are below ``min_size`` is never accepted, so
    the result is finite and upright for finite input.

    Args:
        num_steps: T; 0 returns the input boxes.
        step_size: :math:`\lambda`; dimensionless with ``step_scale``.
        step_decay: :math:`\eta`, in (0, 1).
        step_growth: factor after an accepted step, at least 1.
        step_scale: S, seven numbers for along (x), across (y), up, length, width, height (m), yaw
            (rad), or one row per class; None for ones.
        axes: "box" turns the center's gradient into the axes of the input box; "world" leaves
            x and y. A matter of S only.
        max_step: largest move per dimension in one step, in units of S; None for no limit.
        max_displacement: largest move per dimension in all, in units of S; None for no limit.
        min_size: smallest size of an accepted box, meters.

    Raises:
        ValueError: for constants out of range.
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
        numbers = is_number(step_decay) and is_number(step_growth)
        if not (numbers and 0 < step_decay < 1 <= step_growth):
            raise input_error(
                "step_decay, step_growth", "in (0, 1) and at least 1", (step_decay, step_growth)
            )
        self.step_size, self.step_decay, self.step_growth = step_size, step_decay, step_growth

    def start(self, boxes: Tensor) -> StepRule:
        """Return the rule: along the gradient, as far as the step size of each box says."""
        size = boxes.new_full((len(boxes), 1), self.step_size)
        return _SizedSteps(size, self.step_decay, self.step_growth)


class _SizedSteps(StepRule):
    """A step size per box ``(N, 1)``: shrinks after a refusal, may grow after a success."""

    def __init__(self, size: Tensor, decay: float, growth: float) -> None:
        self._size = size
        self._growth, self._decay = constant((growth, decay), size)

    def move(self, gradient: Tensor) -> Tensor:
        """Along the gradient."""
        return self._size * gradient

    def learn(self, trial: Trial) -> None:
        """Shrink or grow."""
        factor = torch.where(trial.accepted, self._growth, self._decay)
        self._size = self._size * factor
