"""Measure the memory a training step of the EBM head needs at the stock SECOND's map.

python tools/benchmarks/memory.py --boxes 32 --samples 128 --json memory.json

The largest resident set of a fresh process, less what it held before the step: the map itself
(69 MiB), the network and its input are there already; the loss, the backward pass and the gradients
of the parameters are what is counted. Each preset has a process of its own, with a small step made
before, so that libraries are loaded and kernels compiled. For Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

PRESETS = {"default": "ebm_second_kitti.py", "paper2020": "ebm_second_kitti_paper2020.py"}
LIMIT = 1.0  # GiB


def step_growth(config: str, num_boxes: int, num_samples: int) -> dict[str, float]:
    """Return what a step of training adds to this process, GiB; run in a fresh process."""
    import torch
    from mmdet3d.registry import MODELS
    from mmengine import Config

    import ebm3d.register  # noqa: F401
    from ebm3d import config_path
    from ebm3d.simulation import simulate_frame

    head_config = Config.fromfile(config_path(config)).model.bbox_head.refinement_head
    loss = {**head_config.loss, "num_noise_samples": num_samples}
    head = MODELS.build({**head_config, "loss": loss})
    frame = simulate_frame(0)
    points = [torch.from_numpy(frame.points)]
    cars = torch.from_numpy(frame.boxes[frame.names == "Car"]).float()
    boxes = cars.repeat(1 + num_boxes // len(cars), 1)[:num_boxes]
    labels = torch.zeros(num_boxes, dtype=torch.int64)
    bev = torch.relu(torch.randn(1, head_config.in_channels, 200, 176))

    def step(count: int) -> None:
        head.zero_grad(set_to_none=True)
        losses = head.loss(bev, points, [boxes[:count]], [labels[:count]])
        losses["loss_ebm"].backward()

    small = torch.relu(torch.randn(1, head_config.in_channels, 8, 8))
    tiny = boxes[:1] * 0 + torch.tensor([2.0, 0, -1.7, 3.9, 1.6, 1.56, 0])
    head.loss(small, points, [tiny], [labels[:1]])["loss_ebm"].backward()
    head.zero_grad(set_to_none=True)
    before = _resident()
    step(num_boxes)
    first = _peak()
    step(num_boxes)
    return {"before": before, "growth": _peak() - before, "growth_of_one_step": first - before}


def _resident() -> float:
    """Resident set of this process now, GiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024**3


def _peak() -> float:
    """Largest resident set of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def measure(preset: str, num_boxes: int, num_samples: int) -> dict[str, Any]:
    """Run one preset in a process of its own."""
    arguments = ["--worker", PRESETS[preset], "--boxes", str(num_boxes)]
    command = [sys.executable, "-W", "ignore", __file__, *arguments, "--samples", str(num_samples)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {"preset": preset, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    """Parse the command line, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boxes", type=int, default=32)
    parser.add_argument("--samples", type=int, default=128, help="noise samples per box")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        sys.stdout.write(json.dumps(step_growth(args.worker, args.boxes, args.samples)) + "\n")
        return
    runs = [measure(preset, args.boxes, args.samples) for preset in PRESETS]
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "map": "1 x 512 x 200 x 176, not counted",
        "boxes": args.boxes,
        "noise_samples_per_box": args.samples,
        "limit_gib": LIMIT,
        "runs": runs,
    }
    console = Console()
    for run in runs:
        console.print(
            f"{run['preset']}: {run['growth']:.2f} GiB for a step of {args.boxes} boxes x "
            f"{args.samples} noise samples (limit {LIMIT:.0f} GiB)"
        )
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
