"""Measure on a GPU: the core's figures against the CPU's, time, launches, waits, memory.

python tools/benchmarks/gpu.py --json gpu.json

About a minute of a card. The core part needs the core alone; the part on the detector, a full-size
SECOND with random weights, needs the host, and is left out, visibly, without it. Each time is a
median by a steady clock, once the device has done its work. ``--device cpu`` tries the script where
there is no card: differences are of torch and kernels, launches counted, times of the processor.
Whether everything runs on a card is what the tests marked ``gpu`` say.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from _report import facts, parser_of, print_table, write_json
from gpu_stages.core import MAP, Problem, correctness, refinement, training

PARTS = ("correctness", "refinement", "training", "detector")
_MOST_COMPARED = 50  # boxes that are refined on the CPU too
_NO_CARD = (
    "No CUDA device is visible to torch {version}: nothing was measured. On a machine with a GPU "
    "this takes a torch with CUDA (docs/gpu.md); --device cpu tries the script without one."
)


def detector(args: Any, device: torch.device, repeats: int) -> Any:
    """Return the figures of the detector, or why there are none."""
    try:
        from gpu_stages.detector import run_detector
    except ImportError as error:
        return f"skipped: the host is not installed ({error})"
    return run_detector(args.config, device, args.frames, repeats)


def show(title: str, rows: Any) -> None:
    """Print the figures of a part, one row a case."""
    if isinstance(rows, str):
        print(f"{title}: {rows}", flush=True)
        return
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = [(case, *(_cell(row.get(name)) for name in columns)) for case, row in rows.items()]
    print_table(title, ("", *columns), cells)


def _cell(value: Any) -> str:
    """A figure in four digits; nothing for nothing."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _step(text: str) -> tuple[int, int]:
    """Boxes and noise samples of a training step, as in 32x128."""
    boxes, samples = (int(number) for number in text.split("x"))
    return boxes, samples


def main() -> int:
    """Measure, print, write; 1 without a device."""
    parser = parser_of(__doc__, frames=2)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--boxes", type=int, nargs="+", default=(20, 50, 100, 500))
    steps = [(32, 64), (32, 128), (128, 64)]
    parser.add_argument("--steps", type=_step, nargs="+", default=steps, metavar="BOXESxSAMPLES")
    parser.add_argument("--map", type=int, nargs=3, default=MAP, help="channels, rows, columns")
    parser.add_argument("--config", default="ebm_second_kitti.py", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, help="timed calls, 20; on a CPU 2")
    args = parser.parse_args()
    device = torch.device(args.device)
    on_gpu = device.type == "cuda"
    if on_gpu and not torch.cuda.is_available():
        print(_NO_CARD.format(version=torch.__version__))
        return 1
    repeats = args.repeats or (20 if on_gpu else 2)
    problem = Problem(args.map)
    parts = {
        "correctness": lambda: correctness(problem, device, min(_MOST_COMPARED, max(args.boxes))),
        "refinement": lambda: refinement(problem, device, args.boxes, repeats),
        "training": lambda: training(problem, device, args.steps, repeats),
        "detector": lambda: detector(args, device, repeats),
    }
    report: dict[str, Any] = {
        **facts(),
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "cuda": torch.version.cuda if on_gpu else None,
        "tf32_in_products": torch.backends.cuda.matmul.allow_tf32,
        "tf32_in_convolutions": torch.backends.cudnn.allow_tf32,
        "repeats": repeats,
    }
    print(", ".join(f"{name}: {value}" for name, value in report.items()), flush=True)
    for name in args.parts:
        report[name] = parts[name]()
        show(name, report[name])
    write_json(args.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
