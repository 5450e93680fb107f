"""mmcv's operators by ebm3d: milliseconds a call, beside the compiled ones where they are.

python tools/benchmarks/operators.py [--python PYTHON] [--rounds N] [--json FILE]

Inputs have the sizes of SECOND, PointPillars and CenterPoint. Each round starts two processes of
the same Python, one after the other: one puts ebm3d's operators in the place of ``mmcv._ext``, one
takes the compiled module, if PYTHON has it. Both call the functions of ``mmcv.ops``; a process
calls each once to warm up and reports the medians of wall time and of the processor's time, summed
over the threads, which holds on a busy machine too. The table shows medians of the rounds. Rows
without a compiled figure have no twin on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from _report import facts, parser_of, print_table, shown, spread, take_turns, write_json
from torch import Tensor

COLUMNS = ("ebm3d, ms", "compiled, ms", "ratio", "ratio of processor time")
KITTI_VOXELS = ([0.05, 0.05, 0.1], [0, -40, -3, 70.4, 40, 1])
KITTI_PILLARS = ([0.16, 0.16, 4], [0, -39.68, -3, 69.12, 39.68, 1])
NUSCENES_VOXELS = ([0.1, 0.1, 0.2], [-51.2, -51.2, -5, 51.2, 51.2, 3])
NUSCENES_PILLARS = ([0.2, 0.2, 8], [-51.2, -51.2, -5, 51.2, 51.2, 3])


def use_operators_of_ebm3d() -> None:
    """Put them where mmcv looks for its extension, compiled or not."""
    from ebm3d.adapters.operators import OperatorsLoader

    module = ModuleType("mmcv._ext")
    module.__spec__ = ModuleSpec("mmcv._ext", OperatorsLoader())
    OperatorsLoader().exec_module(module)
    sys.modules["mmcv._ext"] = module


def kitti_cloud() -> Tensor:
    """A simulated frame in the camera's view, (P, 4)."""
    from ebm3d.simulation import simulate_frame

    return torch.from_numpy(np.ascontiguousarray(simulate_frame(0).points[:, :4]))


def nuscenes_cloud() -> Tensor:
    """A full turn, twice as dense by a second one beside it, (P, 5)."""
    from ebm3d.simulation import simulate_frame

    points = torch.from_numpy(simulate_frame(0, field_of_view="full").points[:, :4])
    generator = torch.Generator().manual_seed(0)
    points = torch.cat([points, points + 0.1 * torch.randn(points.shape, generator=generator)])
    return torch.nn.functional.pad(points, (0, 1)).contiguous()


def detections(num: int, num_objects: int) -> tuple[Tensor, Tensor]:
    """Boxes (x, y, w, h, angle) as a dense head proposes them, and scores."""
    rng = np.random.default_rng(0)
    objects = rng.uniform([0, -40, 3.5, 1.5, -3], [70, 40, 4.5, 2, 3], (num_objects, 5))
    boxes = objects[rng.integers(0, num_objects, num)] + rng.normal(0, 0.2, (num, 5))
    boxes[:, 2:4] = np.abs(boxes[:, 2:4])
    return torch.from_numpy(boxes).float(), torch.from_numpy(rng.uniform(size=num)).float()


def cases() -> dict[str, Callable[[], Any]]:
    """Calls of ``mmcv.ops`` by name."""
    from mmcv import ops

    kitti, nuscenes = kitti_cloud(), nuscenes_cloud()
    calls: dict[str, Callable[[], Any]] = {}
    for model, cloud, grid, max_points, max_voxels in (
        ("SECOND", kitti, KITTI_VOXELS, 5, 40_000),
        ("PointPillars", kitti, KITTI_PILLARS, 32, 40_000),
        ("CenterPoint, voxels", nuscenes, NUSCENES_VOXELS, 10, 120_000),
        ("CenterPoint, pillars", nuscenes, NUSCENES_PILLARS, 20, 40_000),
    ):
        name = f"hard voxels, {model}, {len(cloud):,} points"
        calls[name] = lambda c=cloud, g=grid, t=max_points, v=max_voxels: ops.voxelization(
            c, *g, t, v
        )
    for model, cloud, grid in (
        ("PointPillars", kitti, KITTI_PILLARS),
        ("CenterPoint", nuscenes, NUSCENES_PILLARS),
    ):
        name = f"dynamic voxels, {model}, {len(cloud):,} points"
        calls[name] = lambda c=cloud, g=grid: ops.voxelization(c, *g, -1, -1)
    for model, num, num_objects, threshold in (
        ("SECOND and PointPillars", 100, 20, 0.01),
        ("CenterPoint", 1000, 80, 0.2),
        ("first stage", 4096, 200, 0.7),
    ):
        boxes, scores = detections(num, num_objects)
        calls[f"rotated NMS, {model}, {num} boxes"] = lambda b=boxes, s=scores, t=threshold: (
            ops.nms_rotated(b, s, t)
        )
    boxes, scores = detections(1000, 80)
    flat = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], dim=1)
    calls["NMS, 1000 boxes"] = lambda: ops.nms(flat, scores, 0.2)
    calls["rotated IoU, 500 x 50 boxes"] = lambda: ops.box_iou_rotated(boxes[:500], boxes[:50])
    upright = torch.cat([boxes[:, :2], torch.full((1000, 1), -1.8), boxes[:, 2:4]], dim=1)
    upright = torch.cat([upright, torch.full((1000, 1), 1.6), boxes[:, 4:]], dim=1)[None, :30]
    name = f"points in boxes, {len(kitti):,} points, 30 boxes"
    calls[name] = lambda: ops.points_in_boxes_cpu(kitti[None, :, :3], upright)
    maps, offsets, kernels = (
        torch.randn(shape, requires_grad=True)
        for shape in ((1, 64, 128, 128), (1, 18 * 4, 128, 128), (64, 64, 3, 3))
    )
    calls["deformable convolution, CenterPoint, 64 channels, 128 x 128"] = lambda: (
        ops.deform_conv2d(maps, offsets, kernels, 1, 1, 1, 1, 4)
    )
    calls["the same and its gradient"] = lambda: (
        ops.deform_conv2d(maps, offsets, kernels, 1, 1, 1, 1, 4).sum().backward()
    )
    return calls


def cases_without_a_twin() -> dict[str, Callable[[], Any]]:
    """Calls that a compiled mmcv serves on CUDA alone."""
    from mmcv import ops

    kitti, calls = kitti_cloud(), {}
    cells = ops.voxelization(kitti, *KITTI_PILLARS, -1, -1)
    for kind, channels in (("mean", 4), ("max", 64)):
        feats = torch.randn(len(kitti), channels, requires_grad=True)
        name = f"dynamic scatter and gradient, {kind}, {len(kitti):,} points, {channels} channels"
        calls[name] = lambda f=feats, k=kind: ops.dynamic_scatter(f, cells, k)[0].sum().backward()
    logits, target = torch.randn(70_400, 3, requires_grad=True), torch.randint(0, 4, (70_400,))
    calls["focal loss and gradient, 70,400 x 3"] = lambda: ops.sigmoid_focal_loss(
        logits, target, 2.0, 0.25, None, "mean"
    ).backward()
    return calls


def measure(process: str) -> dict[str, list[float]]:
    """Milliseconds of wall and processor time of each case in this process, medians of nine."""
    torch.manual_seed(0)
    if process == "ebm3d":
        use_operators_of_ebm3d()
    calls = cases() if process == "compiled" else {**cases(), **cases_without_a_twin()}
    times = {name: take_turns({"": call}, 9) for name, call in calls.items()}
    return {
        name: [1e3 * spread(seconds[kind][""])["median"] for kind in ("clock", "processor")]
        for name, seconds in times.items()
    }


def start(python: str, process: str) -> dict[str, list[float]]:
    """Milliseconds of all cases in a new process."""
    command = [python, "-W", "ignore", __file__, "--process", process]
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise SystemExit(f"{process}: {run.stderr[-2000:]}")
    times: dict[str, list[float]] = json.loads(run.stdout.splitlines()[-1])
    return times


def is_compiled(python: str) -> bool:
    """Whether an interpreter has a compiled mmcv."""
    code = "from importlib.util import find_spec; s = find_spec('mmcv._ext'); print(s and s.origin)"
    run = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return run.stdout.strip().endswith((".so", ".pyd"))


def main() -> None:
    """Alternate the processes, print, write."""
    parser = parser_of(__doc__, rounds=5)
    parser.add_argument("--python", default=sys.executable, help="interpreter of both processes")
    parser.add_argument("--process", choices=["ebm3d", "compiled"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.process:
        print(json.dumps(measure(args.process)))
        return
    processes = ["ebm3d", "compiled"] if is_compiled(args.python) else ["ebm3d"]
    rounds = [{p: start(args.python, p) for p in processes} for _ in range(args.rounds)]
    rows, figures = [], {}
    for name in rounds[0]["ebm3d"]:
        times = {
            p: np.array([r[p][name] for r in rounds]) for p in processes if name in rounds[0][p]
        }
        figures[name] = {f"{p}, ms": float(np.median(t[:, 0])) for p, t in times.items()}
        if "compiled" in times:
            wall, processor = (times["compiled"] / times["ebm3d"]).T
            figures[name] |= {"ratio": spread(wall), "ratio of processor time": spread(processor)}
        cells = (figures[name].get(column, "") for column in COLUMNS)
        rows.append((name, *(f"{c:.2f}" if isinstance(c, float) else _shown(c) for c in cells)))
    print_table("mmcv's operators", ("operator", *COLUMNS), rows)
    write_json(args.json, {**facts(), "operators": figures})


def _shown(cell: Any) -> str:
    """Median and range of a ratio, or nothing."""
    return shown(cell, digits=1) if cell else ""


if __name__ == "__main__":
    main()
