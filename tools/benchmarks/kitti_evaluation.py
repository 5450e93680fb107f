"""The KITTI evaluation: time, memory, and agreement with the official tool.

python tools/benchmarks/kitti_evaluation.py [LABEL_DIR DETECTION_DIR] [--ids FILE] [--official FILE]
    [--json FILE] [--repeats R]

Without folders: the validation split beside the project (../shared) where there is one, else 3,769
made-up frames. Every run is a process of its own on compiled kernels: "reading and evaluation" is
three classes at six thresholds; "command" is all of tools/evaluate_kitti.py with imports, AP by
distance, localization errors and tables. CPU seconds, summed over the threads, hold on a busy
machine too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ebm3d.datasets import KittiObjects, write_labels
from ebm3d.evaluation import evaluate_kitti, read_folders, read_ids

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
THRESHOLDS = (0.5, 0.7, 0.75, 0.8, 0.85, 0.9)
METRICS = {
    "detection_AP": "bbox",
    "detection_BEV_AP": "bev",
    "detection_3D_AP": "3d",
    "orientation_AOS": "aos",
    "orientation_BEV_AHS": "ahs_bev",
    "orientation_3D_AHS": "ahs_3d",
}


def evaluate_once(options: argparse.Namespace) -> dict[str, Any]:
    """Read and evaluate in this process: seconds, memory, largest difference."""
    started, cpu_started = time.perf_counter(), time.process_time()
    ids = None if options.ids is None else read_ids(options.ids)
    given = read_folders(options.label_dir, options.detection_dir, ids=ids)
    read = time.perf_counter()
    found = evaluate_kitti(given.labels, given.detections, iou_thresholds=THRESHOLDS)
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    result = {
        "reading s": read - started,
        "reading and evaluation s": done - started,
        "reading and evaluation, CPU s": time.process_time() - cpu_started,
        "memory MiB": peak,
    }
    if options.official is not None:
        differences = [
            abs(
                found.average_precision(
                    name.split("_", 1)[0].capitalize(),
                    METRICS[name.split("_", 1)[1]],
                    float(threshold),
                    difficulty,
                    f"ap_{points}",
                )
                - value
            )
            for threshold, by_name in json.loads(options.official.read_text()).items()
            for name, by_difficulty in by_name.items()
            for difficulty, values in by_difficulty.items()
            for points, value in values.items()
        ]
        result["values compared"] = len(differences)
        result["largest difference"] = max(differences)
    return result


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Repeat in processes of their own; the first run compiles and is not counted."""
    base = [sys.executable, str(Path(__file__).resolve()), "--once", *_data(options)]
    tool = [sys.executable, str(ROOT / "tools" / "evaluate_kitti.py"), *_data(options)[:2]]
    tool += ["--ids", str(options.ids)] if options.ids is not None else []
    tool += ["--iou", *map(str, THRESHOLDS)]
    rows: list[dict[str, Any]] = []
    commands: list[float] = []
    cpu: list[float] = []
    for repeat in range(options.repeats + 1):
        output = subprocess.run(base, check=True, capture_output=True, text=True).stdout
        started, cpu_started = time.perf_counter(), _children_cpu()
        subprocess.run(tool, check=True, capture_output=True)
        seconds = time.perf_counter() - started
        if repeat:
            rows.append(json.loads(output))
            commands.append(seconds)
            cpu.append(_children_cpu() - cpu_started)
    results: dict[str, Any] = {
        key: _spread([row[key] for row in rows]) for key in rows[0] if key.endswith((" s", " MiB"))
    }
    results["command s"] = _spread(commands)
    results["command, CPU s"] = _spread(cpu)
    results |= {key: value for key, value in rows[0].items() if key not in results}
    results["machine"] = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    return results


def make_data(folder: Path, num_frames: int = 3769) -> None:
    """Write labels and results of made-up frames: five cars each, found with errors."""
    rng = np.random.default_rng(0)
    for name in ("label_2", "data"):
        (folder / name).mkdir()
    for frame in range(num_frames):
        z = rng.uniform(5, 60, 5)
        place = np.column_stack([rng.uniform(-0.4, 0.4, 5) * z, np.full(5, 1.7), z])
        for name, spread in (("label_2", 0.0), ("data", 0.12)):
            moved = place + rng.normal(size=(5, 3)) * spread
            center = 610 + 720 * moved[:, 0] / moved[:, 2]
            half = 720 * np.column_stack([np.full(5, 1.5), np.full(5, 0.75)]) / moved[:, 2:]
            bbox = np.column_stack(
                [center - half[:, 0], 200 - half[:, 1], center, 200 + half[:, 1]]
            )
            bbox[:, 2] += half[:, 0]
            objects = KittiObjects(
                names=np.array(["Car"] * 5),
                truncated=np.zeros(5),
                occluded=np.zeros(5, dtype=np.int64),
                alpha=np.zeros(5),
                bbox=bbox,
                dimensions=np.tile([1.5, 1.6, 4.0], (5, 1)),
                location=moved,
                rotation_y=rng.normal(size=5) * spread,
                score=None if name == "label_2" else rng.random(5),
            )
            write_labels(folder / name / f"{frame:06d}.txt", objects, decimals=2)


def _children_cpu() -> float:
    """CPU seconds of all processes started and finished so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def _data(options: argparse.Namespace) -> list[str]:
    """The folders and files as arguments of another process."""
    arguments = [str(options.label_dir), str(options.detection_dir)]
    for name in ("ids", "official"):
        if getattr(options, name) is not None:
            arguments += [f"--{name}", str(getattr(options, name))]
    return arguments


def _provide(options: argparse.Namespace, folder: Path) -> str:
    """Fill in the folders where none are given; says which data it is."""
    golden = SHARED / "kitti_eval_golden"
    options.label_dir, options.detection_dir = folder / "label_2", folder / "data"
    if not golden.is_dir():
        make_data(folder)
        return "3,769 made-up frames"
    archives = golden / "detections_val.tar.gz", SHARED / "kitti_labels/labels_and_calib.tar.gz"
    for archive in archives:
        with tarfile.open(archive) as content:
            content.extractall(folder, filter="data")
    options.ids = SHARED / "kitti_labels" / "val.txt"
    options.official = golden / "official_ap.json"
    return "the validation split, 3,769 frames"


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("label_dir", type=Path, nargs="?")
    parser.add_argument("detection_dir", type=Path, nargs="?")
    parser.add_argument("--ids", type=Path, metavar="FILE")
    parser.add_argument("--official", type=Path, metavar="FILE", help="figures to compare with")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        sys.stdout.write(json.dumps(evaluate_once(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        shown = str(options.detection_dir)
        if options.detection_dir is None:
            shown = _provide(options, Path(folder))
        results = run(options)
    table = Table(title=f"KITTI evaluation, {shown}, six thresholds, {results['machine']}")
    for column in ("", "median", "range"):
        table.add_column(column, justify="right")
    for name, part in results.items():
        if isinstance(part, dict):
            table.add_row(name, f"{part['median']:.2f}", f"{part['low']:.2f} to {part['high']:.2f}")
        elif name != "machine":
            table.add_row(name, f"{part:.2g}" if isinstance(part, float) else str(part), "")
    Console().print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
