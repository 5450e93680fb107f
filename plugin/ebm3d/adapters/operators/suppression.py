"""Greedy suppression over a table of pairs, for boxes on another device than the CPU."""

from __future__ import annotations

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def kept_rows(suppresses: Tensor) -> Tensor:
    """The boxes that no kept box before them suppresses.

    Args:
        suppresses: whether box i suppresses box j, both in order of falling scores; only
            ``j > i`` counts. Booleans, shape ``(N, N)``.

    Returns:
        Rows that stay, ascending, int64, shape ``(K,)``, on the device of the table.

    Note:
        The table is copied to the host, the one time that it waits: as in mmcv's CUDA operator,
        for one box after another is no work for a GPU, and the number of boxes is needed anyway.
    """
    rows = torch.from_numpy(_greedy(suppresses.cpu().numpy()))
    return rows.to(suppresses.device, non_blocking=True)


@numba.njit(cache=True)
def _greedy(suppresses: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows that stay."""
    num = len(suppresses)
    removed = np.zeros(num, dtype=np.bool_)
    rows = np.empty(num, dtype=np.int64)
    num_kept = 0
    for i in range(num):
        if removed[i]:
            continue
        rows[num_kept] = i
        num_kept += 1
        for j in range(i + 1, num):
            removed[j] |= suppresses[i, j]
    return rows[:num_kept].copy()
