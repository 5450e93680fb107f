"""NLL and ECE of the density exp f / Z itself, normalized by importance samples (M-20).

python tools/benchmarks/energy_nll.py CONFIG CHECKPOINT [--calibration-root DATA] [--json FILE]
    [--samples 512] [--cfg-options KEY=VALUE ...]

Pairs are the detected boxes of the test split and the true boxes that they overlap from above by
0.5 and more, in the order of scores; a density is that around the refined box, at the true box with
its heading flipped to the nearer side. Nats over meters and radians; ECE is the mean of the seven
dimensions in the axes of the box. With ``--calibration-root``, a data set like the config's, one
temperature is fitted on its validation split, and figures with it are printed too.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
import torch
from _report import parser_of, print_table, write_json
from mmengine import DictAction
from scipy.optimize import minimize_scalar
from torch import Tensor

from ebm3d.adapters.inference import FrameInference, InferredFrame
from ebm3d.boxes.iou import iou_bev
from ebm3d.energy import ImportanceSamples, sample_posterior
from ebm3d.evaluation.calibration import LEVELS

MIN_IOU = 0.5


def match(inferred: InferredFrame) -> list[tuple[int, int]]:
    """Rows of detected and true boxes that belong together."""
    frame, pairs = inferred.frame, []
    overlap = iou_bev(frame.initial.astype(np.float64), frame.ground_truth.astype(np.float64))
    for row in np.argsort(-frame.scores, kind="stable") if overlap.size else ():
        best = int(overlap[row].argmax())
        if overlap[row, best] >= MIN_IOU:
            pairs.append((int(row), best))
            overlap[:, best] = 0
    return pairs


class Pairs:
    """Weighted samples of each pair's density, and the true boxes with their f."""

    def __init__(self, inference: FrameInference, num_samples: int) -> None:
        self.posteriors: list[ImportanceSamples] = []
        self.f: list[Tensor] = []
        self.truths: list[Tensor] = []
        noise = inference.model.bbox_head.refinement_head.noise.base
        for frame_id in inference.frame_ids():
            inferred = inference(frame_id)
            if inferred.energy is None:
                raise SystemExit("The config must be of an energy-based refinement head.")
            for row, true in match(inferred):
                box = torch.as_tensor(inferred.frame.refined[row : row + 1])
                truth = torch.as_tensor(inferred.frame.ground_truth[true : true + 1]).to(box)
                turns = torch.round((truth[:, 6] - box[:, 6]) / math.pi)
                truth[:, 6] -= turns * math.pi
                self.add(inferred.energy(row), box, truth, noise, num_samples)

    def add(self, f: Any, box: Tensor, truth: Tensor, noise: Any, num_samples: int) -> None:
        """Sample the density around a box ``(1, 7)``; classes share the noise of the first."""
        label, generator = torch.zeros(1, dtype=torch.int64), torch.Generator().manual_seed(0)
        with torch.no_grad():
            posterior = sample_posterior(
                lambda boxes: f(boxes[0])[None], box, label, noise, num_samples, generator=generator
            )
            self.f.append(f(truth).double())
        self.posteriors.append(posterior)
        self.truths.append(truth.double())

    def nll(self, temperature: float = 1.0) -> float:
        """Mean negative log density of the true boxes, nats."""
        pairs = zip(self.posteriors, self.f, strict=True)
        values = [-posterior.tempered(temperature).log_prob(f) for posterior, f in pairs]
        return float(torch.cat(values).mean())

    def ece(self, temperature: float = 1.0) -> float:
        """Mean absolute difference of claimed and observed shares, over the dimensions."""
        shares = []
        for posterior, truth in zip(self.posteriors, self.truths, strict=True):
            residual = posterior.coding.encode(truth[:, None])
            below = (posterior.residuals <= residual).double()
            shares.append((posterior.tempered(temperature).weights[..., None] * below).sum(1))
        pit = torch.cat(shares).numpy()
        observed = (pit[:, :, None] <= LEVELS).mean(axis=0)
        return float(np.abs(observed - LEVELS).mean())


def main() -> None:
    """Evaluate, fit, print, write."""
    parser = parser_of(__doc__, samples=512)
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--calibration-root", metavar="DATA")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE")
    args: argparse.Namespace = parser.parse_args()
    options = dict(args.cfg_options or {})

    def pairs_of(options: dict[str, Any]) -> Pairs:
        return Pairs(
            FrameInference(args.config, args.checkpoint, cfg_options=options), args.samples
        )

    pairs = pairs_of(options)
    report = {"raw": {"temperature": 1.0, "nll": pairs.nll(), "ece": pairs.ece()}}
    if args.calibration_root is not None:
        calibration = pairs_of({**options, "data_root": args.calibration_root})
        fit = minimize_scalar(lambda s: calibration.nll(math.exp(s)), bounds=(-3, 3))
        tau = math.exp(fit.x)
        report["scaled"] = {"temperature": tau, "nll": pairs.nll(tau), "ece": pairs.ece(tau)}
    print_table(
        f"{len(pairs.f)} pairs",
        ("density", "temperature", "NLL, nats", "ECE"),
        [(name, *(f"{value:.3f}" for value in row.values())) for name, row in report.items()],
    )
    write_json(args.json, {"pairs": len(pairs.f), **report})


if __name__ == "__main__":
    main()
