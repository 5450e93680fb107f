"""The energy networks of K models as differentiable functions: compiled, and in plain torch.

K models; B rows; S values of y in a row; H units; P parameters, ordered as in :mod:`.kernels`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm3d.benchmarks.regression_1d.contrast_kernel import contrast_kernel
from ebm3d.benchmarks.regression_1d.kernels import (
    NUM_PARAMETERS,
    NUM_UNITS,
    gradients_kernel,
    values_kernel,
)
from ebm3d.benchmarks.regression_1d.slope_kernels import slope_gradients_kernel, slopes_kernel
from ebm3d.errors import input_error, shape_error


def energy_values(parameters: Tensor, context: Tensor, y: Tensor) -> Tensor:
    """Return f ``(K, B, S)``, compiled.

    Args:
        parameters: ``(K, P)`` float32 on the CPU.
        context: of each row, ``(K, B, H)``.
        y: ``(K, B, S)``.

    Returns:
        Unnormalized log densities; differentiable once in all arguments.

    Raises:
        ValueError: for other shapes, another type or device.
    """
    _check(parameters, context, y)
    return _Values.apply(parameters, context, y)


def energy_slopes(parameters: Tensor, context: Tensor, y: Tensor) -> Tensor:
    """Return df/dy ``(K, B, S)``, compiled; differentiable once in parameters and context.

    Arguments and errors are those of :func:`energy_values`.
    """
    _check(parameters, context, y)
    return _Slopes.apply(parameters, context, y)


def energy_contrast(parameters: Tensor, context: Tensor, y: Tensor, log_q: Tensor) -> Tensor:
    r"""Return :math:`\log\sum_s e^{f_s - \log q_s} - f_0` of each row, ``(K, B)``, compiled.

    Loss and gradients come from one pass, a third faster than :func:`energy_values` and
    a loss of its values.

    Args:
        parameters: ``(K, P)`` float32 on the CPU.
        context: of each row, ``(K, B, H)``.
        y: ``(K, B, S)``, the true one first; no gradient flows into it.
        log_q: ``(K, B, S)``; infinite where a value is not to be counted.

    Returns:
        Losses; differentiable once in parameters and context.

    Raises:
        ValueError: for other shapes, another type or device.
    """
    _check(parameters, context, y)
    if log_q.shape != y.shape:
        raise shape_error("log_q", f"{tuple(y.shape)} like y", log_q)
    return _Contrast.apply(parameters, context, y, log_q)


def plain_energy_values(parameters: Tensor, context: Tensor, y: Tensor) -> Tensor:
    """Return what :func:`energy_values` does, in torch: any type, any order of derivatives."""
    H = NUM_UNITS
    sizes = (H, H, H * H, H * H, H, H * H, H, H, 1)
    w, b0, w1, w2, b2, w3, b3, w4, b4 = parameters[:, None].split(sizes, dim=-1)
    w1, w2, w3 = (part.unflatten(-1, (H, H)).mT for part in (w1, w2, w3))
    h = torch.tanh(y[..., None] * w[:, :, None] + b0[:, :, None])
    h = torch.tanh(h @ w1 + context[:, :, None])
    h = h + torch.tanh(h @ w2 + b2[:, :, None])
    h = h + torch.tanh(h @ w3 + b3[:, :, None])
    return (h * w4[:, :, None]).sum(-1) + b4


class _Values(torch.autograd.Function):
    """f; its slope is computed with it where y needs a gradient."""

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, context: Tensor, y: Tensor) -> Tensor:
        arrays, f = _arrays(parameters, context, y), y.new_empty(y.shape)
        slopes = y.new_empty(y.shape) if ctx.needs_input_grad[2] else None
        if slopes is None:
            values_kernel(*arrays, f.numpy())
        else:
            slopes_kernel(*arrays, f.numpy(), slopes.numpy())
        ctx.save_for_backward(parameters, context, y, slopes)
        return f

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        parameters, context, y, slopes = ctx.saved_tensors
        found: tuple[Tensor | None, ...] = (None, None)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            found = _gradients(gradients_kernel, parameters, context, y, weights)
        return (*found, None if slopes is None else weights * slopes)


class _Slopes(torch.autograd.Function):
    """df/dy."""

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, context: Tensor, y: Tensor) -> Tensor:
        f, slopes = y.new_empty(y.shape), y.new_empty(y.shape)
        slopes_kernel(*_arrays(parameters, context, y), f.numpy(), slopes.numpy())
        ctx.save_for_backward(parameters, context, y)
        return slopes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        parameters, context, y = ctx.saved_tensors
        found = _gradients(slope_gradients_kernel, parameters, context, y, weights)
        return (*found, None)


class _Contrast(torch.autograd.Function):
    """The contrast of each row, whose gradients are known with it."""

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, context: Tensor, y: Tensor, log_q: Tensor) -> Tensor:
        losses = y.new_empty(y.shape[:2])
        rows = y.new_zeros(*y.shape[:2], NUM_PARAMETERS)
        of_context = torch.zeros_like(context)
        arrays = _arrays(parameters, context, y, log_q)
        contrast_kernel(*arrays, losses.numpy(), rows.numpy(), of_context.numpy())
        ctx.save_for_backward(rows, of_context)
        return losses

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        rows, of_context = ctx.saved_tensors
        scale = weights[..., None]
        return (scale * rows).sum(dim=1), scale * of_context, None, None


def _arrays(*tensors: Tensor) -> list[Any]:
    """Contiguous arrays of tensors."""
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def _gradients(
    kernel: Any, parameters: Tensor, context: Tensor, y: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to parameters and context."""
    rows = parameters.new_zeros(*y.shape[:2], NUM_PARAMETERS)
    of_context = torch.zeros_like(context)
    kernel(*_arrays(parameters, context, y, weights), rows.numpy(), of_context.numpy())
    return rows.sum(dim=1), of_context


def _check(parameters: Tensor, context: Tensor, y: Tensor) -> None:
    """Raise unless shapes, type and device suit the kernels."""
    if parameters.ndim != 2 or parameters.shape[1] != NUM_PARAMETERS:
        raise shape_error("parameters", f"(K, {NUM_PARAMETERS})", parameters)
    if context.ndim != 3 or context.shape[::2] != (len(parameters), NUM_UNITS):
        raise shape_error("context", f"({len(parameters)}, B, {NUM_UNITS})", context)
    if y.ndim != 3 or y.shape[:2] != context.shape[:2]:
        raise shape_error("y", f"{tuple(context.shape[:2])} and an axis S", y)
    for name, value in (("parameters", parameters), ("context", context), ("y", y)):
        if value.dtype != torch.float32 or value.device.type != "cpu":
            got = f"{value.dtype} on {value.device}"
            raise input_error(name, "float32 on the CPU", got, "see plain_energy_values")
