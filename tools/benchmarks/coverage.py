"""Measure how often outer boxes hold the true ones, and how large they are.

python tools/benchmarks/coverage.py --frames 300

Simulated frames are exchangeable. Cars are "detected" by noise around the true boxes. Trust in the
shipped energy is fitted on the first fifth of the frames; the others are dealt into halves at
random, many times: one calibrates, the other measures.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from rich.console import Console

from ebm3d.boxes.codings import LocalCoding
from ebm3d.boxes.faces import face_excess, face_std
from ebm3d.evaluation.conformal import coverage_interval
from ebm3d.evaluation.coverage import fit_coverage
from ebm3d.evaluation.tables import make_table
from ebm3d.refinement import BoxRefiner, DetectedFrame, fit_trust, load_energy, shipped_energy
from ebm3d.simulation import simulate_frame

COVERAGES = (0.8, 0.9, 0.95)
ONE_BAND = (0.0, np.inf)


def main() -> None:
    """Simulate, refine, calibrate, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=300, help="%(default)s")
    parser.add_argument("--seed", type=int, default=70000, help="of the first frame")
    parser.add_argument("--noise", type=float, default=0.6, help="times that of the training")
    parser.add_argument("--splits", type=int, default=150, help="random halves (%(default)s)")
    options = parser.parse_args()
    energy = load_energy(shipped_energy()).energy
    frames, true = detections(energy.settings.noise_stds[0], options)
    num = len(frames) // 5
    fit = fit_trust(energy, frames[:num], true[:num])
    gain = fit.gains[0]
    refined = list(BoxRefiner(energy, fit.trust)(frames[num:]))
    rows = [frame.moved for frame in refined]
    boxes = np.concatenate([f.boxes[r] for f, r in zip(refined, rows, strict=True)])
    truth = np.concatenate([t[r] for t, r in zip(true[num:], rows, strict=True)])
    index = np.concatenate([np.full(r.sum(), i) for i, r in enumerate(rows)])
    covariance = np.concatenate([f.box_covariance[r] for f, r in zip(refined, rows, strict=True)])
    std = np.concatenate([f.box_std[r] for f, r in zip(refined, rows, strict=True)])
    spreads = {
        "covariance of the posterior": face_std(boxes, covariance),
        "its standard deviations alone": face_std(boxes, std),
        "one margin": np.ones((len(boxes), 6)),
    }
    console = Console(width=max(120, Console().width))
    table = make_table("Coverage by frame, share of splits within the interval, volume (m³)", (
        "spread", *(f"{coverage:.0%}" for coverage in COVERAGES)
    ))  # fmt: skip
    for name, spread in spreads.items():
        cells = []
        for coverage in COVERAGES:
            mean, share, volume = measure(boxes, truth, spread, index, coverage, options.splits)
            cells.append(f"{mean:.3f}, {share:.0%}, {volume:.2f}")
        table.add_row(name, *cells)
    console.print(table, highlight=False)
    console.print(
        f"{len(boxes)} boxes in {len(refined)} frames, mean volume {volumes(boxes).mean():.2f} m³; "
        f"mean IoU {gain.iou[0]:.3f} detected, {gain.iou[1]:.3f} refined"
    )


def detections(
    stds: tuple[float, ...], options: argparse.Namespace
) -> tuple[list[DetectedFrame], list[np.ndarray]]:
    """Simulated cars of five points or more, and boxes off by noise."""
    generator = torch.Generator().manual_seed(0)
    frames, true = [], []
    for seed in range(options.seed, options.seed + options.frames):
        made = simulate_frame(seed)
        boxes = made.boxes[(made.names == "Car") & (made.num_points >= 5)]
        start = torch.from_numpy(boxes).float()
        noise = options.noise * torch.tensor(stds).expand(len(start), 7)
        drawn = torch.randn(start.shape, generator=generator)
        detected = LocalCoding(start, noise).decode(drawn).double().numpy()
        labels = np.zeros(len(boxes), dtype=np.int64)
        frames.append(DetectedFrame(made.points, detected, labels, np.ones(len(boxes))))
        true.append(boxes)
    return frames, true


def measure(
    boxes: np.ndarray,
    truth: np.ndarray,
    spread: np.ndarray,
    index: np.ndarray,
    coverage: float,
    splits: int,
) -> tuple[float, float, float]:
    """Mean coverage by frame, share of the splits within the interval, mean outer volume."""
    generator = np.random.default_rng(0)
    frames = np.unique(index)
    half = len(frames) // 2
    low, high = coverage_interval(half, coverage, len(frames) - half)
    found, sizes = [], []
    for _ in range(splits):
        inside = np.isin(index, generator.permutation(frames)[:half])
        names = ["Car"] * len(boxes)
        table = fit_coverage(
            boxes[inside], truth[inside], spread[inside], names[: inside.sum()],
            index[inside].tolist(), borders=ONE_BAND,
        )  # fmt: skip
        others = ~inside
        outer = table.outer(boxes[others], spread[others], names[: others.sum()], coverage)
        held = face_excess(outer, truth[others][:, None])[:, 0].max(axis=1) <= 1e-9
        by_frame = np.bincount(index[others], held) / np.maximum(np.bincount(index[others]), 1)
        found.append(by_frame[np.unique(index[others])].mean())
        sizes.append(volumes(outer).mean())
    within = np.mean([low <= share <= high for share in found])
    return float(np.mean(found)), float(within), float(np.mean(sizes))


def volumes(boxes: np.ndarray) -> np.ndarray:
    """Products of the sizes."""
    return np.prod(boxes[:, 3:6], axis=1)


if __name__ == "__main__":
    main()
