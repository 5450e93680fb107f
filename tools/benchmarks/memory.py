"""The memory that a training step of the EBM head needs at the stock SECOND's map.

python tools/benchmarks/memory.py --boxes 32 --samples 128 --json memory.json

The largest resident set of a fresh process, less what it held before the step: the map itself
(69 MiB), the network and its input are there already; the loss, the backward pass and the gradients
of the parameters are what is counted. Each preset has a process of its own, with a small step made
before, so that libraries are loaded and kernels compiled. For Linux.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from _report import facts, parser_of, print_table, write_json
from mmdet3d.registry import MODELS
from mmengine import Config

import ebm3d.register  # noqa: F401
from ebm3d import config_path
from ebm3d.simulation import simulate_frame

PRESETS = {"default": "ebm_second_kitti.py", "paper2020": "ebm_second_kitti_paper2020.py"}
LIMIT = 1.0  # GiB


def step_growth(config: str, num_boxes: int, num_samples: int) -> dict[str, float]:
    """Return what a step of training adds to this process, GiB; run in a fresh process."""
    cfg = Config.fromfile(config_path(config)).model.bbox_head.refinement_head
    head = MODELS.build({**cfg, "loss": {**cfg.loss, "num_noise_samples": num_samples}})
    frame = simulate_frame(0)
    points = [torch.from_numpy(frame.points)]
    cars = torch.from_numpy(frame.boxes[frame.names == "Car"]).float()
    boxes = cars.repeat(1 + num_boxes // len(cars), 1)[:num_boxes]

    large, small = (
        torch.relu(torch.randn(1, cfg.in_channels, *size)) for size in ((200, 176), (8, 8))
    )

    def step(bev: Any, boxes: Any) -> None:
        head.zero_grad(set_to_none=True)
        labels = torch.zeros(len(boxes), dtype=torch.int64)
        head.loss(bev, points, [boxes], [labels])["loss_ebm"].backward()

    step(small, torch.tensor([[2.0, 0, -1.7, 3.9, 1.6, 1.56, 0]]))
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    before = pages * resource.getpagesize() / 1024**3
    step(large, boxes)
    return {"before": before, "growth": _peak() - before}


def _peak() -> float:
    """Largest resident set of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def main() -> None:
    """Measure each preset in a process of its own, print, write."""
    parser = parser_of(__doc__, boxes=32, samples=128)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        sys.stdout.write(json.dumps(step_growth(args.worker, args.boxes, args.samples)))
        return
    runs = {}
    sizes = ["--boxes", str(args.boxes), "--samples", str(args.samples)]
    for preset, config in PRESETS.items():
        command = [sys.executable, "-W", "ignore", __file__, "--worker", config, *sizes]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs[preset] = json.loads(done.stdout.splitlines()[-1])
    print_table(
        f"a step of {args.boxes} boxes x {args.samples} noise samples (limit {LIMIT:.0f} GiB)",
        ("preset", "GiB"),
        [(preset, f"{run['growth']:.2f}") for preset, run in runs.items()],
    )
    head = {"boxes": args.boxes, "noise_samples_per_box": args.samples, "limit_gib": LIMIT}
    write_json(args.json, {**facts(), "map": "1 x 512 x 200 x 176, not counted", **head, **runs})


if __name__ == "__main__":
    main()
