"""What depends on the device of tensors: constants, random numbers, seeds and time."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ebm3d.errors import input_error

Vector: TypeAlias = tuple[float, ...]
Matrix: TypeAlias = tuple[Vector, ...]
Numbers: TypeAlias = Vector | Matrix | tuple[Matrix, ...]


def device_of(module: nn.Module) -> torch.device:
    """Return where the parameters of a module are; the CPU if it has none."""
    first = next(iter(module.parameters()), None)
    return torch.device("cpu") if first is None else first.device


# A new tensor of Python numbers is a blocking copy to the device: once, not at every call.


def constant(values: Numbers, like: Tensor) -> Tensor:
    """Return numbers in the type and on the device of ``like``.

    The same values, type and device give the same tensor: do not change it in place.
    """
    return _copied(values, like.dtype, like.device)


def constant_index(values: Numbers, like: Tensor) -> Tensor:
    """Return whole numbers, int64, on the device of ``like``; as :func:`constant`."""
    return _copied(values, torch.int64, like.device)


@functools.lru_cache(maxsize=256)
def _copied(values: Numbers, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor that takes part in gradients even if inference mode asks for it first."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def standard_normal(
    shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Draw standard normal numbers in the type and on the device of ``like``.

    Raises:
        ValueError: if the generator is on another device.
    """
    check_generator(generator, like)
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw numbers from [0, 1); as :func:`standard_normal`."""
    check_generator(generator, like)
    return torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)


def whole_numbers(
    end: int, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Draw from 0 to ``end - 1``, int64; as :func:`standard_normal`."""
    check_generator(generator, like)
    return torch.randint(end, shape, generator=generator, device=like.device)


def check_generator(generator: torch.Generator | None, like: Tensor) -> None:
    """Raise ``ValueError`` if there is a generator and it is on another device than ``like``."""
    if generator is None:
        return
    device, expected = generator.device, like.device
    # "cuda" without a number is the current one.
    numbers = {device.index, expected.index} - {None}
    if device.type != expected.type or len(numbers) > 1:
        remedy = f"make it by torch.Generator({str(expected)!r})"
        raise input_error("generator", f"on {expected}, as the tensors", f"one on {device}", remedy)


def seeded_generator(device: torch.device | str, seed: int) -> torch.Generator:
    """Return a generator for tensors of a device; the same seed gives other numbers on a GPU."""
    return torch.Generator(device).manual_seed(seed)


@contextmanager
def seeded(seed: int, device: torch.device | str) -> Iterator[None]:
    """Seed torch's global generators of the CPU and of ``device``; restore them afterwards."""
    where = torch.device(device)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if where.type == "cuda":
            with torch.cuda.device(where):
                torch.cuda.manual_seed(seed)
        yield


def clock(device: torch.device | str) -> float:
    """Return seconds, whose differences time the work on a device.

    On a CPU the time of this process; on a GPU wall time, once all work queued there is done.
    """
    where = torch.device(device)
    if where.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(where)
    return time.perf_counter()
