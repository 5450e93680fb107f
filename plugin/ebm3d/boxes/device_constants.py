"""Constants that are copied to a device once, not at every call: a copy makes the host wait."""

from __future__ import annotations

import functools
from typing import TypeAlias

import torch
from torch import Tensor

Numbers: TypeAlias = (
    tuple[float, ...] | tuple[tuple[float, ...], ...] | tuple[tuple[tuple[float, ...], ...], ...]
)


def constant(values: Numbers, like: Tensor) -> Tensor:
    """Return numbers in the type and on the device of a tensor.

    Args:
        values: numbers, or rows of them.
        like: gives type and device.

    Returns:
        The same tensor for the same values, type and device: not to be changed in place.
    """
    return _copied(values, like.dtype, like.device)


def constant_index(values: Numbers, like: Tensor) -> Tensor:
    """Return whole numbers, int64, on the device of a tensor; as :func:`constant`."""
    return _copied(values, torch.int64, like.device)


@functools.lru_cache(maxsize=256)
def _copied(values: Numbers, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A new tensor, which may take part in gradients whatever mode it is first asked for in."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
