"""When numba kernels on the CPU serve instead of their twins in torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_KERNELS_ALLOWED = ContextVar("ebm3d_kernels_allowed", default=True)


def kernels_serve(*tensors: Tensor) -> bool:
    """Whether numba kernels can work on these: main memory, and one type they are made for.

    Args:
        tensors: at least one.

    Returns:
        True for CPU tensors that are all float32 or all float64, outside :func:`forced_torch`.
    """
    kind = tensors[0].dtype
    return (
        _KERNELS_ALLOWED.get()
        and kind in (torch.float32, torch.float64)
        and all(t.device.type == "cpu" and t.dtype == kind for t in tensors)
    )


@contextmanager
def forced_torch() -> Iterator[None]:
    """Compute with torch on the CPU, too, as on other devices: for tests and benchmarks."""
    token = _KERNELS_ALLOWED.set(False)
    try:
        yield
    finally:
        _KERNELS_ALLOWED.reset(token)
