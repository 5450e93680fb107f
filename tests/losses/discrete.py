"""A discrete world of four values: probabilities and noise, by which expectations are sums."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

P = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
Q = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)


def expectation(value: Callable[[int, int], Tensor], p: Tensor = P, q: Tensor = Q) -> Tensor:
    """Of a function of a true value and one noise sample."""
    return sum(p[i] * q[j] * value(i, j) for i in range(4) for j in range(4))  # type: ignore[return-value]


def largest_slope(loss: Callable[[Tensor], Tensor], start: Tensor) -> float:
    """Largest derivative of a loss by a table of f."""
    table = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(table), table)
    return float(gradient.abs().max())
