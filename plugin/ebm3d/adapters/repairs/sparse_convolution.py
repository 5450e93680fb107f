"""Sparse convolution on a CPU: spconv 2.3.8 trains there after four repairs.

Upstream: spconv's CPU path is its reference path and is not tested with more than one thread.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_FLOATS = (np.float32, np.float64)


def repair_spconv_stream() -> bool:
    """Let spconv's CPU backward run on a torch without CUDA.

    Upstream defect: ``spconv.pytorch.ops.indice_conv_backward`` asks for the current CUDA stream
    before it looks where its tensors are, so the first backward on a CPU raises "Torch not
    compiled with CUDA enabled". The stream is not used on the CPU path; zero answers for it.

    Returns:
        Whether the repair is in place; it is not needed where CUDA is.
    """
    if torch.cuda.is_available():
        return False
    from spconv.pytorch import ops

    ops.get_current_stream = _no_stream
    return True


def _no_stream() -> int:
    """The stream of a machine without CUDA."""
    return 0


def repair_spconv_scatter_add() -> bool:
    """Replace spconv's racy CPU scatter-add by a serial one.

    Upstream defect: ``scatter_add_cpu`` (spconv 2.3.8, ``csrc/sparse/gather.py``) declares the
    pointers to the current input and output row outside the parallel loop, so threads overwrite
    each other's pointers. With two threads a few rows in a thousand are added to the wrong place
    or not at all, forward and backward, without an error; the gradient of SECOND's encoder is off
    by more than its own size. The replacement adds row after row in one thread, in the order of
    the index, so that its sums are the same in every run; a row addition is bound by memory, and
    the gathers and matrix products around it keep their threads.

    Returns:
        Whether the repair is in place; CUDA tensors never reach this function.
    """
    from spconv.pytorch import ops

    if not isinstance(ops.SpconvOps, _SafeSpconvOps):
        ops.SpconvOps = _SafeSpconvOps(ops.SpconvOps)
    return True


class _SafeSpconvOps:
    """spconv's operators with ``scatter_add_cpu`` exchanged; all others pass through."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops

    def __getattr__(self, name: str) -> Any:
        """Hand out the operator of spconv."""
        return getattr(self._ops, name)

    def scatter_add_cpu(self, out: Any, rows: Any, index: Any) -> None:
        """Add ``rows[i]`` to ``out[index[i]]`` for every ``i < len(index)``.

        Args:
            out: tensorview tensor (N, C), changed in place.
            rows: tensorview tensor (P, C) with P >= len(index).
            index: tensorview tensor of int32, one entry per row to add.
        """
        target, source, where = out.numpy_view(), rows.numpy_view(), index.numpy_view()
        if target.dtype.type in _FLOATS and source.dtype == target.dtype:
            scatter_add_rows(target, source, where)
            return
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            self._ops.scatter_add_cpu(out, rows, index)
        finally:
            torch.set_num_threads(threads)


@numba.njit(cache=True)
def scatter_add_rows(
    target: NDArray[np.floating[Any]], source: NDArray[np.floating[Any]], where: NDArray[np.int32]
) -> None:
    """Add ``source[i]`` to ``target[where[i]]`` in place, in order of ``i``.

    Args:
        target: (N, C).
        source: (P, C) with P >= len(where).
        where: indices into ``target``; an index may repeat.
    """
    for i in range(len(where)):
        row = where[i]
        for channel in range(target.shape[1]):
            target[row, channel] += source[i, channel]


def repair_spconv_index_layout() -> bool:
    """Hand only contiguous index tensors to spconv.

    Upstream defect: the C++ that pairs inputs with outputs reads the coordinates as if they were
    contiguous, whatever their strides; the transposed memory that ``nonzero().int()`` returns
    gives wrong results without an error.

    Returns:
        Whether the repair is in place.
    """
    from spconv.pytorch import SparseConvTensor

    if getattr(SparseConvTensor.__init__, "contiguous_indices", False):
        return True
    original = SparseConvTensor.__init__

    def init(self: Any, features: Any, indices: Any, *args: Any, **kwargs: Any) -> None:
        original(self, features, indices.contiguous(), *args, **kwargs)

    init.contiguous_indices = True  # type: ignore[attr-defined]
    SparseConvTensor.__init__ = init
    return True


def repair_spconv_dense() -> bool:
    """Let ``SparseConvTensor.dense`` index by a tuple.

    Upstream defect: ``scatter_nd`` (spconv 2.3.8, ``pytorch/core.py``) indexes a tensor by a list
    of tensors, which torch warns about in every forward pass and announces to read differently.

    Returns:
        Whether the repair is in place.
    """
    from spconv.pytorch import core

    core.scatter_nd = _scatter_nd
    return True


def _scatter_nd(indices: Tensor, updates: Tensor, shape: list[int]) -> Tensor:
    """Zeros of ``shape`` with ``updates[i]`` at ``indices[i]``.

    Args:
        indices: (N, D) positions, each at most once.
        updates: (N, ...) values.
        shape: of the result; its first D axes are those that ``indices`` counts along.
    """
    result = updates.new_zeros(tuple(shape))
    result[tuple(indices.unbind(-1))] = updates
    return result
