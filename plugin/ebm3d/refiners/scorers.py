"""f as a callable: its values, its gradient, and the log density of residuals that it is.

N boxes; S variants of each; D residuals: 7, or 9 with velocities.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.devices import constant
from ebm3d.errors import input_error, shape_error

# f ``(...)`` of points ``(..., D)``, each by itself; where they are boxes, of period 2 pi in the
# yaw. A bound energy takes boxes ``(N, D)``, or ``(N, S, D)`` for S variants of each.
Scorer: TypeAlias = Callable[[Tensor], Tensor]


def value_and_gradient(f: Scorer, points: Tensor, name: str = "boxes") -> tuple[Tensor, Tensor]:
    """f ``(...)`` and its gradient ``(..., D)`` at points, without a graph, in any grad mode."""
    with torch.enable_grad():
        leaf = as_leaf(points, name)
        value = differentiable_values(f, leaf, name)
        one = constant((1.0,), value).expand_as(value)
        (gradient,) = torch.autograd.grad(value, leaf, one)
    return value.detach(), gradient


def as_leaf(points: Tensor, name: str) -> Tensor:
    """A leaf at points ``(..., D)`` to differentiate by."""
    if points.ndim == 0:
        raise shape_error(name, "(..., D)", points)
    if not points.is_floating_point():
        raise input_error(name, "of a floating-point type", points.dtype, f"pass {name}.float()")
    return points.detach().requires_grad_()


def differentiable_values(f: Scorer, leaf: Tensor, name: str) -> Tensor:
    """f ``(...)`` at a leaf; raises unless it has the graph of at least one point."""
    value = check_values(f(leaf), leaf, name)
    if leaf.numel() and not value.requires_grad:
        raise input_error("f", f"differentiable in {name}", "values without a graph")
    return value


def check_values(value: Any, points: Tensor, name: str = "boxes") -> Tensor:
    """Return the values of f at points ``(..., D)``; raises unless there is one for each."""
    if getattr(value, "shape", None) != points.shape[:-1]:
        raise shape_error(f"f({name})", f"{tuple(points.shape[:-1])}, one value for each", value)
    return value


class ResidualDensity:
    r"""The log density of residuals that f is in boxes.

    .. math:: h(t) = f(y(t)) + \log\left|\det\frac{\partial y}{\partial t}\right|

    of an f of boxes ``(N, S, D)`` and residuals t around N boxes. docs/method.md, M-23.
    """

    def __init__(self, f: Scorer, coding: LocalCoding) -> None:
        self._f, self._coding = f, coding

    def __call__(self, residuals: Tensor) -> Tensor:
        """Return h ``(N, S)`` of residuals ``(N, S, D)``."""
        variants = self._coding.decode(residuals)
        # The volume has a graph: an f without one would go unnoticed.
        if variants.requires_grad:
            values = differentiable_values(self._f, variants, "boxes")
        else:
            values = check_values(self._f(variants), variants)
        return values + self._coding.log_volume(variants)
