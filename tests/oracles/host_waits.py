"""Where code reads values on the host, counted on a CPU: each would wait for a GPU.

A read is a scalar taken off a tensor, a shape that depends on values (``nonzero``, boolean indexing
and the like), a tensor turned into lists or arrays, and a Python number or list turned into a
tensor, which a GPU receives by a blocking copy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_OPERATORS = {
    "_local_scalar_dense",
    "bincount",
    "equal",
    "lift_fresh",
    "masked_select",
    "nonzero",
    "repeat_interleave",
    "unique_dim",
    "_unique",
    "_unique2",
}
_METHODS = ("tolist", "numpy", "cpu")


class _Reads(TorchDispatchMode):
    """Notes the operators that read values."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        kwargs = kwargs or {}
        by_values = name in ("index", "index_put", "index_put_") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if by_values or (name in _OPERATORS and kwargs.get("output_size") is None):
            self._note(name)
        return func(*args, **kwargs)


@contextmanager
def counted_reads(folder: str) -> Iterator[list[str]]:
    """Collect the reads of the files below a folder within a block.

    Args:
        folder: part of their paths, such as ``"ebm3d/adapters"``; of the package's files on the
            stack the innermost one counts, so that what the core reads is the core's.

    Yields:
        ``"file:line operator"`` of each read, growing meanwhile.
    """
    found: list[str] = []

    def note(name: str) -> None:
        frame = sys._getframe(1)
        while frame is not None and "/ebm3d/" not in frame.f_code.co_filename:
            frame = frame.f_back  # type: ignore[assignment]
        if frame is not None and folder in frame.f_code.co_filename:
            found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {name}")

    def noting(name: str) -> Callable[..., Any]:
        method = getattr(Tensor, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            note(name)
            return method(*args, **kwargs)

        return call

    with ExitStack() as stack:
        for name in _METHODS:
            stack.enter_context(mock.patch.object(Tensor, name, noting(name)))
        stack.enter_context(_Reads(note))
        yield found
