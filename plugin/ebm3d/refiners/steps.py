"""Steps of boxes in units, in the axes of the boxes as they came, and how far they may go.

N boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.boxes.angles import wrap_to_pi
from ebm3d.boxes.frames import rotate_about_z
from ebm3d.boxes.local import add_local_offsets, local_offsets
from ebm3d.errors import check_positive, input_error, shape_error


@dataclass(frozen=True)
class StepFrame:
    """The coordinates steps of N boxes are taken in.

    Attributes:
        start: ``(N, 7)`` boxes as they came.
        turn: ``(N,)`` yaw of the axes, radians.
        unit: ``(N, 7)`` S: along (x), across (y), up, length, width, height (m), yaw (rad).
        max_step: largest step per dimension in units, or None.
        max_displacement: largest way from ``start`` per dimension in units, or None.
        min_size: smallest size of a box, meters.
    """

    start: Tensor
    turn: Tensor
    unit: Tensor
    max_step: float | None
    max_displacement: float | None
    min_size: float

    def gradient(self, gradient: Tensor) -> Tensor:
        """Gradient per unit ``(N, 7)`` of one in the boxes ``(N, 7)``; zero where not finite."""
        sound = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        return self.unit * rotate_about_z(sound, -self.turn)

    def displacement(self, boxes: Tensor) -> Tensor:
        """Way from ``start`` to boxes ``(N, 7)`` in units, the yaw's wrapped."""
        return local_offsets(self._axes, self._seen_from_axes(boxes)) / self.unit

    def candidate(self, current: Tensor, move: Tensor) -> Tensor:
        """Boxes ``(N, 7)`` a move ``(N, 7)`` in units from the current ones, within the limits."""
        if self.max_step is not None:
            move = move.clamp(-self.max_step, self.max_step)
        move = move * self.unit
        if self.max_displacement is None:
            return current + rotate_about_z(move, self.turn)
        limit = self.max_displacement * self.unit
        total = local_offsets(self._axes, self._seen_from_axes(current)) + move
        total = torch.minimum(torch.maximum(total, -limit), limit)
        moved = add_local_offsets(self._axes, total)
        yaw = wrap_to_pi(self.start[:, 6:] + total[:, 6:])
        return torch.cat((moved[:, :6], yaw), dim=1)

    def allows(self, candidate: Tensor) -> Tensor:
        """Whether each box ``(N, 7)`` is finite and large enough, ``(N,)``."""
        large = (candidate[:, 3:6] >= self.min_size).all(dim=1)
        return large & torch.isfinite(candidate).all(dim=1)

    @property
    def _axes(self) -> Tensor:
        """Boxes at the start whose yaw is that of the axes."""
        return torch.cat((self.start[:, :6], self.turn[:, None]), dim=1)

    def _seen_from_axes(self, boxes: Tensor) -> Tensor:
        """Boxes turned so that their yaw differs from the axes' as it does from the start's."""
        yaw = boxes[:, 6:] - self.start[:, 6:] + self.turn[:, None]
        return torch.cat((boxes[:, :6], yaw), dim=1)


class StepLimits:
    """Units and limits of steps, by class.

    Args:
        step_scale: S, seven numbers for along (x), across (y), up, length, width, height (m), yaw
            (rad), or one row per class; None for ones.
        axes: "box" for the axes of the box as it came; "world" for x and y.
        max_step: largest move per dimension in one step, in units of S; None for no limit.
        max_displacement: largest move per dimension in all, in units of S; None for no limit.
        min_size: smallest size of a box, meters.

    Raises:
        ValueError: for constants out of range.
    """

    def __init__(
        self,
        step_scale: Sequence[float] | Sequence[Sequence[float]] | None,
        axes: str,
        max_step: float | None,
        max_displacement: float | None,
        min_size: float,
    ) -> None:
        check_positive("min_size", min_size)
        limits = {"max_step": max_step, "max_displacement": max_displacement}
        for name, limit in limits.items():
            is_limit = isinstance(limit, int | float) and not isinstance(limit, bool) and limit > 0
            if limit is not None and not is_limit:
                raise input_error(name, "positive, or None", repr(limit))
        if axes not in ("box", "world"):
            raise input_error("axes", "'box' or 'world'", repr(axes))
        self.scale = None if step_scale is None else scale_table("step_scale", step_scale)
        self.axes, self.min_size = axes, min_size
        self.max_step, self.max_displacement = max_step, max_displacement

    def frame(self, boxes: Tensor, labels: Tensor | None) -> StepFrame:
        """Coordinates for boxes ``(N, 7)`` of classes ``(N,)``.

        Raises:
            ValueError: if the scale has a row per class, and labels are missing or have no row.
        """
        unit = torch.ones_like(boxes)
        if self.scale is not None:
            unit = scale_of("step_scale", self.scale, boxes, labels)
        turn = boxes[:, 6] if self.axes == "box" else torch.zeros_like(boxes[:, 6])
        return StepFrame(boxes, turn, unit, self.max_step, self.max_displacement, self.min_size)


def scale_table(name: str, values: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    """Table ``(1 or num_classes, 7)``, float64, of seven positive numbers or a row per class.

    Args:
        name: of the argument, for the message.
        values: seven numbers, or rows of seven.

    Raises:
        ValueError: for another shape, or numbers that are not positive and finite.
    """
    expected = "seven positive numbers (a row per class)"
    try:
        table = torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise input_error(name, expected, repr(values)) from error
    table = table[None] if table.ndim == 1 else table
    sound = table.numel() > 0 and bool(((table > 0) & (table < math.inf)).all())
    if table.ndim != 2 or table.shape[1] != 7 or not sound:
        raise input_error(name, expected, values)
    return table


def scale_of(name: str, table: Tensor, boxes: Tensor, labels: Tensor | None) -> Tensor:
    """Rows ``(N, 7)`` of a table for boxes ``(N, 7)`` of classes ``(N,)``.

    Args:
        name: of the table, for the message.
        table: ``(1 or num_classes, 7)``.
        boxes: give number, dtype and device.
        labels: needed where the table has a row per class.

    Raises:
        ValueError: if labels are missing or have no row.
    """
    if len(table) == 1:
        return table.to(boxes).expand(len(boxes), 7)
    if labels is None:
        raise input_error("labels", f"given where {name} has a row per class", None)
    if labels.shape != boxes.shape[:1]:
        raise shape_error("labels", f"({len(boxes)},), one class per box", labels)
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise input_error("labels", "whole numbers", labels.dtype, "pass labels.long()")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(table):
        raise input_error(
            "labels",
            f"from 0 to {len(table) - 1}",
            f"{int(labels.min())} to {int(labels.max())}",
            f"give {name} one row per class",
        )
    return table.to(boxes)[labels]
