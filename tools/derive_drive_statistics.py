"""Derive the numbers that simulated drives are drawn from, out of nuScenes' tables.

The numbers (means, covariances, quantiles, shares; no label and no frame) are written as JSON to
``plugin/ebm3d/simulation/drives/statistics.json``, which is what the package ships. A second
command draws simulated drives beside the real tables:

    python tools/derive_drive_statistics.py numbers ROOT --version v1.0-mini
    python tools/derive_drive_statistics.py figure ROOT --version v1.0-mini --simulated SIM
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.datasets.nuscenes.tables import read_tables
from ebm3d.simulation.dataset import frame_seed
from ebm3d.simulation.drives import VERSION, draw_drive
from ebm3d.simulation.drives.drive import SWEEPS

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "plugin" / "ebm3d" / "simulation" / "drives" / "statistics.json"
FIGURE = ROOT / "docs" / "figures" / "simulated_drives.png"
COLORS = {"nuScenes": "#444444", "simulated": "#d95f02"}
LEVELS = np.linspace(0.05, 0.95, 10)
MIN_INSTANCES = 10  # below it a class has the chosen numbers
MIN_SPEEDS = 100  # annotations that move, for quantiles of speed
LEAST_PER_FRAME = 1.0  # of a class with chosen numbers, so that small sets hold all classes
MOVING = 0.5  # m/s
EDGES = np.array([0, 10, 20, 30, 40, 50, 60, 80])  # m, of points per box
RANGES = np.array([2.5, 5, 10, 15, 20, 30, 40, 50, 60, 80, 100])  # m, of points per key frame


class Chosen(NamedTuple):
    """Numbers of a class that the real tables at hand have too few instances of.

    Mean sizes are the anchors of OpenPCDet's configs. Annotations per key frame are of the order of
    all of nuScenes, not checked against a source; spreads, shares and speeds are plausible ones.
    """

    size: tuple[float, float, float]  # length, width, height
    spread: tuple[float, float, float]  # standard deviation of their logarithms
    per_frame: float
    moving_share: float  # more than real for some: velocities are to be learned
    speed: tuple[float, float]  # from, to, m/s


CHOSEN = {
    "car": Chosen((4.63, 1.97, 1.74), (0.10, 0.09, 0.10), 14.45, 0.25, (2, 12)),
    "truck": Chosen((6.93, 2.51, 2.84), (0.25, 0.12, 0.20), 2.59, 0.30, (3, 10)),
    "trailer": Chosen((12.29, 2.90, 3.87), (0.20, 0.06, 0.10), 0.73, 0.40, (3, 9)),
    "bus": Chosen((10.5, 2.94, 3.47), (0.15, 0.04, 0.06), 0.48, 0.60, (2, 8)),
    "construction_vehicle": Chosen((6.37, 2.85, 3.19), (0.25, 0.15, 0.2), 0.43, 0.20, (1.5, 4)),
    "bicycle": Chosen((1.70, 0.60, 1.28), (0.10, 0.15, 0.12), 0.35, 0.50, (2.5, 6)),
    "motorcycle": Chosen((2.11, 0.77, 1.47), (0.12, 0.15, 0.10), 0.37, 0.40, (3, 10)),
    "pedestrian": Chosen((0.73, 0.67, 1.77), (0.25, 0.15, 0.10), 6.45, 0.60, (0.8, 1.7)),
    "traffic_cone": Chosen((0.41, 0.41, 1.07), (0.20, 0.20, 0.25), 2.87, 0.0, (0, 0)),
    "barrier": Chosen((0.50, 2.53, 0.98), (0.20, 0.15, 0.10), 4.45, 0.0, (0, 0)),
}


@dataclass(frozen=True, eq=False)
class Labels:
    """Annotations of a data set, those of the ten classes."""

    num_frames: int
    labels: np.ndarray  # (A,), index in CLASSES
    instances: np.ndarray  # (A,)
    sizes: np.ndarray  # (A, 3), length, width, height
    distances: np.ndarray  # (A,), from the ego vehicle
    speeds: np.ndarray  # (A,), NaN where unknown
    num_points: np.ndarray  # (A,)

    def of(self, name: str) -> np.ndarray:
        """Which annotations are of a class, shape ``(A,)``."""
        return self.labels == CLASSES.index(name)


def read_labels(root: Path, version: str) -> Labels:
    """Read the annotations of all key frames."""
    tables = read_tables(root, version)
    annotations, samples = tables.annotations, tables.samples
    ego = tables.sweeps.ego_translations[samples.sweeps[annotations.samples]]
    kept = annotations.labels >= 0
    return Labels(
        num_frames=len(samples.tokens),
        labels=annotations.labels[kept],
        instances=annotations.instances[kept],
        sizes=annotations.sizes[kept][:, [1, 0, 2]],
        distances=np.hypot(*(annotations.translations - ego)[kept, :2].T),
        speeds=np.hypot(*annotations.velocities[kept, :2].T),
        num_points=annotations.num_lidar_points[kept],
    )


def class_statistics(labels: Labels, name: str) -> dict[str, Any]:
    """Return counts, sizes and speeds of one class; sizes are ordered length, width, height."""
    chosen, fallback = labels.of(name), CHOSEN[name]
    _, first = np.unique(labels.instances[chosen], return_index=True)
    log_size = np.log(labels.sizes[chosen][first])
    is_real = len(first) >= MIN_INSTANCES
    if is_real:
        mean, covariance = log_size.mean(0), np.cov(log_size.T)
        limits = np.exp(log_size).min(0), np.exp(log_size).max(0)
    else:
        mean, spread = np.log(fallback.size), np.array(fallback.spread)
        covariance, limits = (
            np.diag(spread**2),
            (np.exp(mean - 2 * spread), np.exp(mean + 2 * spread)),
        )
    speeds = labels.speeds[chosen]
    moving = speeds[speeds > MOVING]
    speed = np.linspace(*fallback.speed, len(LEVELS))
    share = fallback.moving_share
    if len(moving) >= MIN_SPEEDS:
        speed = np.quantile(moving, LEVELS)
        if name == "pedestrian":
            share = len(moving) / np.isfinite(speeds).sum()
    per_frame = chosen.sum() / labels.num_frames
    return {
        "source": f"{len(first)} instances" if is_real else "chosen",
        "per_frame": round(
            float(per_frame if is_real else max(fallback.per_frame, LEAST_PER_FRAME)), 3
        ),
        "log_size_mean": mean.round(4).tolist(),
        "log_size_covariance": covariance.round(6).tolist(),
        "size_minimum": limits[0].round(2).tolist(),
        "size_maximum": limits[1].round(2).tolist(),
        "moving_share": round(float(share), 3),
        "speed_quantiles": speed.round(2).tolist(),
    }


def draw_figure(real: Labels, simulated: Labels, cloud: Path | None, out: Path) -> dict[str, Any]:
    """Draw simulated against real annotations, and one simulated key frame with its sweeps.

    ``cloud`` is a real key frame of which only the number of points over range is drawn. Returns
    the numbers behind the figure.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(16, 10), constrained_layout=True)
    grid = figure.add_gridspec(3, 4)
    _draw_key_frame(figure.add_subplot(grid[:2, :2]))
    places = [(0, 2), (0, 3), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3)]
    axes = [figure.add_subplot(grid[place]) for place in places]
    report: dict[str, Any] = {"edges": EDGES.tolist()}
    for number, (name, labels) in enumerate({"nuScenes": real, "simulated": simulated}.items()):
        style = {"color": COLORS[name], "label": name}
        shift = np.arange(len(CLASSES)) + 0.4 * number - 0.2
        counts = np.array([labels.of(c).sum() for c in CLASSES]) / labels.num_frames
        axes[0].barh(shift, np.maximum(counts, 0.02), 0.38, **style)
        cars, walkers = labels.of("car"), labels.of("pedestrian")
        report[name] = {
            "per_frame": dict(zip(CLASSES, counts.round(2).tolist(), strict=True)),
            "points_per_car": _draw_points(axes[1], labels, cars, style),
            "points_per_pedestrian": _draw_points(axes[2], labels, walkers, style),
            "without_points": {c: _share_empty(labels, c) for c in CLASSES},
            "car_size": labels.sizes[cars].mean(0).round(2).tolist(),
            "distance": np.quantile(labels.distances, [0.1, 0.5, 0.9]).round(1).tolist(),
        }
        moving = labels.speeds > MOVING
        for axis, values, bins in (
            (axes[3], labels.sizes[cars, 0], np.arange(3, 6.5, 0.15)),
            (axes[4], labels.speeds[cars & moving], np.arange(0, 15, 1)),
            (axes[5], labels.speeds[walkers & moving], np.arange(0.4, 2.6, 0.15)),
            (axes[6], labels.distances, np.arange(0, 95, 5)),
        ):
            axis.hist(
                np.clip(values, bins[0], bins[-1]),
                bins,
                density=True,
                histtype="step",
                lw=1.6,
                **style,
            )
    report["points"] = _draw_ranges(axes[7], cloud)
    axes[0].set_yticks(range(len(CLASSES)), CLASSES)
    axes[0].set_xscale("log")
    axes[0].invert_yaxis()
    axes[0].legend(frameon=False)
    titles = (
        "annotations per key frame",
        "points per car over distance (m)",
        "points per pedestrian over distance (m)",
        "length of cars (m)",
        "speed of moving cars (m/s)",
        "speed of walking pedestrians (m/s)",
        "distance of all boxes (m)",
        "points per meter of range, one sweep",
    )
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title)
    figure.savefig(out, dpi=80, metadata={"Software": None})
    return report


def _share_empty(labels: Labels, name: str) -> float | None:
    """Share of a class's annotations without points; None without annotations."""
    points = labels.num_points[labels.of(name)]
    return round(float(np.mean(points == 0)), 3) if len(points) else None


def _draw_points(
    axis: Any, labels: Labels, chosen: np.ndarray, style: dict[str, str]
) -> list[float]:
    """Draw median and 10-90 % band of the points per box; return the medians."""
    bins = np.digitize(labels.distances[chosen], EDGES)
    points = labels.num_points[chosen]
    kept = [k for k in range(1, len(EDGES)) if (bins == k).sum() >= 5]
    bands = [np.percentile(points[bins == k], [10, 50, 90]) for k in kept]
    low, middle, high = np.array(bands).reshape(-1, 3).T
    centers = [(EDGES[k - 1] + EDGES[k]) / 2 for k in kept]
    axis.plot(centers, middle, "o-", ms=3, **style)
    axis.fill_between(centers, low, high, alpha=0.2, lw=0, color=style["color"])
    axis.set_yscale("symlog")
    return middle.tolist()


def _draw_ranges(axis: Any, cloud: Path | None) -> dict[str, list[float]]:
    """Draw the number of points over range of the real key frame, and of simulated sweeps."""
    points = {"simulated": [draw_drive(frame_seed(0, 0, i), 1).scan(0).points for i in range(12)]}
    if cloud is not None:
        points["nuScenes"] = [np.fromfile(cloud, "<f4").reshape(-1, 5)]
    report = {}
    for name, clouds in points.items():
        ranges = [np.sqrt((c[:, :3].astype(np.float64) ** 2).sum(axis=1)) for c in clouds]
        counts = np.mean([np.histogram(r, RANGES)[0] for r in ranges], axis=0) / np.diff(RANGES)
        axis.stairs(counts, RANGES, color=COLORS[name], lw=1.6)
        report[name] = counts.round(1).tolist()
        far = np.concatenate([c[r > RANGES[0], 3] for c, r in zip(clouds, ranges, strict=True)])
        report[f"intensity, {name}"] = np.quantile(far, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
    axis.set_yscale("log")
    return report


def _draw_key_frame(axis: Any) -> None:
    """Draw ten sweeps of a drive, moved into the last one's frame, and the boxes there."""
    drive, last = draw_drive(frame_seed(0, 1, 0), 3), 2 * SWEEPS
    inverse = np.linalg.inv(drive.lidar2global(last))
    for step in range(last - SWEEPS + 1, last + 1):
        points, transform = drive.scan(step).points, inverse @ drive.lidar2global(step)
        x, y, _ = transform[:3, :3] @ points[:, :3].T + transform[:3, 3:]
        lag = np.full(len(x), 0.05 * (last - step))
        dots = axis.scatter(
            x, y, s=0.3, c=lag, cmap="viridis_r", vmin=0, vmax=0.5, lw=0, rasterized=True
        )
    for actor in (actor for actor in drive.actors if actor.name):
        x, y, _, yaw = actor.trajectory[last]
        u, v = np.array([[1, 1, -1, -1, 1], [1, -1, -1, 1, 1]]) * actor.size[:2, None] / 2
        corners = np.stack(
            [x + u * np.cos(yaw) - v * np.sin(yaw), y + u * np.sin(yaw) + v * np.cos(yaw)]
        )
        corners = inverse[:2, :2] @ corners + inverse[:2, 3:]
        axis.plot(
            *corners, lw=0.9, color="#d95f02" if np.ptp(actor.trajectory[:, :2]) > 1 else "#444444"
        )
    axis.figure.colorbar(dots, ax=axis, label="time lag (s)", shrink=0.7)
    axis.set(
        xlim=(-50, 50), ylim=(-50, 50), aspect="equal", title="simulated: ten sweeps and boxes"
    )


def main() -> None:
    """Parse the command line; derive the numbers or draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    derive = commands.add_parser("numbers", help="write statistics.json")
    figure = commands.add_parser("figure", help="draw simulated against real data")
    for command in (derive, figure):
        command.add_argument("root", type=Path, help="folder with VERSION")
        command.add_argument("--version", default="v1.0-mini")
    derive.add_argument("--out", type=Path, default=OUTPUT)
    figure.add_argument("--simulated", type=Path, required=True, help="simulated drives")
    figure.add_argument("--cloud", type=Path, help="a real key frame, for its number of points")
    figure.add_argument("--out", type=Path, default=FIGURE)
    args = parser.parse_args()
    real = read_labels(args.root, args.version)
    if args.command == "numbers":
        numbers = {name: class_statistics(real, name) for name in CLASSES}
        args.out.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    else:
        simulated = read_labels(args.simulated, VERSION)
        report = draw_figure(real, simulated, args.cloud, args.out)
        Console(soft_wrap=True).print_json(json.dumps(report))


if __name__ == "__main__":
    main()
