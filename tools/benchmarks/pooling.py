"""Reading a map bilinearly beside torch's grid_sample.

python tools/benchmarks/pooling.py --turns 15 --json pooling.json

Both read the same positions of the same map of 200 x 176 cells: 50 boxes of 28 positions, as one
step of refinement does, and 20 x 129 boxes, as NCE does. grid_sample reads a map of channels first,
as the detector leaves it in memory, and of channels last; ours reads rows of channels. They take
turns; a ratio is the median of those of one turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from _report import facts, parser_of, print_table, ratio, take_turns, write_json
from torch import Tensor
from torch.nn.functional import grid_sample

from ebm3d.pooling import bilinear_gather, stack_maps

LIMIT = 1.2
HEIGHT, WIDTH, GRID = 200, 176, (4, 7)
SIZES = {"50 boxes": 50, "20 x 129 boxes": 20 * 129}
OTHERS = ("channels first", "channels last")
PASSES = ("forward", "and backward to positions", "and to the map")
_TURN_SECONDS = 5e-3  # longer than a clock's tick and than a switch to another process


def draw_cells(count: int, generator: torch.Generator) -> Tensor:
    """Columns and rows ``(count * 28, 2)`` of grids over cars of random heading."""
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
    grad = torch.randn(len(cells), channels, generator=generator)

    def ours(rows: Tensor, cells: Tensor) -> Tensor:
        return bilinear_gather(rows, (1, HEIGHT, WIDTH), cells, scene)

    def theirs(bev: Tensor, cells: Tensor) -> Tensor:
        grid = (2 * cells / scale - 1)[None, :, None]
        return grid_sample(bev, grid, align_corners=True)[0, :, :, 0].t()

    def reader(read: Callable[..., Tensor], source: Tensor) -> Callable[[], list[Tensor]]:
        source = source.detach().requires_grad_(passes == PASSES[2])
        at = cells.detach().requires_grad_(passes != PASSES[0])
        inputs = [t for t in (at, source) if t.requires_grad]

        def run() -> list[Tensor]:
            values = read(source, at)
            return [values, *(torch.autograd.grad(values, inputs, grad) if inputs else ())]

        return run

    return {
        "ours": reader(ours, stack_maps(bev)),
        "channels first": reader(theirs, bev),
        "channels last": reader(theirs, bev.contiguous(memory_format=torch.channels_last)),
    }


def measure(readers: dict[str, Callable[[], list[Tensor]]], turns: int) -> dict[str, Any]:
    """Milliseconds by clock and reader, ratios of ours to each other, and their difference."""
    results = {name: read() for name, read in readers.items()}
    pairs = zip(results["ours"][:2], results["channels first"][:2], strict=True)
    difference = max(float((a - b).detach().abs().max()) for a, b in pairs)
    start = time.perf_counter()
    for read in readers.values():
        read()
    calls = max(1, int(len(readers) * _TURN_SECONDS / (time.perf_counter() - start)))
    row: dict[str, Any] = {"difference": difference}
    for kind, seconds in take_turns(readers, turns, calls=calls).items():
        row[kind] = {name: 1e3 * statistics.median(s) for name, s in seconds.items()}
        row[f"ratio, {kind}"] = {name: ratio(seconds["ours"], seconds[name]) for name in OTHERS}
    return row


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, turns=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 512])
    args = parser.parse_args()
    rows = []
    for threads, channels, size in product(args.threads, args.channels, SIZES):
        torch.set_num_threads(threads)
        generator = torch.Generator().manual_seed(0)
        cells = draw_cells(SIZES[size], generator)
        for passes in PASSES:
            case = {"threads": threads, "channels": channels, "size": size, "passes": passes}
            readers = make_readers(channels, cells, passes, generator)
            rows.append({**case, **measure(readers, args.turns)})
    for kind in ("clock", "processor"):
        ratios = [row[f"ratio, {kind}"] for row in rows]
        worst = max(value for pair in ratios for value in pair.values())
        print_table(
            f"{kind}: milliseconds (ratio of ours to it), at most {worst:.2f}, limit {LIMIT}",
            ("threads", "C", "size", "passes", "ours", *OTHERS),
            [
                (
                    *(str(row[key]) for key in ("threads", "channels", "size", "passes")),
                    f"{row[kind]['ours']:.2f}",
                    *(f"{row[kind][name]:.2f} ({pair[name]:.2f})" for name in OTHERS),
                )
                for row, pair in zip(rows, ratios, strict=True)
            ],
        )
    write_json(args.json, {**facts(), "map": [HEIGHT, WIDTH], "limit": LIMIT, "rows": rows})


if __name__ == "__main__":
    main()
