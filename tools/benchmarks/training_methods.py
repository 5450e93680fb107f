"""Measure what a step of each training method costs beside noise contrastive estimation.

python tools/benchmarks/training_methods.py --boxes 20 --repeats 9 --json training_methods.json

A step is what the EBM head does with one frame: projecting the map, cropping points, drawing
samples, the loss, and the gradients of the parameters. The head is that of the simulated set, with
both pools and random weights, on a map of as many channels as the stock SECOND's. One thread, one
process; the methods take turns, so that a change of the machine's load meets them all. Seconds of
the processor: other processes do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet3d.registry import MODELS
from mmengine import Config
from rich.console import Console
from rich.table import Table
from torch import Tensor

import ebm3d.register  # noqa: F401
from ebm3d import config_path
from ebm3d.simulation import simulate_frame

SAMPLES, BASELINE, PROPOSAL = 128, "NCE", "NCE, learned proposal"
METHODS: dict[str, dict[str, Any]] = {
    BASELINE: {"type": "NCELoss", "num_noise_samples": SAMPLES},
    "NCE+": {"type": "NCEPlusLoss", "num_noise_samples": SAMPLES},
    "ML-IS": {"type": "MLISLoss", "num_noise_samples": SAMPLES},
    "KLD-IS": {"type": "KLDISLoss", "num_noise_samples": SAMPLES},
    "SNL": {"type": "SNLLoss", "num_noise_samples": SAMPLES},
    "conditional NCE": {"type": "ConditionalNCELoss", "num_noise_samples": SAMPLES},
    PROPOSAL: {"type": "NCELoss", "num_noise_samples": SAMPLES},
    "ML-MCMC, 16 steps of 8 chains": {"type": "MLMCMCLoss", "num_steps": 16, "num_chains": 8},
    "score matching, exact": {"type": "ScoreMatchingLoss", "kind": "exact"},
    "score matching, 1 slice": {"type": "ScoreMatchingLoss", "kind": "sliced"},
    "DSM, 32 samples": {"type": "DSMLoss", "num_noise_samples": 32},
    "confidence": {"type": "ConfidenceLoss", "num_noise_samples": SAMPLES},
}


class Frame:
    """A simulated street, a random map of it, and cars in it.

    Args:
        config: of the head; what its map covers and how many channels it has.
        num_boxes: cars, each as often as needed.
        cells: rows and columns of the map.
    """

    def __init__(self, config: dict[str, Any], num_boxes: int, cells: int) -> None:
        x_min, y_min, _, x_max, y_max, _ = config["point_cloud_range"]
        street = simulate_frame(0)
        boxes = street.boxes[(street.names == "Car") & (street.num_points > 0)]
        x, y = boxes[:, 0], boxes[:, 1]
        boxes = boxes[(x > x_min) & (x < x_max) & (y > y_min) & (y < y_max)]
        self.num_cars = len(boxes)
        self.boxes = torch.from_numpy(np.resize(boxes, (num_boxes, 7))).float()
        self.labels = torch.zeros(num_boxes, dtype=torch.int64)
        self.points = torch.from_numpy(street.points)
        self.bev = torch.relu(torch.randn(1, config["in_channels"], cells, cells))

    def step(self, head: Any) -> dict[str, Tensor]:
        """A step of training, less the optimizer's."""
        head.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = head.loss(self.bev, [self.points], [self.boxes], [self.labels])
        torch.stack([v for name, v in losses.items() if name.startswith("loss")]).sum().backward()
        return losses


def build_heads(config: dict[str, Any]) -> dict[str, Any]:
    """The head of the config with each training method, with the same random weights."""
    heads = {}
    for name, loss in METHODS.items():
        torch.manual_seed(0)
        noise = config["noise"]
        if name == PROPOSAL:
            noise = {"type": "LearnedProposal", "base": noise}
        heads[name] = MODELS.build({**config, "loss": loss, "noise": noise})
        torch.nn.init.normal_(heads[name].network.layers[-1].weight, std=0.1)
    return heads


def measure(frame: Frame, heads: dict[str, Any], repeats: int) -> dict[str, list[float]]:
    """Return seconds of the processor by method."""
    for head in heads.values():
        frame.step(head)
    found: dict[str, list[float]] = {name: [] for name in heads}
    for _ in range(repeats):
        for name, head in heads.items():
            start = time.process_time()
            frame.step(head)
            found[name].append(time.process_time() - start)
    return found


def summarize(found: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return medians and ranges, and the median of the ratios to the baseline of the same turn."""
    return {
        name: {
            "median": statistics.median(times),
            "lowest": min(times),
            "highest": max(times),
            "of_nce": statistics.median(
                own / base for own, base in zip(times, found[BASELINE], strict=True)
            ),
        }
        for name, times in found.items()
    }


def show(rows: dict[str, dict[str, float]]) -> None:
    """Print the figures as a table."""
    table = Table(title="a step: median (lowest to highest), milliseconds of the processor")
    for column in ("method", "step", f"of {BASELINE}"):
        table.add_column(column)
    for name, row in rows.items():
        step = (
            f"{1e3 * row['median']:.0f} ({1e3 * row['lowest']:.0f} to {1e3 * row['highest']:.0f})"
        )
        table.add_row(name, step, f"{row['of_nce']:.2f}")
    Console().print(table)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--boxes", type=int, default=20, help="true boxes in the frame")
    parser.add_argument("--channels", type=int, default=512, help="channels of the map")
    parser.add_argument("--cells", type=int, default=50, help="rows and columns of the map")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cfg = Config.fromfile(config_path("ebm_second_simulated_cpu.py"))
    config = {**cfg.model.bbox_head.refinement_head, "in_channels": arguments.channels}
    frame = Frame(config, arguments.boxes, arguments.cells)
    rows = summarize(measure(frame, build_heads(config), arguments.repeats))
    show(rows)
    if arguments.json:
        facts = {
            "map": list(frame.bev.shape),
            "boxes": arguments.boxes,
            "cars": frame.num_cars,
            "points": len(frame.points),
            "repeats": arguments.repeats,
            "threads": 1,
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        }
        arguments.json.write_text(json.dumps({"facts": facts, "seconds": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
