"""Steps of boxes in units, in the axes of the input boxes, and how far they may go.

N boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.devices import constant
from ebm3d.errors import check_labels, check_positive, input_error

# From cosine and sine of the axes' yaw to the rotation of seven dimensions, row by row: along and
# across in x and y; the others stay.
_ROTATION = (
    (1.0, *(0.0,) * 7, 1.0, *(0.0,) * 40),
    (0.0, 1.0, *(0.0,) * 5, -1.0, *(0.0,) * 41),
)
_OTHERS = tuple(float(i == j and i > 1) for i in range(7) for j in range(7))


@dataclass(frozen=True)
class StepFrame:
    """The coordinates z that steps of N boxes are taken in: the way from the input boxes in units.

    Attributes:
        start: ``(N, 7)`` input boxes, where z is zero.
        axes: ``(N, 7, 7)`` what one unit of each coordinate adds to a box: along (x), across (y),
            up, length, width, height (m), yaw (rad).
        max_step: largest step per dimension in units, or None.
        max_displacement: largest way from ``start`` per dimension in units, or None.
        min_size: smallest size of a box, meters.
    """

    start: Tensor
    axes: Tensor
    max_step: float | None
    max_displacement: float | None
    min_size: float

    def boxes(self, way: Tensor) -> Tensor:
        """Boxes ``(N, 7)`` at z ``(N, 7)``; the yaw is not wrapped."""
        return torch.baddbmm(self.start[:, None], way[:, None], self.axes)[:, 0]

    def gradient(self, gradient: Tensor) -> Tensor:
        """Gradient in z ``(N, 7)`` of one in the boxes ``(N, 7)``; not finite is zero."""
        finite = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        return (self.axes @ finite[..., None])[..., 0]

    def moved(self, way: Tensor, move: Tensor) -> Tensor:
        """z after a move ``(N, 7)``, within the limits; a move that is not finite is none."""
        move = torch.nan_to_num(move, nan=0.0, posinf=0.0, neginf=0.0)
        if self.max_step is not None:
            move = move.clamp(-self.max_step, self.max_step)
        way = way + move
        if self.max_displacement is not None:
            way = way.clamp(-self.max_displacement, self.max_displacement)
        return way


class StepLimits:
    """Units and limits of steps, by class.

    Args:
        step_scale: S, seven numbers for along (x), across (y), up, length, width, height (m), yaw
            (rad), or one row per class; None for ones.
        axes: "box" for the axes of the input box; "world" for x and y.
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
        yaw = boxes[:, 6:] if self.axes == "box" else torch.zeros_like(boxes[:, 6:])
        turn = torch.cat((torch.cos(yaw), torch.sin(yaw)), dim=1)
        turn = torch.addmm(constant(_OTHERS, boxes), turn, constant(_ROTATION, boxes))
        axes = unit[..., None] * turn.view(-1, 7, 7)
        return StepFrame(boxes, axes, self.max_step, self.max_displacement, self.min_size)


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
        table: ``(1 or num_classes, 7)``, on the CPU.
        boxes: give number, dtype and device.
        labels: needed where the table has a row per class.

    Raises:
        ValueError: if labels are missing or have no row.
    """
    rows = constant(tuple(map(tuple, table.tolist())), boxes)
    if len(table) == 1:
        return rows.expand(len(boxes), 7)
    if labels is None:
        raise input_error("labels", f"given where {name} has a row per class", None)
    check_labels(labels, len(boxes), len(table), name)
    return rows[labels]
