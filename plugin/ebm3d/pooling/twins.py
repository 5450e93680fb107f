"""Functions with a gradient in closed form, and their twins that torch differentiates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ebm3d.devices import Matrix


def apply(function: Any, *arguments: Any) -> Any:
    """Call a ``torch.autograd.Function``, whose ``apply`` has no types."""
    return function.apply(*arguments)


def gradients(
    outputs: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of the twin, with a graph of their own.

    Args:
        outputs: of the twin.
        inputs: tensors to differentiate in.
        grad_outputs: gradients of the outputs.
        wanted: whether the gradient of each input is asked for; may be longer than ``inputs``.

    Returns:
        One gradient per input, None where it is not wanted.
    """
    asked = [t for t, want in zip(inputs, wanted, strict=False) if want]
    grads = iter(
        torch.autograd.grad(outputs, asked, grad_outputs, create_graph=True, allow_unused=True)
    )
    return [next(grads) if want else None for _, want in zip(inputs, wanted, strict=False)]


def sparse_matrix(
    num_rows: int, num_columns: int, entries: Mapping[tuple[int, int], float]
) -> Matrix:
    """A matrix of its entries that are not zero, for :func:`ebm3d.devices.constant`."""
    columns = range(num_columns)
    return tuple(tuple(entries.get((r, c), 0.0) for c in columns) for r in range(num_rows))
