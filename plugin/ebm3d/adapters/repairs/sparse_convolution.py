"""Sparse convolution on a CPU: spconv 2.3.8 trains there after four repairs.

Upstream: spconv's CPU path is its reference path and is not tested with more than one thread.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@cache
def repair_spconv_stream() -> bool:
    """Let spconv's CPU backward run on a torch without CUDA.

    Upstream defect: ``spconv.pytorch.ops.indice_conv_backward`` asks for the current CUDA stream
    before it looks where its tensors are, and so raises. The CPU path does not use the stream.
    """
    if torch.cuda.is_available():
        return False
    from spconv.pytorch import ops

    ops.get_current_stream = lambda: 0
    return True


@cache
def repair_spconv_scatter_add() -> bool:
    """Replace spconv's racy CPU scatter-add by a serial one.

    Upstream defect: ``scatter_add_cpu`` (spconv 2.3.8, ``csrc/sparse/gather.py``) declares its row
    pointers outside the parallel loop: with two threads a few rows in a thousand are added to the
    wrong place or not at all, without an error. The replacement adds in the order of the index;
    gathers and matrix products keep their threads.
    """
    from spconv.pytorch import ops

    original = ops.SpconvOps

    class SerialSpconvOps(original):  # type: ignore[misc, valid-type]
        """spconv's operators with another ``scatter_add_cpu``."""

        @staticmethod
        def scatter_add_cpu(out: Any, rows: Any, index: Any) -> None:
            """Add ``rows[i]`` to ``out[index[i]]``; tensorview tensors (N, C), (P, C), int32."""
            target, source, where = out.numpy_view(), rows.numpy_view(), index.numpy_view()
            if target.dtype in (np.float32, np.float64) and source.dtype == target.dtype:
                scatter_add_rows(target, source, where)
                return
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                original.scatter_add_cpu(out, rows, index)
            finally:
                torch.set_num_threads(threads)

    ops.SpconvOps = SerialSpconvOps
    return True


@numba.njit(cache=True)
def scatter_add_rows(
    target: NDArray[np.floating[Any]], source: NDArray[np.floating[Any]], where: NDArray[np.int32]
) -> None:
    """Add ``source[i]`` to ``target[where[i]]`` in order of i; (N, C), (P, C), (<= P,)."""
    for i in range(len(where)):
        row = where[i]
        for channel in range(target.shape[1]):
            target[row, channel] += source[i, channel]


@cache
def repair_spconv_index_layout() -> bool:
    """Hand only contiguous index tensors to spconv.

    Upstream defect: the C++ that pairs inputs with outputs ignores strides; the transposed memory
    that ``nonzero().int()`` returns gives wrong results without an error.
    """
    from spconv.pytorch import SparseConvTensor

    original = SparseConvTensor.__init__

    def init(self: Any, features: Any, indices: Any, *args: Any, **kwargs: Any) -> None:
        original(self, features, indices.contiguous(), *args, **kwargs)

    SparseConvTensor.__init__ = init
    return True


@cache
def repair_spconv_dense() -> bool:
    """Let ``SparseConvTensor.dense`` index by a tuple.

    Upstream defect: ``scatter_nd`` (spconv 2.3.8, ``pytorch/core.py``) indexes a tensor by a list,
    which torch warns about and announces to read differently.
    """
    from spconv.pytorch import core

    core.scatter_nd = _scatter_nd
    return True


def _scatter_nd(indices: Tensor, updates: Tensor, shape: list[int]) -> Tensor:
    """Zeros of ``shape`` with ``updates[i]`` at ``indices[i]`` (N, D), each at most once."""
    result = updates.new_zeros(tuple(shape))
    result[tuple(indices.unbind(-1))] = updates
    return result
