"""Measure what refinement costs beside the stock SECOND, and beside the published loop.

python tools/benchmarks/refinement.py --boxes 50 --repeats 9 --json refinement.json

One process, one map: the stages take turns, so that a change of the machine's load meets them all.
The detector is the host's full-size SECOND with random weights on a simulated frame of a 64-beam
sensor; its time is that of the model alone, without voxelization and data loading. Refinement is
everything the head does: projection, crops, evaluations, gradients. Ascent, quasi-Newton steps and
Laplace's approximation are also measured alone, on the bound energy of the default preset.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import facts, parser_of, print_table, ratio, shown, spread, take_turns, write_json
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine import Config
from mmengine.registry import init_default_scope
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
    streets = []
    for frame in map(simulate_frame, range(10)):
        cars = frame.boxes[(frame.names == "Car") & (frame.num_points > 0)]
        echoes = int(points_in_boxes(frame.points, cars).sum())
        streets.append((echoes, frame.points, cars))
    _, points, cars = max(streets, key=lambda street: street[0])
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
    ours, network = head.network, paper2020.Network(bev.shape[1])
    first = ours.first.weight.detach().clone()
    grid = first[:, :-32].view(len(first), bev.shape[1], 4, 7)
    first[:, :-32] = grid.flip(3).flatten(1)  # the paper's length runs against the heading
    layers = {"z1": ours.z_branch[0], "z2": ours.z_branch[2], "fc2": ours.second, "fc3": ours.last}
    layers |= {"h1": ours.height_branch[0], "h2": ours.height_branch[2]}
    weights = {"fc1.weight": first, "fc1.bias": ours.first.bias}
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
        bev = default.extract_feat(batch["inputs"]).maps[0]
    labels, scores = torch.zeros(count, dtype=torch.int64), torch.linspace(1, 0.1, count)
    heads = default.bbox_head.refinement_head, paper.bbox_head.refinement_head
    torch.nn.init.normal_(heads[1].network.last.weight, std=0.1)
    network, paper_map = transcribe(heads[1], bev)
    paper_boxes = paper2020.to_paper(boxes)

    def detect() -> Any:
        with torch.no_grad():
            maps = default.extract_feat(batch["inputs"]).maps
            return default.bbox_head.dense_head.predict(maps, batch["data_samples"])

    def refine(head: Any) -> Any:
        return head.refine(bev, [points], [boxes], [labels], [scores])[0]

    stages: Stages = {
        **curvature_stages(heads[0], bev, points, boxes, labels),
        "SECOND": detect,
        "default": lambda: refine(heads[0]),
        "paper2020": lambda: refine(heads[1]),
        CLEAN: lambda: paper2020.refine(network, paper_map, paper_boxes, clean=True),
        PUBLISHED: lambda: paper2020.refine(network, paper_map, paper_boxes),
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
        energy = head.make_energy(bev, [points], [boxes], [labels])
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


def summarize(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Return medians and ranges of one kind of seconds, and the ratios that have a limit."""
    rows = {name: spread(times) for name, times in seconds.items()}
    paper = rows["paper2020"]["median"]
    return {
        "seconds": rows,
        "share_of_second": ratio(seconds["default"], seconds["SECOND"]),
        "laplace_of_ascent": ratio(seconds[LAPLACE], seconds[ASCENT]),
        "speed_up": {n: rows[n]["median"] / paper for n in (CLEAN, PUBLISHED) if n in rows},
    }


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, boxes=50, repeats=9, published_repeats=3)
    parser.add_argument("--threads", type=int, help="of torch; its own choice if left out")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    stages, case = make_stages(args.boxes)
    published = {PUBLISHED: stages.pop(PUBLISHED)}  # slow: a few calls, none to warm up
    seconds = take_turns(stages, args.repeats, warm_up=2)
    if args.published_repeats:
        slow = take_turns(published, args.published_repeats, warm_up=0)
        seconds = {kind: {**seconds[kind], **slow[kind]} for kind in seconds}
    report = {kind: summarize(times) for kind, times in seconds.items()}
    rows = [
        (name, *(shown(report[kind]["seconds"][name], 1e3, 1) for kind in report))
        for name in seconds["clock"]
    ]
    print_table("median (lowest to highest), milliseconds", ("stage", *report), rows)
    limits = [
        ("default preset, share of SECOND", "share_of_second", SHARE_LIMIT),
        (f"Laplace, of {ASCENT}", "laplace_of_ascent", LAPLACE_LIMIT),
    ]
    rows = [(t, *(f"{report[k][key]:.3f}" for k in report), f"<= {x}") for t, key, x in limits]
    for name in report["clock"]["speed_up"]:
        ratios = (f"{report[kind]['speed_up'][name]:.1f}" for kind in report)
        rows.append((f"{name}, of paper2020", *ratios, f">= {SPEED_UP_LIMIT}"))
    print_table("ratios", ("", *report, "aim"), rows)
    write_json(args.json, {**facts(), **case, **report})


if __name__ == "__main__":
    main()
