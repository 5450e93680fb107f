"""What the contract of devices covers: one run of everything the core computes with.

A case makes its inputs on the CPU in float64, moves them to a place and returns every tensor that
was computed there, gradients included. ``covers`` names what it runs as ``package.name``, so that a
test can say what no case runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.contracts.places import Place

Run = Callable[[Place], dict[str, Tensor]]


@dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
        run: from a place to what was computed there.
        covers: what it runs.
        not_on_meta: why it must read a value on the host; empty where it needs none.
        always_float64: names of results that are of this type whatever that of the inputs.
    """

    run: Run
    covers: tuple[str, ...]
    not_on_meta: str = ""
    always_float64: tuple[str, ...] = field(default=())


CASES: dict[str, Case] = {}


def case(name: str, *covers: str, **options: Any) -> Callable[[Run], Run]:
    """Add a function to the cases."""

    def add(run: Run) -> Run:
        assert name not in CASES
        CASES[name] = Case(run, covers, **options)
        return run

    return add


def numbers(*shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Random numbers, float64."""
    return low + (high - low) * torch.rand(*shape, dtype=torch.float64)


def tensors_of(value: Any, name: str = "") -> dict[str, Tensor]:
    """All tensors of results that are tensors, dataclasses, dicts or sequences, by name."""
    if isinstance(value, Tensor):
        return {name: value}
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, tuple | list):
        parts = list(enumerate(value))
    elif hasattr(value, "__dataclass_fields__"):
        parts = [(part, getattr(value, part)) for part in value.__dataclass_fields__]
    else:
        return {}
    found: dict[str, Tensor] = {}
    for part, inner in parts:
        found.update(tensors_of(inner, f"{name}.{part}" if name else str(part)))
    return found
