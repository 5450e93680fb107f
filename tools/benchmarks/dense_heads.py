"""What densities of boxes cost in the dense head of the stock SECOND.

python tools/benchmarks/dense_heads.py --repeats 7 --json dense_heads.json

Dense heads of ``configs/_base_/heads`` and the host's take turns on one map of full size, in one
process: a training step (targets, losses, backward to the map) and an inference (scores, densities,
NMS). What they take more than the host's head is set against a training step and an inference of
the whole stock detector on the frame. Scores are set to 0.5, so that 100 candidates go to NMS and
densities are computed for as many boxes as can be. Seconds of the processor. For Linux.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _report import facts, parser_of, print_table, shown, spread, take_turns, write_json
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

import ebm3d.register  # noqa: F401
from ebm3d.adapters.engine import load_settings
from ebm3d.simulation import simulate_frame

REGRESSIONS = ("direct", "gaussian", "laplace", "propel", "rlel", "bel", "binned")
STOCK = "stock"
LIMITS = {"training": 0.10, "inference": 0.02}
MAP = (1, 512, 200, 176)
Stages = dict[str, Callable[[], Any]]


def build_detector(head: str | None = None) -> Any:
    """Build the stock SECOND, or that with another dense head, with random weights."""
    init_default_scope("mmdet3d")
    torch.manual_seed(0)
    stage = None if head is None else "dense"
    return MODELS.build(load_settings("second_kitti.py", head=head, stage=stage).model)


def build_heads() -> dict[str, Any]:
    """Return the heads by name, with the same weights where they share some."""
    heads = {STOCK: build_detector().bbox_head}
    heads |= {name: build_detector(name).bbox_head for name in REGRESSIONS}
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
    boxes = LiDARInstance3DBoxes(cars)
    sample.gt_instances_3d = InstanceData(
        bboxes_3d=boxes, labels_3d=torch.zeros(len(cars), dtype=torch.int64)
    )
    return torch.from_numpy(frame.points), [sample]


def total_of(losses: dict[str, Any]) -> Tensor:
    """Return the sum of losses, which may come as lists."""
    listed = [value if isinstance(value, list) else [value] for value in losses.values()]
    return torch.stack([part.sum() for parts in listed for part in parts]).sum()


def head_stages(head: Any, bev: Tensor, samples: list[Any]) -> Stages:
    """Return a training step and an inference of a head on the map."""

    def train() -> None:
        head.zero_grad(set_to_none=True)
        bev.grad = None
        total_of(head.train().loss([bev], samples)).backward()

    return {
        "training": train,
        "inference": torch.no_grad()(lambda: head.eval().predict([bev], samples)),
    }


def detector_stages() -> Stages:
    """Return a training step and an inference of the whole stock detector from voxels on."""
    detector = build_detector()
    points, samples = draw_frame()
    batch = {"inputs": {"points": [points]}, "data_samples": samples}
    data = detector.data_preprocessor(batch)

    def train() -> None:
        detector.zero_grad(set_to_none=True)
        total_of(detector.train()(**data, mode="loss")).backward()

    return {
        "training": train,
        "inference": torch.no_grad()(lambda: detector.eval()(**data, mode="predict")),
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


def main() -> None:
    """Measure, print, write."""
    args = parser_of(__doc__, repeats=7, detector_repeats=2).parse_args()
    torch.manual_seed(0)
    bev = torch.relu(torch.randn(MAP)).requires_grad_()
    _, samples = draw_frame()
    heads = {name: head_stages(head, bev, samples) for name, head in build_heads().items()}
    detector = detector_stages()
    report = {**facts(), "map": list(MAP), "cars": len(samples[0].gt_instances_3d.labels_3d)}
    for part, limit in LIMITS.items():
        stages = {name: head[part] for name, head in heads.items()}
        seconds = take_turns(stages, args.repeats)["processor"]
        whole = take_turns({"all": detector[part]}, args.detector_repeats)["processor"]["all"]
        rows = {}
        for name, times in seconds.items():
            extra = statistics.median(a - b for a, b in zip(times, seconds[STOCK], strict=True))
            extra /= statistics.median(whole)
            row = {"processor": spread(times), "extra_of_detector": extra}
            rows[name] = {**row, "peak_mib": peak_growth(stages[name])}
        report[part] = {"detector": spread(whole), "limit": limit, "heads": rows}
        print_table(
            f"{part}: SECOND {statistics.median(whole):.2f} s of the processor",
            ("head", "milliseconds", f"extra (limit {limit:.0%} of SECOND)", "peak MiB"),
            [
                (
                    name,
                    shown(row["processor"], 1e3),
                    f"{row['extra_of_detector']:+.2%}",
                    f"{row['peak_mib']:.0f}",
                )
                for name, row in rows.items()
            ],
        )
    write_json(args.json, report)


if __name__ == "__main__":
    main()
