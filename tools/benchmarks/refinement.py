"""Measure what refinement costs beside the stock SECOND, and beside the published loop.

python tools/benchmarks/refinement.py --boxes 50 --repeats 9 --json refinement.json

One process, one map: the stages take turns, so that a change of the machine's load meets them all.
The detector is the host's full-size SECOND with random weights on a simulated frame of a 64-beam
sensor; its time is that of the model alone, without voxelization and data loading. Refinement is
everything the head does: projection, crops, evaluations, gradients. Ascent, quasi-Newton steps and
Laplace's approximation are also measured alone, on the bound energy of the default preset.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table
from torch import Tensor

import ebm3d.register  # noqa: F401
from ebm3d import config_path
from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.noise import BoxNoise
from ebm3d.refiners import GradientAscent, laplace_approximation
from ebm3d.simulation import simulate_frame

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the transcription is a test's
from tests.oracles import paper2020

SHARE_LIMIT, SPEED_UP_LIMIT, LAPLACE_LIMIT = 0.05, 4.0, 1.0
ASCENT, QUASI_NEWTON = "gradient ascent alone", "quasi-Newton ascent alone"
LAPLACE = "Laplace, differences"
CLEAN, PUBLISHED = "transcription, clean", "transcription, published"
Stages = dict[str, Callable[[], Any]]


def draw_boxes(count: int, noise: BoxNoise, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return the points of a crowded street and ``count`` boxes near its cars.

    The street is the one of ten with the most echoes on cars; the boxes are the cars with the
    noise of a detector, each as often as needed.
    """
    crowded, most = None, -1
    for frame_seed in range(10):
        frame = simulate_frame(frame_seed)
        cars = frame.boxes[(frame.names == "Car") & (frame.num_points > 0)]
        echoes = int(points_in_boxes(frame.points, cars).sum())
        if echoes > most:
            crowded, most = (frame.points, cars), echoes
    if crowded is None:
        raise RuntimeError("no street was drawn")
    points, cars = crowded
    true = torch.from_numpy(np.resize(cars, (count, 7))).float()
    generator = torch.Generator().manual_seed(seed)
    drawn = noise.sample(true, torch.zeros(count, dtype=torch.int64), 1, generator)
    return torch.from_numpy(points), drawn.boxes[:, 1]


def build(name: str) -> Any:
    """Build the model of a config with random weights, ready to predict."""
    cfg = Config.fromfile(config_path(name))
    init_default_scope("mmdet3d")
    torch.manual_seed(0)
    return MODELS.build(cfg.model).eval()


def transcribe(head: Any, bev: Tensor) -> tuple[paper2020.Network, paper2020.Map]:
    """Return the transcription with the weights of a head of the preset ``paper2020``."""
    own, network = head.network, paper2020.Network(bev.shape[1])
    first = own.first.weight.detach().clone()
    grid = first[:, :-32].view(len(first), bev.shape[1], 4, 7)
    first[:, :-32] = grid.flip(3).flatten(1)  # the paper's length runs against the heading
    layers = {"z1": own.z_branch[0], "z2": own.z_branch[2], "fc2": own.second, "fc3": own.last}
    layers |= {"h1": own.height_branch[0], "h2": own.height_branch[2]}
    weights = {"fc1.weight": first, "fc1.bias": own.first.bias}
    for name, layer in layers.items():
        weights |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    network.load_state_dict(weights)
    x_min, y_min, _, x_max, _, _ = head.point_cloud_range
    return network, paper2020.Map(bev[0], x_min, y_min, (x_max - x_min) / bev.shape[3])


def make_stages(count: int) -> tuple[Stages, dict[str, Any]]:
    """Return the stages by name, and facts about their input."""
    default, paper = build("ebm_second_kitti.py"), build("ebm_second_kitti_paper2020.py")
    points, boxes = draw_boxes(count, default.bbox_head.refinement_head.noise)
    sample = Det3DDataSample(metainfo={"box_type_3d": LiDARInstance3DBoxes})
    batch = default.data_preprocessor({"inputs": {"points": [points]}, "data_samples": [sample]})
    with torch.no_grad():
        bev = default.extract_feat(batch["inputs"])[0]
    labels, scores = torch.zeros(count, dtype=torch.int64), torch.linspace(1, 0.1, count)
    heads = default.bbox_head.refinement_head, paper.bbox_head.refinement_head
    torch.nn.init.normal_(heads[1].network.last.weight, std=0.1)
    network, paper_map = transcribe(heads[1], bev)
    given = paper2020.to_paper(boxes)

    def detect() -> Any:
        with torch.no_grad():
            features = default.extract_feat(batch["inputs"])
            return default.bbox_head.dense_head.predict(features, batch["data_samples"])

    def refine(head: Any) -> Any:
        return head.refine(bev, [points], [boxes], [labels], [scores])[0]

    stages: Stages = {
        **curvature_stages(heads[0], bev, points, boxes, labels),
        "SECOND": detect,
        "default": lambda: refine(heads[0]),
        "paper2020": lambda: refine(heads[1]),
        CLEAN: lambda: paper2020.refine(network, paper_map, given, clean=True),
        PUBLISHED: lambda: paper2020.refine(network, paper_map, given),
    }
    facts = {
        "map": list(bev.shape),
        "points": len(points),
        "boxes": count,
        "points_per_box": float(points_in_boxes(points.numpy(), boxes.numpy()).sum() / count),
        "difference_to_transcription": _difference(stages),
    }
    return stages, facts


def curvature_stages(
    head: Any, bev: Tensor, points: Tensor, boxes: Tensor, labels: Tensor
) -> Stages:
    """Return what is done with the bound energy of a head, the map's cells already read."""
    with torch.no_grad():
        energy = head.bind(bev, [points], [boxes], [labels])
    quasi_newton, noise_std = head.refiner, head.noise.noise_std(boxes, labels)
    ascent = GradientAscent(quasi_newton.num_steps, quasi_newton.step_size)
    ascent.limits = quasi_newton.limits
    refined = ascent(energy, boxes, labels).boxes
    return {
        ASCENT: lambda: ascent(energy, boxes, labels),
        QUASI_NEWTON: lambda: quasi_newton(energy, boxes, labels),
        LAPLACE: lambda: laplace_approximation(energy, refined, noise_std),
        "Laplace, exact": lambda: laplace_approximation(energy, refined, noise_std, None),
    }


def _difference(stages: Stages) -> float:
    """Largest difference of a box coordinate between the preset and the clean transcription."""
    ours = stages["paper2020"]()["boxes"]
    theirs = paper2020.from_paper(stages[CLEAN]()[0])
    difference = ours - theirs
    difference[:, 6] = torch.remainder(difference[:, 6] + torch.pi, 2 * torch.pi) - torch.pi
    return float(difference.abs().max())


def measure(stages: Stages, repeats: int, published_repeats: int) -> dict[str, dict[str, Any]]:
    """Return seconds of each stage, by the clock and of the processor, taking turns."""
    if not published_repeats:
        stages = {name: stage for name, stage in stages.items() if name != PUBLISHED}
    for name, stage in stages.items():
        if name != PUBLISHED:
            stage()
            stage()
    found: dict[str, dict[str, Any]] = {n: {"clock": [], "processor": []} for n in stages}
    for turn in range(repeats):
        for name, stage in stages.items():
            if name == PUBLISHED and turn >= published_repeats:
                continue
            clock, processor = time.perf_counter(), time.process_time()
            stage()
            found[name]["clock"].append(time.perf_counter() - clock)
            found[name]["processor"].append(time.process_time() - processor)
    return found


def summarize(found: dict[str, dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return medians, ranges and the two ratios of one kind of seconds."""
    rows = {
        name: {
            "median": statistics.median(times[kind]),
            "lowest": min(times[kind]),
            "highest": max(times[kind]),
            "runs": len(times[kind]),
        }
        for name, times in found.items()
    }
    turns = zip(found["default"][kind], found["SECOND"][kind], strict=True)
    paper = rows["paper2020"]["median"]
    return {
        "seconds": rows,
        "laplace_of_ascent": statistics.median(
            own / ascent
            for own, ascent in zip(found[LAPLACE][kind], found[ASCENT][kind], strict=True)
        ),
        "share_of_second": statistics.median(ours / second for ours, second in turns),
        "speed_up": {
            name: rows[name]["median"] / paper for name in (CLEAN, PUBLISHED) if name in rows
        },
    }


def show(report: dict[str, Any]) -> None:
    """Print the figures as a table."""
    console = Console()
    table = Table(title="median (lowest to highest), milliseconds")
    for column in ("stage", "clock", "processor", "runs"):
        table.add_column(column)
    for name, row in report["clock"]["seconds"].items():
        cells = [
            f"{1e3 * r['median']:.1f} ({1e3 * r['lowest']:.1f} to {1e3 * r['highest']:.1f})"
            for r in (row, report["processor"]["seconds"][name])
        ]
        table.add_row(name, *cells, str(row["runs"]))
    console.print(table)
    for kind in ("clock", "processor"):
        part = report[kind]
        console.print(
            f"{kind}: default preset {100 * part['share_of_second']:.1f} % of SECOND "
            f"(limit {100 * SHARE_LIMIT:.0f} %)"
        )
        console.print(
            f"{kind}: Laplace {part['laplace_of_ascent']:.2f} x the time of {ASCENT} "
            f"(limit {LAPLACE_LIMIT:.1f} x)"
        )
        for name, factor in part["speed_up"].items():
            console.print(
                f"{kind}: paper2020 {factor:.1f} x as fast as the {name} "
                f"(aim: {SPEED_UP_LIMIT:.0f} x)"
            )


def main() -> None:
    """Parse the command line, warm up, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boxes", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument(
        "--published-repeats",
        type=int,
        default=3,
        help="of the published loop, slow; 0: not at all",
    )
    parser.add_argument("--threads", type=int, help="of torch; its own choice if left out")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    load_before = os.getloadavg()[0]
    stages, facts = make_stages(args.boxes)
    found = measure(stages, args.repeats, min(args.published_repeats, args.repeats))
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_average": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        **facts,
        "clock": summarize(found, "clock"),
        "processor": summarize(found, "processor"),
    }
    show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
