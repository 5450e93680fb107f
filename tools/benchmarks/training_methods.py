"""What a step of each training method costs beside noise contrastive estimation.

python tools/benchmarks/training_methods.py --boxes 20 --repeats 9 --json training_methods.json

A step is what the EBM head does with one frame: projecting the map, cropping points, drawing
samples, the loss, and the gradients of the parameters. The head is that of the simulated set, with
both pools and random weights, on a map of as many channels as the stock SECOND's. One thread, one
process; the methods take turns. Seconds of the processor: other processes do not count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from _report import facts, parser_of, print_table, ratio, shown, spread, take_turns, write_json
from mmdet3d.registry import MODELS
from mmengine import Config

import ebm3d.register  # noqa: F401
from ebm3d import config_path
from ebm3d.simulation import simulate_frame

M, BASELINE, PROPOSAL = {"num_noise_samples": 128}, "NCE", "NCE, learned proposal"
METHODS: dict[str, dict[str, Any]] = {
    BASELINE: {"type": "NCELoss", **M},
    "NCE+": {"type": "NCEPlusLoss", **M},
    "ML-IS": {"type": "MLISLoss", **M},
    "KLD-IS": {"type": "KLDISLoss", **M},
    "SNL": {"type": "SNLLoss", **M},
    "conditional NCE": {"type": "ConditionalNCELoss", **M},
    PROPOSAL: {"type": "NCELoss", **M},
    "ML-MCMC, 16 steps of 8 chains": {"type": "MLMCMCLoss", "num_steps": 16, "num_chains": 8},
    "score matching, exact": {"type": "ScoreMatchingLoss", "kind": "exact"},
    "score matching, 1 slice": {"type": "ScoreMatchingLoss", "kind": "sliced"},
    "DSM, 32 samples": {"type": "DSMLoss", "num_noise_samples": 32},
    "confidence": {"type": "ConfidenceLoss", **M},
}


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


def main() -> None:
    """Measure, print, write."""
    args = parser_of(__doc__, boxes=20, channels=512, cells=50, repeats=9).parse_args()
    torch.set_num_threads(1)
    cfg = Config.fromfile(config_path("ebm_second_simulated_cpu.py")).model.bbox_head
    config = {**cfg.refinement_head, "in_channels": args.channels}
    street = simulate_frame(0)
    low, high = np.split(np.array(config["point_cloud_range"])[[0, 1, 3, 4]], 2)
    inside = ((street.boxes[:, :2] > low) & (street.boxes[:, :2] < high)).all(axis=1)
    cars = street.boxes[(street.names == "Car") & (street.num_points > 0) & inside]
    boxes = torch.from_numpy(np.resize(cars, (args.boxes, 7))).float()
    labels = torch.zeros(args.boxes, dtype=torch.int64)
    points = torch.from_numpy(street.points)
    bev = torch.relu(torch.randn(1, args.channels, args.cells, args.cells))

    def step(head: Any) -> None:
        head.zero_grad(set_to_none=True)
        losses = head.loss(bev, [points], [boxes], [labels])
        torch.stack([v for name, v in losses.items() if name.startswith("loss")]).sum().backward()

    stages = {name: lambda head=head: step(head) for name, head in build_heads(config).items()}
    seconds = take_turns(stages, args.repeats)["processor"]
    rows = {
        name: {**spread(times), "of_nce": ratio(times, seconds[BASELINE])}
        for name, times in seconds.items()
    }
    print_table(
        "a step: median (lowest to highest), milliseconds of the processor",
        ("method", "step", f"of {BASELINE}"),
        [(name, shown(row, 1e3), f"{row['of_nce']:.2f}") for name, row in rows.items()],
    )
    head = {"map": list(bev.shape), "boxes": args.boxes, "cars": len(cars), "points": len(points)}
    write_json(args.json, {**facts(), **head, "seconds": rows})


if __name__ == "__main__":
    main()
