"""Where numba kernels run instead of torch, and on how many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import numba
import torch
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = NDArray[Any]
"""An argument of a kernel that is compiled for several types."""

_KERNELS_ALLOWED = ContextVar("ebm3d_kernels_allowed", default=True)

WORTH_SHARING = 5e-3
"""Seconds of work of one thread from which on all threads are used."""


def kernels_serve(*tensors: Tensor) -> bool:
    """Whether numba kernels apply: CPU tensors, all float32 or all float64."""
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


@contextmanager
def threads_for(seconds: float) -> Iterator[None]:
    """Run kernels of short work on one thread and of long work on all; results are the same.

    Waking a second thread costs microseconds on an idle machine and tens of milliseconds on a busy
    one.

    Args:
        seconds: rough time that one thread would need.
    """
    before = numba.get_num_threads()
    numba.set_num_threads(before if seconds >= WORTH_SHARING else 1)
    try:
        yield
    finally:
        numba.set_num_threads(before)
