"""Ascent on f: steps by a rule, of which none is accepted where f falls.

N boxes of D columns, 9 with velocities; T steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.boxes.angles import wrap_yaw
from ebm3d.errors import check_count, check_valid_boxes
from ebm3d.refiners.scorers import Scorer, check_values, value_and_gradient
from ebm3d.refiners.steps import StepFrame, StepLimits


@dataclass(frozen=True)
class RefinementResult:
    """Refined boxes ``(N, D)``, f ``(N,)`` before and after, numbers ``(N,)`` of accepted steps."""

    boxes: Tensor
    f_initial: Tensor
    f_final: Tensor
    num_accepted: Tensor


class StepRule(ABC):
    """Chooses the steps of one call; it may keep state from trial to trial."""

    @abstractmethod
    def step(self, gradient: Tensor) -> Tensor:
        """Return the next step ``(N, D)`` in z, from the gradient in z ``(N, D)``."""

    @abstractmethod
    def update(self, step: Tensor, change: Tensor, unknown: Tensor, accepted: Tensor) -> None:
        """Learn from a candidate.

        ``step`` ``(N, D)`` in z leads from box to candidate and changes the gradient by ``change``;
        ``unknown`` ``(N, 1)`` is zero, or NaN where f or a gradient is not finite.
        """


class Ascent(ABC):
    """Climbs f by T steps, each box by itself.

    A candidate is accepted if f does not fall, is finite, and the box is large enough; a step that
    is not finite is none: the result is finite and valid for valid input. Costs T + 1 evaluations
    and T gradients. ``limits`` may be replaced by those of another ascent.
    """

    def __init__(self, num_steps: int, limits: StepLimits) -> None:
        check_count("num_steps", num_steps, least=0)
        self.num_steps, self.limits = num_steps, limits

    @property
    def scale(self) -> Tensor | None:
        """S, ``(1 or num_classes, D)``; None for ones."""
        return self.limits.scale

    @abstractmethod
    def rule(self, boxes: Tensor) -> StepRule:
        """Return the rule for the steps of boxes ``(N, D)``."""

    def __call__(self, f: Scorer, boxes: Tensor, labels: Tensor | None = None) -> RefinementResult:
        """Refine boxes ``(N, D)``, without a graph and in any grad mode.

        ``labels`` ``(N,)`` are needed where ``step_scale`` has a row per class.
        """
        check_valid_boxes(boxes, columns=(7, 9))
        start, columns = boxes.detach(), boxes.shape[1]
        parts = (columns, columns, 1, 1)  # of the state: z, gradient in z, unknown, f
        frame, rule = self.limits.frame(start, labels), self.rule(start)
        num_steps = self.num_steps if len(boxes) else 0
        state = _evaluate(f, start, torch.zeros_like(start), frame, num_steps > 0)
        f_initial = state[:, -1]
        steps_accepted = [start.new_zeros((len(start), 1), dtype=torch.bool)]
        for index in range(num_steps):
            z, gradient, _, f_current = state.split(parts, dim=1)
            new_z = frame.moved(z, rule.step(gradient))
            candidate = frame.boxes(new_z)
            is_last = index == num_steps - 1
            new_state = _evaluate(f, candidate, new_z, frame, not is_last)
            f_candidate = new_state[:, -1:]
            accepted = (f_candidate >= f_current) & (f_candidate < math.inf)
            accepted &= candidate[:, 3:6].amin(dim=1, keepdim=True) >= self.limits.min_size
            if not is_last:
                step, change, unknown, _ = (new_state - state).split(parts, dim=1)
                rule.update(step, change, unknown, accepted)
            state = torch.where(accepted, new_state, state)
            steps_accepted.append(accepted)
        refined = wrap_yaw(frame.boxes(state[:, :columns]))
        num_accepted = torch.cat(steps_accepted, dim=1).sum(dim=1)
        return RefinementResult(refined, f_initial, state[:, -1], num_accepted)


def _evaluate(f: Scorer, boxes: Tensor, z: Tensor, frame: StepFrame, with_gradient: bool) -> Tensor:
    """State ``(N, 2 D + 2)`` of boxes at z: one tensor, so that one operation replaces a box."""
    if not with_gradient:
        with torch.no_grad():
            value = check_values(f(boxes), boxes)[:, None]
        return torch.cat((z, torch.zeros_like(z), torch.zeros_like(value), value), dim=1)
    value, gradient = value_and_gradient(f, boxes)
    values = torch.cat((value[:, None], gradient), dim=1)
    unknown = 0 * torch.linalg.vector_norm(values, math.inf, dim=1, keepdim=True)
    return torch.cat((z, frame.gradient(gradient), unknown, value[:, None]), dim=1)
