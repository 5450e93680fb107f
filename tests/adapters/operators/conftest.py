"""The two implementations of an operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from ebm3d.boxes.kernels import forced_torch


@pytest.fixture(params=["numba", "torch"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Numba, which works on CPU tensors, and torch, made for other devices."""
    with forced_torch() if request.param == "torch" else nullcontext():
        yield request.param
