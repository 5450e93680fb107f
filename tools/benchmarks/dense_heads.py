"""Measure what densities of boxes cost in the dense head of the stock SECOND.

python tools/benchmarks/dense_heads.py --repeats 7 --json dense_heads.json

Heads of the shipped configs and the host's own take turns on one map of full size, in one process:
a training step (targets, losses, backward to the map) and an inference (scores, densities, NMS).
What they take more than the host's head is set against a training step and an inference of the
whole stock detector on the frame. Scores are set to 0.5, so that 100 candidates go to NMS and
densities are computed for as many boxes as can be. On a machine that others use, read the seconds
of the processor. For Linux.
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
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import ebm3d.register  # noqa: F401
from ebm3d import config_path
from ebm3d.simulation import simulate_frame

REGRESSIONS = ("direct", "gaussian", "laplace", "propel", "rlel", "bel", "binned")
STOCK = "stock"
LIMITS = {"training": 0.10, "inference": 0.02}
MAP = (1, 512, 200, 176)


def build_model(name: str) -> Any:
    """Build the model of a config with random weights."""
    init_default_scope("mmdet3d")
    torch.manual_seed(0)
    return MODELS.build(Config.fromfile(config_path(name)).model)


def build_heads() -> dict[str, Any]:
    """Return the heads by name, with the same weights where they share some."""
    heads = {STOCK: build_model("second_kitti.py").bbox_head}
    for name in REGRESSIONS:
        heads[name] = build_model(f"{name}_second_kitti.py").bbox_head
    for head in heads.values():
        torch.manual_seed(0)
        for layer in (head.conv_cls, head.conv_dir_cls, head.conv_reg):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
    return heads


def draw_frame() -> tuple[Tensor, list[Any]]:
    """Return the points of a simulated street, and a sample with its cars."""
    frame = simulate_frame(0)
    cars = torch.from_numpy(frame.boxes[frame.names == "Car"]).float()
    sample = Det3DDataSample(metainfo={"box_type_3d": LiDARInstance3DBoxes})
    sample.gt_instances_3d = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(cars), labels_3d=torch.zeros(len(cars)).long()
    )
    return torch.from_numpy(frame.points), [sample]


def total_of(losses: dict[str, Any]) -> Tensor:
    """Return the sum of losses, which may come as lists."""
    parts = [
        v for value in losses.values() for v in (value if isinstance(value, list) else [value])
    ]
    return torch.stack([part.sum() for part in parts]).sum()


def head_stages(head: Any, bev: Tensor, samples: list[Any]) -> dict[str, Callable[[], Any]]:
    """Return a training step and an inference of a head on the map."""

    def train() -> None:
        head.zero_grad(set_to_none=True)
        bev.grad = None
        total_of(head.train().loss([bev], samples)).backward()

    def infer() -> None:
        with torch.no_grad():
            head.eval().predict([bev], samples)

    return {"training": train, "inference": infer}


def detector_stages() -> dict[str, Callable[[], Any]]:
    """Return a training step and an inference of the whole stock detector, voxels given."""
    detector = build_model("second_kitti.py")
    points, samples = draw_frame()
    batch = {"inputs": {"points": [points]}, "data_samples": samples}
    data = detector.data_preprocessor(batch)

    def train() -> None:
        detector.zero_grad(set_to_none=True)
        total_of(detector.train()(**data, mode="loss")).backward()

    def infer() -> None:
        with torch.no_grad():
            detector.eval()(**data, mode="predict")

    return {"training": train, "inference": infer}


def timed(stage: Callable[[], Any]) -> dict[str, float]:
    """Return the seconds of one run, by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    stage()
    return {
        "clock": time.perf_counter() - clock,
        "processor": time.process_time() - processor,
    }


def peak_growth(stage: Callable[[], Any]) -> float:
    """Return by how much a stage raises the resident set at its peak, MiB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    before = _resident("VmRSS")
    stage()
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    """One line of this process' status, MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def summarize(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return median, lowest and highest of both kinds of seconds."""
    return {
        kind: {
            "median": statistics.median(run[kind] for run in runs),
            "lowest": min(run[kind] for run in runs),
            "highest": max(run[kind] for run in runs),
        }
        for kind in ("clock", "processor")
    }


def measure(repeats: int, detector_repeats: int) -> dict[str, Any]:
    """Run everything in turns, and compare."""
    bev = torch.relu(torch.randn(MAP)).requires_grad_()
    _, samples = draw_frame()
    stages = {name: head_stages(head, bev, samples) for name, head in build_heads().items()}
    report: dict[str, Any] = {"map": list(MAP), "cars": len(samples[0].gt_instances_3d.labels_3d)}
    detector = detector_stages()
    for part in LIMITS:
        for stage in (*(own[part] for own in stages.values()), detector[part]):
            stage()  # warm-up
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in stages}
        for _ in range(repeats):
            for name, own in stages.items():
                runs[name].append(timed(own[part]))
        whole = summarize([timed(detector[part]) for _ in range(detector_repeats)])
        heads = {name: summarize(own) for name, own in runs.items()}
        for name, own in runs.items():
            turns = zip(own, runs[STOCK], strict=True)
            more = statistics.median(a["processor"] - b["processor"] for a, b in turns)
            heads[name]["extra_of_detector"] = more / whole["processor"]["median"]
            heads[name]["peak_mib"] = peak_growth(stages[name][part])
        report[part] = {"detector": whole, "limit": LIMITS[part], "heads": heads}
    return report


def show(report: dict[str, Any]) -> None:
    """Print the figures as tables."""
    console = Console()
    for part, limit in LIMITS.items():
        found = report[part]
        table = Table(title=f"{part}, processor milliseconds: median (lowest to highest)")
        for column in ("head", "milliseconds", f"extra (limit {limit:.0%} of SECOND)", "peak MiB"):
            table.add_column(column)
        for name, row in found["heads"].items():
            ms = {key: 1e3 * value for key, value in row["processor"].items()}
            table.add_row(
                name,
                f"{ms['median']:.0f} ({ms['lowest']:.0f} to {ms['highest']:.0f})",
                f"{row['extra_of_detector']:+.2%}",
                f"{row['peak_mib']:.0f}",
            )
        console.print(table)
        console.print(f"whole SECOND: {found['detector']['processor']['median']:.2f} s")


def main() -> None:
    """Parse the command line, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--detector-repeats", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    torch.manual_seed(0)
    load_before = os.getloadavg()[0]
    found = measure(args.repeats, args.detector_repeats)
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_average": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        **found,
    }
    show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
