"""What every ascent on f shares: candidates within limits, of which none is accepted that falls.

N boxes; T steps.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ebm3d.boxes.angles import wrap_to_pi
from ebm3d.errors import check_count, check_floating_boxes, input_error, shape_error
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
        f_initial: ``(N,)`` f of the boxes as they came.
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
    """A candidate, evaluated.

    Attributes:
        frame: the coordinates of the steps.
        current: ``(N, 7)`` boxes the step started from.
        candidate: ``(N, 7)`` boxes where it led, after the limits.
        change: ``(N, 7)`` gradient per unit at the candidates less that at the boxes.
        known: ``(N,)`` whether f and its gradient are finite at both, so that the change says
            anything.
        accepted: ``(N,)`` whether the candidate is the box now.
    """

    frame: StepFrame
    current: Tensor
    candidate: Tensor
    change: Tensor
    known: Tensor
    accepted: Tensor

    @property
    def step(self) -> Tensor:
        """From the boxes to the candidates, in units, ``(N, 7)``."""
        return self.frame.displacement(self.candidate) - self.frame.displacement(self.current)


class StepRule(ABC):
    """How one ascent chooses its moves; made anew for every call, it may remember."""

    @abstractmethod
    def move(self, gradient: Tensor) -> Tensor:
        """Return the next move ``(N, 7)`` in units, from the gradient per unit ``(N, 7)``."""

    @abstractmethod
    def learn(self, trial: Trial) -> None:
        """Take notice of a candidate, accepted or not."""


AnyAscent = TypeVar("AnyAscent", bound="Ascent")


class Ascent(ABC):
    """Climbs f by T steps, each box by itself.

    A candidate is accepted if f does not fall, is finite, and the box is finite and large enough;
    so the result is finite and upright for finite input, and f never falls. T + 1 evaluations and T
    gradients suffice, because f and gradient of an accepted box are kept.

    Args:
        num_steps: T; 0 returns the boxes as they came.
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
            ValueError: for a wrong shape or boxes that are not finite.
        """
        check_finite_boxes(boxes)
        current = boxes.detach()
        frame = self.limits.frame(current, labels)
        rule = self.start(current)
        f_initial, gradient, known = self._evaluate(f, current, frame, self.num_steps > 0)
        f_current = f_initial
        num_accepted = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        for index in range(self.num_steps):
            candidate = frame.candidate(current, rule.move(gradient))
            last = index == self.num_steps - 1
            f_candidate, new_gradient, sound = self._evaluate(f, candidate, frame, not last)
            accepted = (f_candidate >= f_current) & torch.isfinite(f_candidate)
            accepted &= frame.allows(candidate)
            if not last:
                change = new_gradient - gradient
                rule.learn(Trial(frame, current, candidate, change, known & sound, accepted))
            chosen = accepted[:, None]
            current = torch.where(chosen, candidate, current)
            f_current = torch.where(accepted, f_candidate, f_current)
            gradient = torch.where(chosen, new_gradient, gradient)
            known = torch.where(accepted, sound, known)
            num_accepted += accepted
        wrapped = torch.cat((current[:, :6], wrap_to_pi(current[:, 6:])), dim=1)
        return RefinementResult(wrapped, f_initial, f_current, num_accepted)

    def _evaluate(
        self, f: BoxScorer, boxes: Tensor, frame: StepFrame, with_gradient: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """f, its gradient per unit (zeros if not wanted), whether both are finite; detached."""
        if not with_gradient or len(boxes) == 0:
            with torch.no_grad():
                value = check_values(f(boxes), boxes)
            return value, torch.zeros_like(boxes), torch.isfinite(value)
        value, gradient = value_and_gradient(f, boxes)
        known = torch.isfinite(value) & torch.isfinite(gradient).all(dim=1)
        return value, frame.gradient(gradient), known


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
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def check_finite_boxes(boxes: Tensor) -> None:
    """Raise unless boxes have shape ``(N, 7)``, are of a floating-point type and finite."""
    check_floating_boxes(boxes)
    if not bool(torch.isfinite(boxes).all()):
        row = int((~torch.isfinite(boxes)).any(dim=1).nonzero()[0, 0])
        raise input_error("boxes", "finite", f"boxes[{row}] = {boxes[row].tolist()}")


def check_values(value: Tensor, points: Tensor, name: str = "boxes") -> Tensor:
    """Return the values f gave for points ``(..., D)``; raises unless there is one for each."""
    if getattr(value, "shape", None) != points.shape[:-1]:
        raise shape_error(f"f({name})", f"{tuple(points.shape[:-1])}, one value for each", value)
    return value
