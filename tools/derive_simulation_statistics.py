"""Derive the numbers that the simulator draws its scenes from, out of official KITTI labels.

The numbers (means, covariances, quantiles, shares; no label and no frame) are written as JSON to
``plugin/ebm3d/simulation/statistics.json``, which is what the package ships. A second command
draws a simulated data set beside real data:

    python tools/derive_simulation_statistics.py numbers LABELS.tar.gz
    python tools/derive_simulation_statistics.py figure LABELS.tar.gz --real KITTI --simulated SIM
"""

from __future__ import annotations

import argparse
import json
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console

from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.datasets import boxes_from_camera, read_calibration, read_cloud, read_labels
from ebm3d.datasets.kitti_difficulty import difficulty
from ebm3d.datasets.kitti_frames import KittiFrames, read_frames
from ebm3d.simulation.statistics import CLASSES

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "plugin" / "ebm3d" / "simulation" / "statistics.json"
FIGURE = ROOT / "docs" / "figures" / "simulated_vs_real.png"
COLORS = {"KITTI": "#444444", "simulated": "#d95f02"}
FLOWS = {"with": -np.pi / 2, "against": np.pi / 2}
FLOW_WIDTH = np.pi / 8  # rad; a heading within this of the road axis follows the road
QUANTILES = np.linspace(0.02, 0.98, 25)
MAX_FORWARD = 70.0  # m; beyond it labels are patchy
EDGES = np.array([5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60])  # m, of points per car
HISTOGRAMS = {
    "length": ("length of cars (m)", np.arange(2.5, 5.6, 0.1)),
    "width": ("width of cars (m)", np.arange(1.3, 2.05, 0.025)),
    "height": ("height of cars (m)", np.arange(1.1, 2.2, 0.04)),
    "per_frame": ("cars per frame", np.arange(-0.5, 16)),
    "forward": ("distance ahead of cars (m)", np.arange(0, 82, 4)),
}
SHARES = {
    "difficulty": ("share of cars by difficulty", ("easy", "moderate", "hard", "none")),
    "occlusion": ("share of cars by occlusion", ("visible", "partly", "largely", "unknown")),
}


def read_folder(training: Path) -> KittiFrames:
    """Read all labels of a folder with ``label_2``."""
    ids = sorted(path.stem for path in (training / "label_2").glob("*.txt"))
    return read_frames(training / "label_2", ids, scores=False)


def derive(archive: Path) -> dict[str, Any]:
    """Return all numbers of ``statistics.json``, from a tar file with ``label_2`` and ``calib``."""
    with TemporaryDirectory() as name, tarfile.open(archive) as tar:
        tar.extractall(name, filter="data")
        frames = read_folder(Path(name))
        cameras = []
        for frame_id in frames.frame_ids:
            calibration = read_calibration(Path(name, "calib", f"{frame_id}.txt"))
            p2, velo = calibration.P2, calibration.Tr_velo_to_cam
            position = -velo[:, :3].T @ velo[:, 3]
            cameras.append([p2[0, 0], p2[0, 2], p2[1, 2], p2[0, 3], *position])
    keys = ("focal", "center_u", "center_v", "p2_offset", "x", "y", "z")
    camera = np.median(cameras, axis=0).round(4).tolist()
    return {
        "num_frames": len(frames),
        "quantile_levels": QUANTILES.round(4).tolist(),
        "camera": dict(zip(keys, camera, strict=True)),
        "classes": {name: class_statistics(frames, name) for name in CLASSES},
    }


def class_statistics(frames: KittiFrames, name: str) -> dict[str, Any]:
    """Return counts, sizes and poses of one class; sizes are ordered length, width, height."""
    objects = frames.objects.select(frames.objects.names == name)
    log_size = np.log(objects.dimensions[:, ::-1])
    lateral, forward = -objects.location[:, 0], objects.location[:, 2]
    near = forward < MAX_FORWARD
    count_shares = np.bincount(count_per_frame(frames, name)) / len(frames)
    flows: dict[str, Any] = {}
    rest = near.copy()
    for flow, axis in FLOWS.items():
        difference = np.mod(objects.rotation_y - axis + np.pi, 2 * np.pi) - np.pi
        chosen = near & (np.abs(difference) < FLOW_WIDTH)
        rest &= ~chosen
        flows[flow] = {
            "share": round(float(chosen.sum() / near.sum()), 4),
            "lateral_quantiles": quantiles(lateral[chosen]),
            "heading_std": round(float(difference[chosen].std()), 4),
        }
    flows["other"] = {
        "share": round(float(rest.sum() / near.sum()), 4),
        "lateral_quantiles": quantiles(lateral[rest]),
    }
    return {
        "count_shares": count_shares.round(5).tolist(),
        "log_size_mean": log_size.mean(0).round(4).tolist(),
        "log_size_covariance": np.cov(log_size.T).round(6).tolist(),
        "size_minimum": np.exp(log_size).min(0).round(2).tolist(),
        "size_maximum": np.exp(log_size).max(0).round(2).tolist(),
        "forward_quantiles": quantiles(forward[near]),
        "flows": flows,
    }


def count_per_frame(frames: KittiFrames, name: str) -> np.ndarray:
    """Return the number of objects of a class in every frame."""
    return np.bincount(frames.frame_of_object[frames.objects.names == name], minlength=len(frames))


def quantiles(values: np.ndarray) -> list[float]:
    """Return ``values`` at the levels ``QUANTILES``, rounded to a millimeter."""
    return np.quantile(values, QUANTILES).round(3).tolist()


def car_summary(frames: KittiFrames) -> dict[str, np.ndarray]:
    """Return sizes, distances and levels of all cars, and the number of cars of every frame."""
    cars = frames.objects.select(frames.objects.names == "Car")
    levels = difficulty(cars)
    return {
        "length": cars.dimensions[:, 2],
        "width": cars.dimensions[:, 1],
        "height": cars.dimensions[:, 0],
        "forward": cars.location[:, 2],
        "per_frame": count_per_frame(frames, "Car"),
        "difficulty": np.array([np.mean(levels == level) for level in (0, 1, 2, -1)]),
        "occlusion": np.array([np.mean(cars.occluded == level) for level in range(4)]),
    }


def points_per_car(training: Path) -> np.ndarray:
    """Return distance (m) and number of points in the box of every unoccluded car, ``(N, 2)``."""
    rows = []
    for path in sorted((training / "label_2").glob("*.txt")):
        cars = read_labels(path)
        seen = (cars.names == "Car") & (cars.occluded == 0) & (cars.truncated < 0.1)
        cars = cars.select(seen)
        calibration = read_calibration(training / "calib" / path.name)
        boxes = boxes_from_camera(cars.location, cars.dimensions, cars.rotation_y, calibration)
        points = read_cloud(training / "velodyne_reduced" / f"{path.stem}.bin")
        num_points = points_in_boxes(points, boxes.astype(np.float32)).sum(axis=0)
        rows.append(np.column_stack([np.hypot(*boxes[:, :2].T), num_points]))
    return np.concatenate(rows)


def draw_figure(archive: Path, real: Path, simulated: Path, out: Path) -> dict[str, Any]:
    """Draw simulated against real data, and return the numbers behind the figure.

    Sizes, counts and difficulties are those of the official labels, points those of ``real``.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    with TemporaryDirectory() as name, tarfile.open(archive) as tar:
        tar.extractall(name, filter="data")
        official = read_folder(Path(name))
    training = {"KITTI": real / "training", "simulated": simulated / "training"}
    frames = {"KITTI": official, "simulated": read_folder(training["simulated"])}
    points = {name: points_per_car(folder) for name, folder in training.items()}
    figure, axes = plt.subplots(2, 4, figsize=(15, 6.5), constrained_layout=True)
    report: dict[str, Any] = {"points_per_car": {"edges": EDGES.tolist()}}
    for name, color in COLORS.items():
        summary = car_summary(frames[name])
        report["points_per_car"][name] = _draw_points(axes[0, 0], points[name], name)
        for axis, (key, (title, bins)) in zip(axes.flat[1:6], HISTOGRAMS.items(), strict=True):
            values = np.clip(summary[key], bins[0], bins[-1])
            axis.hist(values, bins, density=True, histtype="step", lw=1.6, label=name, color=color)
            axis.set_title(title)
            moments = [round(float(f(summary[key])), 3) for f in (np.mean, np.std)]
            report.setdefault(key, {})[name] = moments
        for axis, (key, (title, ticks)) in zip(axes.flat[6:], SHARES.items(), strict=True):
            shift = -0.2 if name == "KITTI" else 0.2
            axis.bar(np.arange(4) + shift, summary[key], 0.38, label=name, color=color)
            axis.set_xticks(range(4), ticks)
            axis.set_title(title)
            report.setdefault(key, {})[name] = summary[key].round(3).tolist()
    axes[0, 1].legend(frameon=False)
    figure.savefig(out, dpi=90, metadata={"Software": None})
    return report


def _draw_points(axis: Any, rows: np.ndarray, name: str) -> dict[str, float]:
    """Draw median and 10-90 % band of the points per unoccluded car; return medians per bin."""
    bins = np.digitize(rows[:, 0], EDGES)
    kept = [k for k in range(1, len(EDGES)) if (bins == k).sum() >= 5]
    centers = [(EDGES[k - 1] + EDGES[k]) / 2 for k in kept]
    bands = [np.percentile(rows[bins == k, 1], [10, 50, 90]) for k in kept]
    low, middle, high = np.array(bands).T
    axis.plot(centers, middle, "o-", ms=3, label=name, color=COLORS[name])
    axis.fill_between(centers, low, high, alpha=0.2, lw=0, color=COLORS[name])
    axis.set_yscale("log")
    axis.set_title("points per unoccluded car over distance (m)")
    return dict(zip(map(str, centers), middle.tolist(), strict=True))


def main() -> None:
    """Parse the command line; derive the numbers or draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    numbers = commands.add_parser("numbers", help="write statistics.json")
    figure = commands.add_parser("figure", help="draw simulated against real data")
    for command in (numbers, figure):
        command.add_argument("archive", type=Path, help="tar file with label_2/ and calib/")
    numbers.add_argument("--out", type=Path, default=OUTPUT)
    figure.add_argument("--real", type=Path, required=True, help="KITTI layout with clouds")
    figure.add_argument("--simulated", type=Path, required=True, help="simulated KITTI layout")
    figure.add_argument("--out", type=Path, default=FIGURE)
    args = parser.parse_args()
    if args.command == "numbers":
        args.out.write_text(json.dumps(derive(args.archive), indent=1) + "\n", encoding="utf-8")
    else:
        report = draw_figure(args.archive, args.real, args.simulated, args.out)
        Console(soft_wrap=True).print_json(json.dumps(report))


if __name__ == "__main__":
    main()
