"""What differs from device to device: where random numbers come from, and how time is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def device_of(module: nn.Module) -> torch.device:
    """Return where the parameters of a module are; the CPU if it has none."""
    first = next(iter(module.parameters()), None)
    return torch.device("cpu") if first is None else first.device


def seeded_generator(device: torch.device | str, seed: int) -> torch.Generator:
    """Return a generator for tensors of a device that starts from a seed.

    Args:
        device: of the tensors to be drawn.
        seed: of the numbers, which are others on a GPU than on a CPU.
    """
    return torch.Generator(device).manual_seed(seed)


@contextmanager
def seeded(seed: int, device: torch.device | str) -> Iterator[None]:
    """Let torch's own generators start from a seed within a block, and put them back after it.

    Args:
        seed: of the CPU's generator and that of ``device``.
        device: whose generator is drawn from in the block; those of other GPUs are not touched.
    """
    where = torch.device(device)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if where.type == "cuda":
            with torch.cuda.device(where):
                torch.cuda.manual_seed(seed)
        yield


def clock(device: torch.device | str) -> float:
    """Return seconds for the time that work on a device takes, as a difference of two calls.

    Args:
        device: on a CPU, seconds of the processor: other processes do not count. On a GPU, seconds
            of a steady clock, once all work given to the device is done.
    """
    where = torch.device(device)
    if where.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(where)
    return time.perf_counter()
