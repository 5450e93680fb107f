"""Steps of N boxes of D columns: in units, along the axes of the input boxes, within limits."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ebm3d.devices import Vector, constant
from ebm3d.errors import check_labels, check_positive, input_error, shape_error

# First of the pairs of columns that rotate: x and y; vx and vy.
_PAIRS = (0, 7)


class StepLimits:
    """Units and limits of steps; arguments and errors as :class:`ebm3d.refiners.GradientAscent`."""

    def __init__(
        self,
        step_scale: Sequence[float] | Sequence[Sequence[float]] | None,
        axes: str,
        max_step: float | None,
        max_displacement: float | None,
        min_size: float,
    ) -> None:
        check_positive("min_size", min_size)
        for name, limit in (("max_step", max_step), ("max_displacement", max_displacement)):
            number = isinstance(limit, int | float) and not isinstance(limit, bool)
            if limit is not None and not (number and limit > 0):
                raise input_error(name, "positive, or None", repr(limit))
        if axes not in ("box", "world"):
            raise input_error("axes", "'box' or 'world'", repr(axes))
        self.scale = None if step_scale is None else _scale_table(step_scale)
        self.axes, self.min_size = axes, min_size
        self.max_step, self.max_displacement = max_step, max_displacement

    def frame(self, boxes: Tensor, labels: Tensor | None) -> StepFrame:
        """Coordinates of steps from boxes ``(N, D)`` of classes ``(N,)``."""
        yaw = boxes[:, 6:7] if self.axes == "box" else torch.zeros_like(boxes[:, 6:7])
        cos_sin = torch.cat((torch.cos(yaw), torch.sin(yaw)), dim=1)
        columns = boxes.shape[1]
        others, parts = _rotation(columns)
        rotation = torch.addmm(constant(others, boxes), cos_sin, constant(parts, boxes))
        axes = rotation.view(-1, columns, columns)
        if self.scale is not None:
            axes = self._scale_of(boxes, labels)[..., None] * axes
        return StepFrame(boxes, axes, self)

    def _scale_of(self, boxes: Tensor, labels: Tensor | None) -> Tensor:
        """S ``(N, D)``."""
        assert self.scale is not None
        if self.scale.shape[1] != boxes.shape[1]:
            expected = f"({boxes.shape[1]},), or a row of as many per class, as boxes have columns"
            raise shape_error("step_scale", expected, self.scale)
        rows = constant(tuple(map(tuple, self.scale.tolist())), boxes)
        if len(rows) == 1:
            return rows.expand(len(boxes), -1)
        if labels is None:
            raise input_error("labels", "given where step_scale has a row per class", None)
        check_labels(labels, len(boxes), len(rows), "step_scale")
        return rows[labels]


class StepFrame(NamedTuple):
    """Coordinates z ``(N, D)`` of steps: the displacement from the input boxes in units.

    Row by row, ``axes`` ``(N, D, D)`` are what one unit of each coordinate adds to a box.
    """

    start: Tensor
    axes: Tensor
    limits: StepLimits

    def boxes(self, z: Tensor) -> Tensor:
        """Boxes ``(N, D)`` at z; the yaw is not wrapped."""
        return torch.baddbmm(self.start[:, None], z[:, None], self.axes)[:, 0]

    def gradient(self, gradient: Tensor) -> Tensor:
        """Gradient in z of one in the boxes; not finite is zero."""
        return (self.axes @ _finite(gradient)[..., None])[..., 0]

    def moved(self, z: Tensor, step: Tensor) -> Tensor:
        """z after a step, within the limits; a step that is not finite is none."""
        step, limits = _finite(step), self.limits
        if limits.max_step is not None:
            step = step.clamp(-limits.max_step, limits.max_step)
        z = z + step
        if limits.max_displacement is not None:
            z = z.clamp(-limits.max_displacement, limits.max_displacement)
        return z


@functools.cache
def _rotation(columns: int) -> tuple[Vector, tuple[Vector, Vector]]:
    """Rotations of D dimensions, row by row: the part that stays, those by cosine and sine."""
    others, cos, sin = ([0.0] * columns**2 for _ in range(3))
    for i in range(columns):
        others[i * (columns + 1)] = 1.0
    for i in (first for first in _PAIRS if first < columns):
        j = i + 1
        others[i * columns + i] = others[j * columns + j] = 0.0
        cos[i * columns + i] = cos[j * columns + j] = 1.0
        sin[i * columns + j], sin[j * columns + i] = 1.0, -1.0
    return tuple(others), (tuple(cos), tuple(sin))


def _finite(values: Tensor) -> Tensor:
    """Zero in place of what is not finite."""
    return torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _scale_table(values: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    """``(1 or num_classes, 7 or 9)``, float64, on the CPU."""
    expected = "seven positive numbers, or nine with velocities (a row per class)"
    try:
        table = torch.atleast_2d(torch.as_tensor(values, dtype=torch.float64))
    except (TypeError, ValueError) as error:
        raise input_error("step_scale", expected, repr(values)) from error
    positive = table.numel() > 0 and bool(((table > 0) & (table < math.inf)).all())
    if table.ndim != 2 or table.shape[1] not in (7, 9) or not positive:
        raise input_error("step_scale", expected, values)
    return table
