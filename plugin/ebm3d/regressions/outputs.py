"""Raw outputs: their shapes, and logarithms of spreads kept within bounds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm3d.errors import shape_error


def check_outputs(outputs: Tensor, num_outputs: int) -> None:
    """Raise unless outputs have shape ``(N, num_outputs)``."""
    if outputs.ndim != 2 or outputs.shape[1] != num_outputs:
        raise shape_error("outputs", f"(N, {num_outputs})", outputs)


def check_targets(targets: Tensor, outputs: Tensor) -> None:
    """Raise unless targets have shape ``(N, 7)`` with the N of the outputs."""
    if targets.shape != (len(outputs), 7):
        raise shape_error("targets", f"({len(outputs)}, 7), one row per row of outputs", targets)


def split_outputs(outputs: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Locations and logarithms of spreads, clamped to +-bound, ``(N, 7)`` each, of ``(N, 14)``."""
    check_outputs(outputs, 14)
    locations, raw = outputs.split(7, dim=1)
    return locations, clamp_inward(raw, bound)


def clamp_inward(values: Tensor, bound: float) -> Tensor:
    """Clamp values to [-bound, bound], with a gradient that leads back inside.

    ``torch.clamp`` has no gradient outside: a value that left the bounds would stay there.
    """
    return _ClampInward.apply(values, bound)  # type: ignore[no-untyped-call]


class _ClampInward(torch.autograd.Function):
    """Clamp with the gradient of :func:`clamp_inward`."""

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
