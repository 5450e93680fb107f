"""How many frames a second the simulator writes, files included, with a warm cache.

python tools/benchmarks/simulation.py --workers 2 --frames 300 --json simulation.json
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from _report import facts, parser_of, print_table, write_json

from ebm3d.simulation import SENSORS, write_dataset


def measure(folder: Path, sensor: str, frames: int, workers: int) -> dict[str, Any]:
    """Write a data set and time it, from the call to the finished folder, start-up included."""
    start, busy = time.perf_counter(), sum(os.times()[:4])
    write_dataset(
        folder, num_train=frames, num_val=0, seed=0, workers=workers, sensor=sensor, progress=False
    )
    seconds, busy = time.perf_counter() - start, sum(os.times()[:4]) - busy
    clouds = (folder / "training" / "velodyne_reduced").iterdir()
    return {
        "frames_per_second": round(frames / seconds, 1),
        "processor_milliseconds_per_frame": round(1e3 * busy / frames, 1),
        "mean_points": round(sum(cloud.stat().st_size for cloud in clouds) / 16 / frames, 1),
    }


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, frames=300, workers=2)
    parser.add_argument("--sensors", nargs="+", choices=list(SENSORS), default=list(SENSORS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder) / "warm-up", args.sensors[0], 2, 1)
        runs = {s: measure(Path(folder) / s, s, args.frames, args.workers) for s in args.sensors}
    columns = list(next(iter(runs.values())))
    rows = [(sensor, *(str(run[name]) for name in columns)) for sensor, run in runs.items()]
    title = f"{args.frames} frames, {args.workers} processes"
    print_table(title, ("sensor", *(name.replace("_", " ") for name in columns)), rows)
    settings = {"frames": args.frames, "workers": args.workers}
    write_json(args.json, {**facts(), **settings, "runs": runs})


if __name__ == "__main__":
    main()
