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


def check_targets(targets: Tensor, outputs: Tensor, num_residuals: int) -> None:
    """Raise unless targets have shape ``(N, D)`` with the N of the outputs."""
    if targets.shape != (len(outputs), num_residuals):
        expected = f"({len(outputs)}, {num_residuals}), one row per row of outputs"
        raise shape_error("targets", expected, targets)


def known_targets(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Targets ``(N, D)`` with zero for velocities that are NaN, and which are known ``(N, D)``."""
    known = torch.ones_like(targets, dtype=torch.bool)
    known[:, 7:] = ~targets[:, 7:].isnan()
    return torch.where(known, targets, 0.0), known


def split_outputs(outputs: Tensor, num_residuals: int, bound: float) -> tuple[Tensor, Tensor]:
    """Locations and logarithms of spreads, clamped to +-bound, ``(N, D)`` each, of ``(N, 2 D)``."""
    check_outputs(outputs, 2 * num_residuals)
    locations, raw = outputs.split(num_residuals, dim=1)
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
