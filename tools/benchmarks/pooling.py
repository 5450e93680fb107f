"""Measure reading a map bilinearly beside torch's grid_sample.

python tools/benchmarks/pooling.py --turns 15 --json pooling.json

Both read the same positions of the same map of 200 x 176 cells: 50 boxes of 28 positions, as one
step of refinement does, and 20 x 129 boxes, as NCE does. grid_sample reads a map of channels first,
as the detector leaves it in memory, and of channels last; ours reads rows of channels. They take
turns; a ratio is that of one turn, and the median of the ratios is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import grid_sample

from ebm3d.pooling import bilinear_gather, stack_maps

LIMIT = 1.2
HEIGHT, WIDTH, GRID = 200, 176, (4, 7)
SIZES = {"50 boxes": 50, "20 x 129 boxes": 20 * 129}
OTHERS = ("channels first", "channels last")
PASSES = ("forward", "and backward to positions", "and to the map")
_CLOCKS = {"clock": time.perf_counter, "processor": time.process_time}
_LEAST_SECONDS = 5e-3


def draw_cells(count: int, generator: torch.Generator) -> Tensor:
    """Columns and rows ``(count * 28, 2)`` of grids over cars that are turned at random."""
    center = torch.rand(count, 1, 2, generator=generator) * torch.tensor([WIDTH - 20, HEIGHT - 20])
    yaw = 6.3 * torch.rand(count, 1, generator=generator)
    along, across = torch.linspace(-5, 5, GRID[1]), torch.linspace(-2, 2, GRID[0])
    grid = torch.cartesian_prod(along, across)
    cos, sin = torch.cos(yaw), torch.sin(yaw)
    x = cos * grid[:, 0] - sin * grid[:, 1]
    y = sin * grid[:, 0] + cos * grid[:, 1]
    return (torch.stack((x, y), dim=-1) + center + 10).reshape(-1, 2)


def make_readers(
    channels: int, cells: Tensor, passes: str, generator: torch.Generator
) -> dict[str, Callable[[], list[Tensor]]]:
    """Return readers by name; each gives the values and what gradients are asked for."""
    bev = torch.randn(1, channels, HEIGHT, WIDTH, generator=generator)
    scene = torch.zeros(len(cells), dtype=torch.int64)
    scale = torch.tensor([WIDTH - 1.0, HEIGHT - 1.0])
    rows, last = stack_maps(bev), bev.contiguous(memory_format=torch.channels_last)
    grad = torch.randn(len(cells), channels, generator=generator)

    def ours(rows: Tensor, cells: Tensor) -> Tensor:
        return bilinear_gather(rows, (1, HEIGHT, WIDTH), cells, scene)

    def theirs(bev: Tensor, cells: Tensor) -> Tensor:
        grid = (2 * cells / scale - 1)[None, :, None]
        return grid_sample(bev, grid, align_corners=True)[0, :, :, 0].t()

    def reader(read: Callable[..., Tensor], source: Tensor) -> Callable[[], list[Tensor]]:
        own = source.detach().requires_grad_(passes == PASSES[2])
        at = cells.detach().requires_grad_(passes != PASSES[0])
        wanted = [t for t in (at, own) if t.requires_grad]

        def run() -> list[Tensor]:
            values = read(own, at)
            return [values, *(torch.autograd.grad(values, wanted, grad) if wanted else ())]

        return run

    return {
        "ours": reader(ours, rows),
        "channels first": reader(theirs, bev),
        "channels last": reader(theirs, last),
    }


def measure(readers: dict[str, Callable[[], Any]], turns: int) -> dict[str, Any]:
    """Milliseconds of each reader and ratios of ours to each other, by the clock and of the CPU.

    Quick readers are called several times in a turn, so that a turn is longer than a clock's tick
    and than a switch to another process.
    """
    start = time.perf_counter()
    for read in readers.values():
        read()
        read()
    calls = max(1, int(len(readers) * 2 * _LEAST_SECONDS / (time.perf_counter() - start)))
    seconds = {kind: {name: [] for name in readers} for kind in _CLOCKS}
    for _ in range(turns):
        for name, read in readers.items():
            before = [clock() for clock in _CLOCKS.values()]
            for _ in range(calls):
                read()
            for (kind, clock), earlier in zip(_CLOCKS.items(), before, strict=True):
                seconds[kind][name].append((clock() - earlier) / calls)
    return {kind: _summarize(found) for kind, found in seconds.items()}


def _summarize(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Medians of milliseconds, and of the ratios of ours to the others."""
    found: dict[str, Any] = {
        name: {"milliseconds": 1e3 * statistics.median(times)} for name, times in seconds.items()
    }
    for name in OTHERS:
        pairs = zip(seconds["ours"], seconds[name], strict=True)
        found[name]["ratio"] = statistics.median(own / other for own, other in pairs)
    return found


def check_agreement(readers: dict[str, Callable[[], list[Tensor]]]) -> float:
    """Largest difference of ours and theirs, in values and gradients of positions."""
    mine, theirs = (readers[name]()[:2] for name in ("ours", "channels first"))
    return max(float((a - b).detach().abs().max()) for a, b in zip(mine, theirs, strict=True))


def show(rows: list[dict[str, Any]]) -> None:
    """Print the figures as tables."""
    console = Console()
    for kind in _CLOCKS:
        table = Table(title=f"{kind}: milliseconds (ratio of ours to it)")
        for column in ("threads", "size", "C", "passes", "ours", *OTHERS):
            table.add_column(column)
        for row in rows:
            found = row[kind]
            others = [
                f"{found[name]['milliseconds']:.2f} ({found[name]['ratio']:.2f})" for name in OTHERS
            ]
            own = f"{found['ours']['milliseconds']:.2f}"
            facts = (str(row["threads"]), row["size"], str(row["channels"]), row["passes"])
            table.add_row(*facts, own, *others)
        console.print(table)
        worst = max(row[kind][name]["ratio"] for row in rows for name in OTHERS)
        console.print(f"{kind}: largest ratio {worst:.2f} (limit {LIMIT})")


def main() -> None:
    """Parse the command line, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 512])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    rows, load_before = [], os.getloadavg()[0]
    for threads in args.threads:
        torch.set_num_threads(threads)
        for channels in args.channels:
            for size, count in SIZES.items():
                generator = torch.Generator().manual_seed(0)
                cells = draw_cells(count, generator)
                for passes in PASSES:
                    readers = make_readers(channels, cells, passes, generator)
                    difference = check_agreement(readers)
                    rows.append(
                        {
                            "threads": threads,
                            "channels": channels,
                            "size": size,
                            "passes": passes,
                            "difference": difference,
                            **measure(readers, args.turns),
                        }
                    )
    show(rows)
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "load_average": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "map": [HEIGHT, WIDTH],
        "limit": LIMIT,
        "rows": rows,
    }
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
