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

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from _report import parser_of, print_table, write_json
from mmengine import DictAction
from scipy.optimize import minimize_scalar
from torch import Tensor

from ebm3d.adapters.inference import FrameInference
from ebm3d.boxes.iou import iou_bev
from ebm3d.energy import ImportanceSamples, sample_posterior
from ebm3d.evaluation.calibration import LEVELS
from ebm3d.noise import BoxNoise
from ebm3d.visualization import RefinedFrame

MIN_IOU = 0.5


def match(frame: RefinedFrame) -> list[tuple[int, int]]:
    """Rows of detected and true boxes that belong together."""
    pairs = []
    overlap = iou_bev(frame.initial.astype(np.float64), frame.ground_truth.astype(np.float64))
    for row in np.argsort(-frame.scores, kind="stable") if overlap.size else ():
        best = int(overlap[row].argmax())
        if overlap[row, best] >= MIN_IOU:
            pairs.append((int(row), best))
            overlap[:, best] = 0
    return pairs


@dataclass
class Pairs:
    """Weighted samples of each density, and the true boxes ``(1, 7)`` with their f ``(1,)``."""

    posteriors: list[ImportanceSamples] = field(default_factory=list)
    truths: list[Tensor] = field(default_factory=list)
    f: list[Tensor] = field(default_factory=list)

    @torch.no_grad()
    def add(self, f: Any, box: Tensor, truth: Tensor, noise: BoxNoise, num_samples: int) -> None:
        """Sample the density around a box ``(1, 7)``; classes share the noise of the first."""
        turns = torch.round((truth[:, 6] - box[:, 6]) / math.pi)
        truth = torch.cat((truth[:, :6], truth[:, 6:] - turns[:, None] * math.pi), dim=1)
        label, generator = torch.zeros(1, dtype=torch.int64), torch.Generator().manual_seed(0)

        def scorer(boxes: Tensor) -> Tensor:
            return f(boxes[0])[None]

        self.posteriors.append(
            sample_posterior(scorer, box, label, noise, num_samples, generator=generator)
        )
        self.truths.append(truth.double())
        self.f.append(f(truth).double())

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


def sample_pairs(inference: FrameInference, num_samples: int) -> Pairs:
    """Run a model over its test split."""
    pairs, noise = Pairs(), inference.model.bbox_head.refinement_head.noise.base
    for frame_id in inference.frame_ids():
        inferred = inference(frame_id)
        frame, energy = inferred.frame, inferred.energy
        if energy is None:
            raise SystemExit("The config must be of an energy-based refinement head.")
        for row, true in match(frame):
            box, truth = torch.as_tensor(np.stack((frame.refined[row], frame.ground_truth[true])))
            pairs.add(energy(row), box[None], truth[None], noise, num_samples)
    if not pairs.f:
        raise SystemExit(f"No box of the test split overlaps a true one by {MIN_IOU}.")
    return pairs


def main() -> None:
    """Evaluate, fit, print, write."""
    parser = parser_of(__doc__, samples=512)
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--calibration-root", metavar="DATA")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE")
    args = parser.parse_args()
    options = dict(args.cfg_options or {})

    def pairs_of(options: dict[str, Any]) -> Pairs:
        inference = FrameInference(args.config, args.checkpoint, cfg_options=options)
        return sample_pairs(inference, args.samples)

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
