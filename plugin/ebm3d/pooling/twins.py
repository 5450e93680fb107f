"""How the gradients of kernels with a closed form meet those of their twins in torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def apply(function: Any, *arguments: Any) -> Any:
    """Call a ``torch.autograd.Function``, whose ``apply`` torch leaves without types."""
    return function.apply(*arguments)


def gradients(
    outputs: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of the twin in torch, with a graph of their own.

    Args:
        outputs: what the twin gave.
        inputs: tensors to differentiate in.
        grad_outputs: gradients of the outputs.
        wanted: for each input, whether its gradient is asked for; may be longer than ``inputs``.

    Returns:
        One gradient per input, None where it is not wanted.
    """
    asked = [t for t, want in zip(inputs, wanted, strict=False) if want]
    found = iter(
        torch.autograd.grad(outputs, asked, grad_outputs, create_graph=True, allow_unused=True)
    )
    return [next(found) if want else None for _, want in zip(inputs, wanted, strict=False)]
