"""Gradient ascent on f with a step size per box that shrinks where a step would not climb.

N boxes; T steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ebm3d.boxes.angles import wrap_to_pi
from ebm3d.boxes.frames import rotate_about_z
from ebm3d.boxes.local import add_local_offsets, local_offsets
from ebm3d.errors import check_boxes, input_error, shape_error


class BoxScorer(Protocol):
    """Anything that evaluates f for N boxes, each independently; of period 2 pi in the yaw."""

    def __call__(self, boxes: Tensor) -> Tensor:
        """Return f ``(N,)`` of boxes ``(N, 7)``."""
        ...


@dataclass(frozen=True)
class RefinementResult:
    """What a refiner gives back.

    Attributes:
        boxes: ``(N, 7)`` refined boxes, yaw in (-pi, pi].
        f_initial: ``(N,)`` f of the boxes as they came.
        f_final: ``(N,)`` f of the refined boxes, nowhere below ``f_initial``.
        num_accepted: ``(N,)`` how many steps climbed, int64.
    """

    boxes: Tensor
    f_initial: Tensor
    f_final: Tensor
    num_accepted: Tensor


class GradientAscent:
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
        num_steps: T; 0 returns the boxes as they came.
        step_size: :math:`\lambda`; dimensionless with ``step_scale``.
        step_decay: :math:`\eta`, in (0, 1).
        step_growth: factor after an accepted step, at least 1.
        step_scale: S, seven numbers for along (x), across (y), up, length, width, height (m), yaw
            (rad), or one row per class; None for ones.
        axes: "box" turns the center's gradient into the axes of the box as it came; "world" leaves
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
        if num_steps < 0 or not 0 < step_size < math.inf:
            raise input_error(
                "num_steps, step_size", "at least 0, positive", (num_steps, step_size)
            )
        if not (0 < step_decay < 1 <= step_growth < math.inf):
            raise input_error(
                "step_decay, step_growth", "in (0, 1) and at least 1", (step_decay, step_growth)
            )
        limits = {"max_step": max_step, "max_displacement": max_displacement, "min_size": min_size}
        for name, limit in limits.items():
            if limit is not None and not limit > 0:
                raise input_error(name, "positive", limit)
        if axes not in ("box", "world"):
            raise input_error("axes", "'box' or 'world'", repr(axes))
        self.scale: Tensor | None = None
        if step_scale is not None:
            scale = torch.as_tensor(step_scale, dtype=torch.float64)
            scale = scale[None] if scale.ndim == 1 else scale
            sound = bool(((scale > 0) & torch.isfinite(scale)).all())
            if scale.ndim != 2 or scale.shape[1] != 7 or not sound:
                raise input_error(
                    "step_scale", "seven positive numbers (a row per class)", step_scale
                )
            self.scale = scale
        self.num_steps, self.step_size, self.axes = num_steps, step_size, axes
        self.step_decay, self.step_growth, self.min_size = step_decay, step_growth, min_size
        self.max_step, self.max_displacement = max_step, max_displacement

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
        check_boxes(boxes)
        if not bool(torch.isfinite(boxes).all()):
            row = int((~torch.isfinite(boxes)).any(dim=1).nonzero()[0, 0])
            raise input_error("boxes", "finite", f"boxes[{row}] = {boxes[row].tolist()}")
        start = boxes.detach()
        scale = self._scale_of(start, labels)
        step = boxes.new_full((len(boxes), 1), self.step_size)
        current = start
        f_initial, gradient = _value_and_gradient(f, start, self.num_steps > 0)
        f_current = f_initial
        num_accepted = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        for index in range(self.num_steps):
            candidate = self._step(start, current, gradient, step, scale)
            last = index == self.num_steps - 1
            f_candidate, new_gradient = _value_and_gradient(f, candidate, not last)
            accepted = (f_candidate >= f_current) & (candidate[:, 3:6] >= self.min_size).all(dim=1)
            accepted &= torch.isfinite(f_candidate) & torch.isfinite(candidate).all(dim=1)
            chosen = accepted[:, None]
            current = torch.where(chosen, candidate, current)
            f_current = torch.where(accepted, f_candidate, f_current)
            gradient = torch.where(chosen, new_gradient, gradient)
            step = step * torch.where(chosen, self.step_growth, self.step_decay)
            num_accepted += accepted
        wrapped = torch.cat((current[:, :6], wrap_to_pi(current[:, 6:])), dim=1)
        return RefinementResult(wrapped, f_initial, f_current, num_accepted)

    def _scale_of(self, boxes: Tensor, labels: Tensor | None) -> Tensor | None:
        """S of each box, ``(N, 7)``."""
        if self.scale is None:
            return None
        if len(self.scale) == 1:
            return self.scale.to(boxes).expand(len(boxes), 7)
        if labels is None:
            raise input_error("labels", "given where step_scale has a row per class", None)
        if labels.shape != boxes.shape[:1]:
            raise shape_error("labels", f"({len(boxes)},), one class per box", labels)
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.scale):
            raise input_error(
                "labels",
                f"from 0 to {len(self.scale) - 1}",
                f"{int(labels.min())} to {int(labels.max())}",
                "give step_scale one row per class",
            )
        return self.scale.to(boxes)[labels]

    def _step(
        self, start: Tensor, current: Tensor, gradient: Tensor, step: Tensor, scale: Tensor | None
    ) -> Tensor:
        """Candidates one step from ``current``; limits are measured in the axes of ``start``."""
        gradient = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        unit = torch.ones_like(start) if scale is None else scale
        turn = start[:, 6] if self.axes == "box" else torch.zeros_like(start[:, 6])
        move = step * unit * rotate_about_z(gradient, -turn)
        if self.max_step is not None:
            move = move.clamp(-self.max_step, self.max_step)
        move = move * unit
        if self.max_displacement is None:
            return current + rotate_about_z(move, turn)
        frame = torch.cat((start[:, :6], turn[:, None]), dim=1)
        shift = torch.cat((current[:, :6], current[:, 6:] - start[:, 6:] + turn[:, None]), dim=1)
        limit = self.max_displacement * unit
        total = torch.minimum(torch.maximum(local_offsets(frame, shift) + move, -limit), limit)
        moved = add_local_offsets(frame, total)
        yaw = wrap_to_pi(start[:, 6:] + total[:, 6:])
        return torch.cat((moved[:, :6], yaw), dim=1)


def _value_and_gradient(f: BoxScorer, boxes: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    """f and its gradient in the boxes (zeros if not wanted), both detached."""
    if not wanted or len(boxes) == 0:
        with torch.no_grad():
            return _checked_value(f(boxes), boxes), torch.zeros_like(boxes)
    with torch.enable_grad():
        leaf = boxes.detach().requires_grad_()
        value = _checked_value(f(leaf), boxes)
        if not value.requires_grad:
            raise input_error("f", "differentiable in boxes", "values without a graph")
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def _checked_value(value: Tensor, boxes: Tensor) -> Tensor:
    """The values f gave for boxes; raises unless there is one per box."""
    if value.shape != boxes.shape[:1]:
        raise shape_error("f(boxes)", f"({len(boxes)},), one value per box", value)
    return value
