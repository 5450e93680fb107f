"""Random numbers in the type and on the device of a tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.errors import input_error


def standard_normal(
    shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Draw standard normal numbers.

    Args:
        shape: of the result.
        like: gives dtype and device.
        generator: source of randomness on that device; None for the device's global one.

    Raises:
        ValueError: if the generator is on another device.
    """
    check_generator(generator, like)
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw numbers from [0, 1); arguments and errors as :func:`standard_normal`."""
    check_generator(generator, like)
    return torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)


def whole_numbers(
    end: int, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Draw from 0 to ``end - 1``, int64; further arguments and errors as :func:`standard_normal`.

    Args:
        end: what all numbers are below.
        shape: of the result.
        like: gives the device.
        generator: source of randomness on that device.
    """
    check_generator(generator, like)
    return torch.randint(end, shape, generator=generator, device=like.device)


def check_generator(generator: torch.Generator | None, like: Tensor) -> None:
    """Raise unless a generator, if there is one, is on the device of a tensor.

    Raises:
        ValueError: if it is on another device.
    """
    if generator is None:
        return
    device, expected = generator.device, like.device
    # "cuda" without a number is the current one.
    numbers = {device.index, expected.index} - {None}
    if device.type != expected.type or len(numbers) > 1:
        remedy = f"make it by torch.Generator({str(expected)!r})"
        raise input_error("generator", f"on {expected}, as the tensors", f"one on {device}", remedy)
