"""Milliseconds, launches, waits and memory of one call on a device.

On a CPU launches and waits are those a GPU would see: operations of the torch path, counted as
torch dispatches them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from ebm3d.boxes.kernels import forced_torch
from ebm3d.devices import clock

GIB = 1024**3
_LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")


def milliseconds(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Return the median time of a call, after up to three to warm up; on a CPU processor time."""
    for _ in range(min(repeats, 3)):
        call()
    times = []
    for _ in range(repeats):
        start = clock(device)
        call()
        times.append(1e3 * (clock(device) - start))
    return statistics.median(times)


class _Operations(TorchDispatchMode):
    """Counts operations that compute, and those that read a value on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = [part.alias_info for part in func._schema.returns]
        is_view = bool(returned) and all(info and not info.is_write for info in returned)
        name = func.overloadpacket.__name__
        self.launches += not is_view and not name.startswith(("empty", "new_empty"))
        self.waits += name in ("_local_scalar_dense", "nonzero", "masked_select")
        return func(*args, **(kwargs or {}))


def counts(call: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """Count what one call asks of a device; of a CPU, what the torch path would of another.

    Returns:
        ``launches`` of kernels, ``copies`` between memories, ``waits`` of the host for them,
        and ``busy_ms``, in which the device computes; on a CPU launches and waits alone.
    """
    if device.type == "cpu":
        with forced_torch():
            call()
            with _Operations() as operations:
                call()
        return {"launches": operations.launches, "waits": operations.waits}
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
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
    row = {"ms": milliseconds(call, device, repeats), "peak_gib": peak_gib(call, device)}
    return {**row, **counts(call, device)}
