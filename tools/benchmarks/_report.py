"""What the benchmarks share: stages that take turns, their medians, tables and JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ebm3d.datasets.atomic import write_atomically

CLOCKS = {"clock": time.perf_counter, "processor": time.process_time}
Seconds = dict[str, dict[str, list[float]]]
"""Seconds of each call by clock and stage; "processor" sums over the threads."""


def take_turns(
    stages: Mapping[str, Callable[[], Any]], turns: int, warm_up: int = 1, calls: int = 1
) -> Seconds:
    """Time stages by turns, so that a change of the machine's load meets them all.

    Args:
        stages: what to time.
        turns: of each stage.
        warm_up: calls of each stage before.
        calls: of a stage in one turn; the seconds are those of one call.
    """
    for _ in range(warm_up):
        for stage in stages.values():
            stage()
    seconds: Seconds = {kind: {name: [] for name in stages} for kind in CLOCKS}
    for _ in range(turns):
        for name, stage in stages.items():
            before = {kind: clock() for kind, clock in CLOCKS.items()}
            for _ in range(calls):
                stage()
            for kind, clock in CLOCKS.items():
                seconds[kind][name].append((clock() - before[kind]) / calls)
    return seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    ends = {"lowest": min(values), "highest": max(values)}
    return {"median": statistics.median(values), **ends}


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Median of the ratios of the same turn."""
    return statistics.median(a / b for a, b in zip(values, others, strict=True))


def shown(row: Mapping[str, float], scale: float = 1.0, digits: int = 0) -> str:
    """Median and range of :func:`spread` as text."""
    median, low, high = (f"{scale * row[k]:.{digits}f}" for k in ("median", "lowest", "highest"))
    return f"{median} ({low} to {high})"


def facts() -> dict[str, Any]:
    """What figures depend on."""
    import torch

    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_average": round(os.getloadavg()[0], 2),
    }


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells."""
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    Console(width=160).print(table)


def parser_of(description: str | None, **integers: int) -> argparse.ArgumentParser:
    """A parser with ``--json`` and an option for each integer, with its default."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in integers.items():
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=int, default=default, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    return parser


def write_json(path: Path | None, report: Any) -> None:
    """Write figures in five digits, one row a line, if a file is wanted."""
    if path is not None:
        text = json.dumps(report)
        report = json.loads(text, parse_float=lambda number: float(f"{float(number):.5g}"))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (_rows(report, "") + "\n").encode())


def _rows(value: Any, indent: str) -> str:
    """A value on one line if it is short, else its parts on lines."""
    text = json.dumps(value)
    if len(text) < 400 or not isinstance(value, dict | list):
        return text
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_rows(part, indent + ' ')}" for key, part in value.items()]
    else:
        parts = [_rows(part, indent + " ") for part in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{indent} " + f",\n{indent} ".join(parts) + f"\n{indent}{closing}"
