"""Steps of N boxes: in units, along the axes of the input boxes, within limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

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
        """Coordinates of steps from boxes ``(N, 7)`` of classes ``(N,)``."""
        yaw = boxes[:, 6:] if self.axes == "box" else torch.zeros_like(boxes[:, 6:])
        cos_sin = torch.cat((torch.cos(yaw), torch.sin(yaw)), dim=1)
        rotation = torch.addmm(constant(_OTHERS, boxes), cos_sin, constant(_ROTATION, boxes))
        axes = rotation.view(-1, 7, 7)
        if self.scale is not None:
            axes = self._scale_of(boxes, labels)[..., None] * axes
        return StepFrame(boxes, axes, self)

    def _scale_of(self, boxes: Tensor, labels: Tensor | None) -> Tensor:
        """S ``(N, 7)``."""
        assert self.scale is not None
        rows = constant(tuple(map(tuple, self.scale.tolist())), boxes)
        if len(rows) == 1:
            return rows.expand(len(boxes), 7)
        if labels is None:
            raise input_error("labels", "given where step_scale has a row per class", None)
        check_labels(labels, len(boxes), len(rows), "step_scale")
        return rows[labels]


class StepFrame(NamedTuple):
    """Coordinates z ``(N, 7)`` of steps: the displacement from the input boxes in units.

    Row by row, ``axes`` ``(N, 7, 7)`` are what one unit of each coordinate adds to a box.
    """

    start: Tensor
    axes: Tensor
    limits: StepLimits

    def boxes(self, z: Tensor) -> Tensor:
        """Boxes ``(N, 7)`` at z; the yaw is not wrapped."""
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


def _finite(values: Tensor) -> Tensor:
    """Zero in place of what is not finite."""
    return torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _scale_table(values: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    """``(1 or num_classes, 7)``, float64, on the CPU."""
    expected = "seven positive numbers (a row per class)"
    try:
        table = torch.atleast_2d(torch.as_tensor(values, dtype=torch.float64))
    except (TypeError, ValueError) as error:
        raise input_error("step_scale", expected, repr(values)) from error
    positive = table.numel() > 0 and bool(((table > 0) & (table < math.inf)).all())
    if table.ndim != 2 or table.shape[1] != 7 or not positive:
        raise input_error("step_scale", expected, values)
    return table
