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
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ebm3d.datasets import KittiObjects, boxes_from_camera, read_calibration, read_labels
from ebm3d.datasets.kitti_difficulty import difficulty

CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Cyclist")
ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "plugin" / "ebm3d" / "simulation" / "statistics.json"
FIGURE = ROOT / "docs" / "figures" / "simulated_vs_real.png"
COLORS = {"KITTI": "#444444", "simulated": "#d95f02"}
TITLES = {
    "length": "length of cars (m)",
    "width": "width of cars (m)",
    "height": "height of cars (m)",
    "per_frame": "cars per frame",
    "forward": "distance ahead of cars (m)",
    "difficulty": "share of cars by difficulty",
    "occlusion": "share of cars by occlusion",
}
FLOWS = {"with": -np.pi / 2, "against": np.pi / 2}
FLOW_WIDTH = np.pi / 8  # rad; a heading within this of the road axis follows the road
QUANTILES = np.linspace(0.02, 0.98, 25)
MAX_FORWARD = 70.0  # m; beyond it labels are patchy


def read_archive(archive: Path) -> tuple[list[list[tuple[str, np.ndarray]]], dict[str, float]]:
    """Read all labels and the median camera of an archive of ``label_2`` and ``calib`` files.

    Args:
        archive: a tar file with members ``label_2/NNNNNN.txt`` and ``calib/NNNNNN.txt``.

    Returns:
        Per frame the ``(name, 14 numbers)`` of every object except DontCare, and the camera:
        focal length and principal point in pixels, and its position in the LiDAR frame in m.
    """
    texts = {}
    with tarfile.open(archive) as tar:  # in the order of the archive: gzip cannot seek
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is not None:
                texts[member.name] = stream.read().decode()
    frames, cameras = [], []
    for name, text in sorted(texts.items()):
        if "label_2/" in name:
            rows = [line.split() for line in text.splitlines()]
            frames.append([(r[0], np.array(r[1:], float)) for r in rows if r[0] != "DontCare"])
        elif "calib/" in name:
            values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
            p2 = np.array(values["P2"].split(), float).reshape(3, 4)
            velo = np.array(values["Tr_velo_to_cam"].split(), float).reshape(3, 4)
            position = -velo[:, :3].T @ velo[:, 3]
            cameras.append([p2[0, 0], p2[0, 2], p2[1, 2], p2[0, 3], *position])
    keys = ("focal", "center_u", "center_v", "p2_offset", "x", "y", "z")
    return frames, dict(zip(keys, np.median(cameras, axis=0).round(4).tolist(), strict=True))


def quantiles(values: np.ndarray) -> list[float]:
    """Return ``values`` at the levels ``QUANTILES``, rounded to a millimeter."""
    return np.quantile(values, QUANTILES).round(3).tolist()


def class_statistics(frames: list[list[tuple[str, np.ndarray]]], name: str) -> dict[str, object]:
    """Return counts, sizes and poses of one class; sizes are ordered length, width, height."""
    rows = np.array([row for frame in frames for n, row in frame if n == name])
    counts = Counter(sum(n == name for n, _ in frame) for frame in frames)
    log_size = np.log(rows[:, [9, 8, 7]])
    lateral, forward, rotation_y = -rows[:, 10], rows[:, 12], rows[:, 13]
    near = forward < MAX_FORWARD
    flows, rest = {}, near.copy()
    for flow, axis in FLOWS.items():
        difference = np.mod(rotation_y - axis + np.pi, 2 * np.pi) - np.pi
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
        "count_shares": [round(counts[k] / len(frames), 5) for k in range(max(counts) + 1)],
        "log_size_mean": log_size.mean(0).round(4).tolist(),
        "log_size_covariance": np.cov(log_size.T).round(6).tolist(),
        "size_minimum": np.exp(log_size).min(0).round(2).tolist(),
        "size_maximum": np.exp(log_size).max(0).round(2).tolist(),
        "forward_quantiles": quantiles(forward[near]),
        "flows": flows,
    }


def derive(archive: Path) -> dict[str, object]:
    """Return all numbers of ``statistics.json``."""
    frames, camera = read_archive(archive)
    return {
        "num_frames": len(frames),
        "quantile_levels": QUANTILES.round(4).tolist(),
        "camera": camera,
        "classes": {name: class_statistics(frames, name) for name in CLASSES},
    }


def read_folder(root: Path) -> list[list[tuple[str, np.ndarray]]]:
    """Read all labels of a data set in the KITTI layout, in the form of ``read_archive``."""
    frames = []
    for path in sorted((root / "training" / "label_2").glob("*.txt")):
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        frames.append([(r[0], np.array(r[1:], float)) for r in rows if r[0] != "DontCare"])
    return frames


def points_per_car(root: Path) -> np.ndarray:
    """Return distance (m) and number of points in the box of every unoccluded car, ``(N, 2)``."""
    rows = []
    for path in sorted((root / "training" / "label_2").glob("*.txt")):
        objects = read_labels(path)
        seen = (objects.names == "Car") & (objects.occluded == 0) & (objects.truncated < 0.1)
        objects = objects.select(seen)
        calibration = read_calibration(root / "training" / "calib" / path.name)
        boxes = boxes_from_camera(
            objects.location, objects.dimensions, objects.rotation_y, calibration
        )
        cloud = root / "training" / "velodyne_reduced" / f"{path.stem}.bin"
        points = np.fromfile(cloud, dtype="<f4").reshape(-1, 4)[:, :3]
        for box in boxes:
            c, s = np.cos(box[6]), np.sin(box[6])
            own = (points - box[:3]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
            own[:, 2] -= box[5] / 2
            rows.append([np.hypot(*box[:2]), (np.abs(own) < box[3:6] / 2).all(axis=1).sum()])
    return np.array(rows)


def car_summary(frames: list[list[tuple[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """Return sizes, distances and levels of all cars, and the number of cars of every frame."""
    cars = np.array([row for frame in frames for name, row in frame if name == "Car"])
    objects = KittiObjects(
        names=np.full(len(cars), "Car"),
        truncated=cars[:, 0],
        occluded=cars[:, 1].astype(np.int64),
        alpha=cars[:, 2],
        bbox=cars[:, 3:7],
        dimensions=cars[:, 7:10],
        location=cars[:, 10:13],
        rotation_y=cars[:, 13],
    )
    levels = difficulty(objects)
    return {
        "length": cars[:, 9],
        "width": cars[:, 8],
        "height": cars[:, 7],
        "forward": cars[:, 12],
        "difficulty": np.array([np.mean(levels == level) for level in (0, 1, 2, -1)]),
        "occlusion": np.array([np.mean(cars[:, 1] == level) for level in range(4)]),
        "per_frame": np.array([sum(name == "Car" for name, _ in frame) for frame in frames]),
    }


def draw_figure(archive: Path, real: Path, simulated: Path, out: Path) -> dict[str, object]:
    """Draw simulated against real data, and return the numbers behind the picture.

    Args:
        archive: official labels, for sizes, counts and difficulties.
        real: a folder in the KITTI layout with clouds, for points per car.
        simulated: what ``tools/create_data.py simulated`` wrote.
        out: the picture to write.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    summaries = {
        "KITTI": car_summary(read_archive(archive)[0]),
        "simulated": car_summary(read_folder(simulated)),
    }
    points = {"KITTI": points_per_car(real), "simulated": points_per_car(simulated)}
    figure, axes = plt.subplots(2, 4, figsize=(15, 6.5), constrained_layout=True)
    report = {"points_per_car": _draw_points(axes[0, 0], points)}
    for axis, key, bins in (
        (axes[0, 1], "length", np.arange(2.5, 5.6, 0.1)),
        (axes[0, 2], "width", np.arange(1.3, 2.05, 0.025)),
        (axes[0, 3], "height", np.arange(1.1, 2.2, 0.04)),
        (axes[1, 2], "per_frame", np.arange(-0.5, 16)),
        (axes[1, 3], "forward", np.arange(0, 82, 4)),
    ):
        for name, summary in summaries.items():
            values = np.clip(summary[key], bins[0], bins[-1])
            axis.hist(
                values, bins, density=True, histtype="step", lw=1.6, label=name, color=COLORS[name]
            )
        report[key] = {
            name: [round(float(f(s[key])), 3) for f in (np.mean, np.std)]
            for name, s in summaries.items()
        }
        axis.set_title(TITLES[key])
    for axis, key, ticks in (
        (axes[1, 0], "difficulty", ("easy", "moderate", "hard", "none")),
        (axes[1, 1], "occlusion", ("visible", "partly", "largely", "unknown")),
    ):
        for shift, (name, summary) in zip((-0.2, 0.2), summaries.items(), strict=True):
            axis.bar(np.arange(4) + shift, summary[key], 0.38, label=name, color=COLORS[name])
        report[key] = {name: s[key].round(3).tolist() for name, s in summaries.items()}
        axis.set_xticks(range(4), ticks)
        axis.set_title(TITLES[key])
    axes[0, 1].legend(frameon=False)
    figure.savefig(out, dpi=90, metadata={"Software": None})
    return report


def _draw_points(axis: Any, points: dict[str, np.ndarray]) -> dict[str, object]:
    """Draw median and 10-90 % band of the points per unoccluded car; return medians per bin."""
    edges = np.array([5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60])
    report: dict[str, object] = {"edges": edges.tolist()}
    for name, rows in points.items():
        bins = np.digitize(rows[:, 0], edges)
        kept = [k for k in range(1, len(edges)) if (bins == k).sum() >= 5]
        centers = [(edges[k - 1] + edges[k]) / 2 for k in kept]
        low, middle, high = np.array(
            [np.percentile(rows[bins == k, 1], [10, 50, 90]) for k in kept]
        ).T
        axis.plot(centers, middle, "o-", ms=3, label=name, color=COLORS[name])
        axis.fill_between(centers, low, high, alpha=0.2, lw=0, color=COLORS[name])
        report[name] = dict(zip(map(str, centers), middle.tolist(), strict=True))
    axis.set_yscale("log")
    axis.set_title("points per unoccluded car over distance (m)")
    return report


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
