"""What every ascent on f shares: candidates within limits, of which none is accepted that falls.

N boxes; T steps.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ebm3d.boxes.angles import wrap_to_pi
from ebm3d.devices import constant
from ebm3d.errors import can_read, check_count, check_floating_boxes, input_error, shape_error
from ebm3d.records import TensorRecord
from ebm3d.refiners.steps import StepFrame, StepLimits


class BoxScorer(Protocol):
    """Anything that evaluates f for N boxes, each independently; of period 2 pi in the yaw."""

    def __call__(self, boxes: Tensor) -> Tensor:
        """Return f ``(N,)`` of boxes ``(N, 7)``."""
        ...


@dataclass(frozen=True)
class Modes(TensorRecord):
    """Several maxima of f near each of N boxes, from the highest to the lowest.

    Attributes:
        boxes: ``(N, S, 7)``; NaN beyond the last mode of a box. A box that no refiner has seen has
            no mode: all of its numbers are NaN.
        f: ``(N, S)``; minus infinity beyond the last mode.
        weights: ``(N, S)``, in all one for each box: shares of exp f (its height there) or of the
            mass around (:func:`ebm3d.refiners.weigh_modes`); zero beyond the last mode.
    """

    boxes: Tensor
    f: Tensor
    weights: Tensor

    @property
    def count(self) -> Tensor:
        """How many modes each box has, ``(N,)``: at least 1, or 0 if it was not refined."""
        return (~torch.isnan(self.boxes[..., 0])).sum(dim=1)


@dataclass(frozen=True)
class RefinementResult:
    """What a refiner gives back.

    Attributes:
        boxes: ``(N, 7)`` refined boxes, yaw in (-pi, pi].
        f_initial: ``(N,)`` f of the input boxes.
        f_final: ``(N,)`` f of the refined boxes, nowhere below ``f_initial``.
        num_accepted: ``(N,)`` how many steps climbed, int64.
        modes: all maxima that were found, where a refiner looks for several.
    """

    boxes: Tensor
    f_initial: Tensor
    f_final: Tensor
    num_accepted: Tensor
    modes: Modes | None = None


@dataclass(frozen=True)
class Trial:
    """A candidate, evaluated, in the coordinates z of the steps.

    Attributes:
        step: ``(N, 7)`` from the box to the candidate, after the limits.
        change: ``(N, 7)`` gradient at the candidate less that at the box.
        unknown: ``(N, 1)`` zero; NaN where f or its gradient is not finite at one of the two, so
            that the change says nothing.
        accepted: ``(N, 1)`` whether the candidate is the box now.
    """

    step: Tensor
    change: Tensor
    unknown: Tensor
    accepted: Tensor


class StepRule(ABC):
    """How one ascent chooses its moves; made anew for every call, it may remember."""

    @abstractmethod
    def move(self, gradient: Tensor) -> Tensor:
        """Return the next move ``(N, 7)`` in z, from the gradient in z ``(N, 7)``."""

    @abstractmethod
    def learn(self, trial: Trial) -> None:
        """Take notice of a candidate, accepted or not."""


_COLUMNS = (7, 7, 1, 1)  # of the state: z, gradient, unknown, f

AnyAscent = TypeVar("AnyAscent", bound="Ascent")


class Ascent(ABC):
    """Climbs f by T steps, each box by itself.

    A candidate is accepted if f does not fall, is finite, and the box is large enough; a move that
    is not finite is none. So the result is finite and upright for finite input, and f never falls.
    T + 1 evaluations and T gradients suffice, because f and gradient of an accepted box are kept.

    Args:
        num_steps: T; 0 returns the input boxes.
        limits: units and limits of the steps.

    Raises:
        ValueError: for a negative number of steps.
    """

    def __init__(self, num_steps: int, limits: StepLimits) -> None:
        check_count("num_steps", num_steps, least=0)
        self.num_steps, self.limits = num_steps, limits

    @property
    def scale(self) -> Tensor | None:
        """The table of S, a row per class or one for all; None for ones."""
        return self.limits.scale

    def within_limits_of(self: AnyAscent, other: Ascent) -> AnyAscent:
        """Return the same ascent with the units and limits of another, to compare the two.

        Args:
            other: any ascent; not changed.
        """
        made = copy.copy(self)
        made.limits = other.limits
        return made

    @abstractmethod
    def start(self, boxes: Tensor) -> StepRule:
        """Return the rule for the steps of boxes ``(N, 7)``."""

    def __call__(
        self, f: BoxScorer, boxes: Tensor, labels: Tensor | None = None
    ) -> RefinementResult:
        """Refine boxes.

        Args:
            f: evaluates boxes independently of each other.
            boxes: ``(N, 7)`` finite boxes.
            labels: ``(N,)`` classes; needed where ``step_scale`` has a row per class.

        Returns:
            Refined boxes; detached from any graph. Runs also under ``torch.no_grad``.

        Raises:
            ValueError: for a wrong shape, or boxes in main memory that are not finite.
        """
        check_finite_boxes(boxes)
        start = boxes.detach()
        frame = self.limits.frame(start, labels)
        rule = self.start(start)
        num_steps = self.num_steps if len(boxes) else 0
        # z, the gradient in z, the mark of an unknown gradient and f of each box are columns of one
        # tensor: a candidate takes the place of a box, or leaves it, in one operation.
        state = _evaluate(f, start, torch.zeros_like(start), frame, num_steps > 0)
        f_initial = state[:, -1]
        steps_accepted: list[Tensor] = []
        for index in range(num_steps):
            way, gradient, _, f_current = state.split(_COLUMNS, dim=1)
            new_way = frame.moved(way, rule.move(gradient))
            candidate = frame.boxes(new_way)
            last = index == num_steps - 1
            new_state = _evaluate(f, candidate, new_way, frame, not last)
            f_candidate = new_state[:, -1:]
            accepted = (f_candidate >= f_current) & (f_candidate < math.inf)
            accepted &= candidate[:, 3:6].amin(dim=1, keepdim=True) >= frame.min_size
            if not last:
                step, change, unknown, _ = (new_state - state).split(_COLUMNS, dim=1)
                rule.learn(Trial(step, change, unknown, accepted))
            state = torch.where(accepted, new_state, state)
            steps_accepted.append(accepted)
        refined = frame.boxes(state[:, :7])
        refined = torch.cat((refined[:, :6], wrap_to_pi(refined[:, 6:])), dim=1)
        num_accepted = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        if steps_accepted:
            num_accepted = torch.cat(steps_accepted, dim=1).sum(dim=1)
        return RefinementResult(refined, f_initial, state[:, -1], num_accepted)


def _evaluate(
    f: BoxScorer, boxes: Tensor, way: Tensor, frame: StepFrame, with_gradient: bool
) -> Tensor:
    """State ``(N, 16)`` of boxes ``(N, 7)`` at z ``(N, 7)``; no gradient is zero."""
    if not with_gradient:
        with torch.no_grad():
            value = check_values(f(boxes), boxes)
        return torch.cat(
            (way, torch.zeros_like(boxes), value.new_zeros(len(boxes), 1), value[:, None]), 1
        )
    value, gradient = value_and_gradient(f, boxes)
    values = torch.cat((value[:, None], gradient), dim=1)
    unknown = 0 * torch.linalg.vector_norm(values, math.inf, dim=1, keepdim=True)
    return torch.cat((way, frame.gradient(gradient), unknown, value[:, None]), dim=1)


def value_and_gradient(
    f: Callable[[Tensor], Tensor], points: Tensor, name: str = "boxes"
) -> tuple[Tensor, Tensor]:
    """f and its gradient, both without a graph; runs also under ``torch.no_grad``.

    Args:
        f: evaluates points, boxes for example, independently of each other.
        points: ``(..., D)``.
        name: of the points, for the message.

    Returns:
        f ``(...)`` and its gradient ``(..., D)``.

    Raises:
        ValueError: if f gives another shape or cannot be differentiated.
    """
    if not points.is_floating_point():
        got, remedy = points.dtype, f"pass {name}.float()"
        raise input_error(name, "of a floating-point type", got, remedy)
    with torch.enable_grad():
        leaf = points.detach().requires_grad_()
        value = check_values(f(leaf), leaf, name)
        if not value.requires_grad:
            raise input_error("f", f"differentiable in {name}", "values without a graph")
        one = constant((1.0,), value).expand_as(value)
        (gradient,) = torch.autograd.grad(value, leaf, one)
    return value.detach(), gradient


def check_finite_boxes(boxes: Tensor) -> None:
    """Raise unless boxes have shape ``(N, 7)``, are of a floating-point type and finite.

    Values are looked at in main memory only: on another device that would wait for it.
    """
    check_floating_boxes(boxes)
    if can_read(boxes) and not bool(torch.isfinite(boxes).all()):
        row = int((~torch.isfinite(boxes)).any(dim=1).nonzero()[0, 0])
        raise input_error("boxes", "finite", f"boxes[{row}] = {boxes[row].tolist()}")


def check_values(value: Tensor, points: Tensor, name: str = "boxes") -> Tensor:
    """Return the values f gave for points ``(..., D)``; raises unless there is one for each."""
    if getattr(value, "shape", None) != points.shape[:-1]:
        raise shape_error(f"f({name})", f"{tuple(points.shape[:-1])}, one value for each", value)
    return value
