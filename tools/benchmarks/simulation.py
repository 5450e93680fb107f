"""Measure how many frames a second the simulator writes, files included, with a warm cache.

python tools/benchmarks/simulation.py --workers 2 --frames 300 --json simulation.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

from rich.console import Console

from ebm3d.simulation import SENSORS, write_dataset


def measure(folder: Path, sensor: str, frames: int, workers: int) -> dict[str, float | int | str]:
    """Write a data set and time it, from the call to the finished folder, start-up included.

    Args:
        folder: an empty folder to work in.
        sensor: name of the sensor.
        frames: number of frames.
        workers: number of processes.
    """
    out = folder / f"{sensor}-{workers}"
    start, busy = time.perf_counter(), _processor_seconds()
    write_dataset(
        out, num_train=frames, num_val=0, seed=0, workers=workers, sensor=sensor, progress=False
    )
    seconds, busy = time.perf_counter() - start, _processor_seconds() - busy
    clouds = list((out / "training" / "velodyne_reduced").iterdir())
    points = sum(cloud.stat().st_size for cloud in clouds) / 16 / frames
    return {
        "sensor": sensor,
        "frames": frames,
        "workers": workers,
        "seconds": round(seconds, 2),
        "frames_per_second": round(frames / seconds, 1),
        "processor_milliseconds_per_frame": round(1e3 * busy / frames, 1),
        "mean_points": round(points, 1),
    }


def _processor_seconds() -> float:
    """Processor time of this process and of its finished children, start-up included."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Parse the command line, warm up, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sensors", nargs="+", choices=list(SENSORS), default=list(SENSORS))
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warm_up = Path(folder) / "warm-up"
        write_dataset(warm_up, num_train=2, num_val=0, seed=1, workers=1, progress=False)
        runs = [measure(Path(folder), sensor, args.frames, args.workers) for sensor in args.sensors]
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average": round(os.getloadavg()[0], 2),
        "runs": runs,
    }
    console = Console()
    for run in runs:
        console.print(
            f"{run['sensor']}: {run['frames_per_second']} frames/s "
            f"({run['frames']} frames in {run['seconds']} s, {run['workers']} processes, "
            f"{run['processor_milliseconds_per_frame']} ms of processor time and "
            f"{run['mean_points']:.0f} points a frame)"
        )
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
