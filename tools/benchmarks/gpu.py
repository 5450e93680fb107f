"""Measure on a GPU: the core's figures against the CPU's, time, launches, waits, memory.

python tools/benchmarks/gpu.py --json gpu.json

About a minute of a card. The core part needs the core alone; the part on the detector, a full-size
SECOND with random weights, needs the host, and is left out, visibly, without it. Each time is a
median by a steady clock, once the device has done its work. ``--device cpu`` tries the script where
there is no card: differences are of torch and kernels, launches counted, times of the processor.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gpu_stages.calls import run_calls
from gpu_stages.core import correctness, refinement, training
from gpu_stages.problem import MAP, Problem

PARTS = ("correctness", "refinement", "training", "calls", "detector")
_BOXES, _STEPS = (20, 50, 100, 500), ("32x64", "32x128", "128x64")
_COMPARED = 50  # boxes, at most, that are refined on the CPU too
_REPEATS = {"cuda": 20, "cpu": 2}
_NO_CARD = (
    "No CUDA device is visible to torch {version}: nothing was measured. On a machine with a GPU "
    "this takes a torch with CUDA (docs/gpu.md); --device cpu tries the script without one."
)
Row = dict[str, Any]


def _device(text: str) -> torch.device:
    """A device that there are figures of, by its name."""
    with contextlib.suppress(RuntimeError):
        device = torch.device(text)
        if device.type in _REPEATS:
            return device
    raise argparse.ArgumentTypeError(f"must be cuda, cuda with a number or cpu, but got {text!r}")


def _count(text: str) -> int:
    """A whole number from one on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, but got {text!r}")
    return int(text)


def _step(text: str) -> tuple[int, int]:
    """Boxes and noise samples of a training step."""
    numbers = text.split("x")
    if len(numbers) != 2:
        raise argparse.ArgumentTypeError(f"must be two numbers as in 32x128, but got {text!r}")
    return _count(numbers[0]), _count(numbers[1])


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--device", type=_device, default="cuda", help="cuda, cuda:1, cpu; default: %(default)s"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--boxes", type=_count, nargs="+", default=_BOXES, help="of refinements")
    parser.add_argument(
        "--steps",
        type=_step,
        nargs="+",
        default=[_step(step) for step in _STEPS],
        metavar="NxM",
        help="boxes and noise samples of steps",
    )
    parser.add_argument(
        "--map", type=_count, nargs=3, default=MAP, help="channels, rows, columns; %(default)s"
    )
    parser.add_argument("--config", default="ebm_second_kitti.py", help="default: %(default)s")
    parser.add_argument(
        "--frames", type=_count, default=2, help="of a training step of the detector"
    )
    parser.add_argument("--repeats", type=_count, help="timed calls, 20; on a CPU 2")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


def facts(device: torch.device) -> Row:
    """Return what the figures depend on."""
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if on_gpu else None,
        "threads": torch.get_num_threads(),
        "tf32_in_products": torch.backends.cuda.matmul.allow_tf32,
        "tf32_in_convolutions": torch.backends.cudnn.allow_tf32,
    }


def detector(args: argparse.Namespace, device: torch.device, repeats: int) -> dict[str, Row] | str:
    """Return the figures of the detector, or why there are none."""
    try:
        from gpu_stages.detector import run_detector
    except ImportError as error:
        return f"skipped: the host is not installed ({error})"
    return run_detector(args.config, device, args.frames, repeats)


def say(line: str = "") -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def show(title: str, rows: dict[str, Row] | str) -> None:
    """Print the figures of a part as columns."""
    say(f"\n{title}")
    if isinstance(rows, str):
        say(f"  {rows}")
        return
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [["", *columns]]
    lines += [[key, *(_cell(row.get(name)) for name in columns)] for key, row in rows.items()]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        say(f"  {line[0].ljust(widths[0])}  {'  '.join(cells)}".rstrip())


def _cell(value: Any) -> str:
    """A figure in four digits; nothing for nothing."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Measure, print, write; 1 without a device, or if a call failed."""
    args = parse_args()
    device = args.device
    if device.type == "cuda" and not torch.cuda.is_available():
        say(_NO_CARD.format(version=torch.__version__))
        return 1
    repeats = args.repeats or _REPEATS[device.type]
    problem = Problem(args.map)
    parts: dict[str, Callable[[], Any]] = {
        "correctness": lambda: correctness(problem, device, min(_COMPARED, max(args.boxes))),
        "refinement": lambda: refinement(problem, device, args.boxes, repeats),
        "training": lambda: training(problem, device, args.steps, repeats),
        "calls": lambda: run_calls(problem, device),
        "detector": lambda: detector(args, device, repeats),
    }
    report: dict[str, Any] = {"facts": facts(device), "repeats": repeats}
    say(", ".join(f"{name}: {value}" for name, value in report["facts"].items()))
    started = time.monotonic()
    for name in PARTS:
        if name in args.parts:
            report[name] = parts[name]()
            show(name, report[name])
    report["seconds"] = time.monotonic() - started
    failed = [name for name, row in report.get("calls", {}).items() if row["error"]]
    say(f"\n{report['seconds']:.0f} s; calls that failed: {', '.join(failed) or 'none'}")
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
