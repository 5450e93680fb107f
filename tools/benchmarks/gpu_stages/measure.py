"""Milliseconds, launches, waits and memory of one call on a device."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ebm3d.devices import clock

GIB = 1024**3
_LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")


def milliseconds(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Return the median time of a call, after as many calls to warm up, three at most.

    Args:
        call: what is timed.
        device: whose work is waited for; on a CPU the time is that of the processor.
        repeats: number of timed calls.
    """
    for _ in range(min(repeats, 3)):
        call()
    found = []
    for _ in range(repeats):
        start = clock(device)
        call()
        found.append(1e3 * (clock(device) - start))
    return statistics.median(found)


def counts(call: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """Count what one call asks of a device.

    Returns:
        ``launches`` of kernels, ``copies`` between memories, ``waits`` of the host for them,
        ``items`` (numbers that Python reads), and ``busy_ms``, in which the device computes. On a
        CPU all but ``items`` are zero.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    call()
    clock(device)
    with profile(activities=activities) as profiler:
        call()
        clock(device)  # for the device as a whole: not among the waits
    events = profiler.events() or []
    names = [event.name for event in events]
    on_device = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA]
    return {
        "launches": sum(name in _LAUNCHES for name in names),
        "copies": sum(name.startswith("cudaMemcpy") for name in names),
        "waits": names.count("cudaStreamSynchronize"),
        "items": names.count("aten::item"),
        "busy_ms": sum(event.time_range.elapsed_us() for event in on_device) / 1e3,
    }


def peak_gib(call: Callable[[], Any], device: torch.device) -> float | None:
    """Return what a call adds to the memory in use at its highest, GiB; None for a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    return (torch.cuda.max_memory_allocated(device) - before) / GIB


def measured(call: Callable[[], Any], device: torch.device, repeats: int) -> dict[str, Any]:
    """Return ``ms``, ``peak_gib`` and the counts of a call."""
    found = {"ms": milliseconds(call, device, repeats), "peak_gib": peak_gib(call, device)}
    return {**found, **counts(call, device)}
