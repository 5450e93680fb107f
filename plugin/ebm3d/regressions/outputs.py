"""Reading raw outputs: shapes, and logarithms of spreads kept within bounds."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ebm3d.errors import input_error, shape_error


def check_outputs(outputs: Tensor, num_outputs: int) -> None:
    """Raise unless outputs have shape ``(N, num_outputs)``."""
    if outputs.ndim != 2 or outputs.shape[1] != num_outputs:
        raise shape_error("outputs", f"(N, {num_outputs})", outputs)


def check_targets(targets: Tensor, outputs: Tensor) -> None:
    """Raise unless targets have shape ``(N, 7)`` with the N of the outputs."""
    if targets.shape != (len(outputs), 7):
        raise shape_error("targets", f"({len(outputs)}, 7), one row per row of outputs", targets)


def check_bound(name: str, bound: float) -> None:
    """Raise unless a bound of :func:`clamp_inward` is positive and finite."""
    if not 0 < bound < math.inf:
        raise input_error(name, "positive and finite", bound)


def clamp_inward(values: Tensor, bound: float) -> Tensor:
    """Clamp values, and let gradients lead back inside.

    ``torch.clamp`` has no gradient outside, so that a value which left the bounds, be it in one
    bad step of the warm-up, would stay outside for good. Here a gradient passes inside the bounds,
    and outside wherever descent along it moves the value towards them.

    Args:
        values: any shape.
        bound: values are clamped to [-bound, bound].

    Returns:
        The shape of ``values``.
    """
    return _ClampInward.apply(values, bound)  # type: ignore[no-untyped-call]


class _ClampInward(torch.autograd.Function):
    """Clamp with the gradient that :func:`clamp_inward` describes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, bound: float) -> Tensor:
        """Clamp."""
        ctx.save_for_backward(values)
        ctx.bound = bound
        return values.clamp(-bound, bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Drop what would lead further out: descent goes against the gradient."""
        (values,) = ctx.saved_tensors
        (gradient,) = gradients
        outward = ((values > ctx.bound) & (gradient < 0)) | ((values < -ctx.bound) & (gradient > 0))
        return torch.where(outward, 0.0, gradient), None
