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
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _report import facts, parser_of, print_table, shown, spread, write_json

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


def evaluate_once(args: argparse.Namespace) -> dict[str, float]:
    """Read and evaluate in this process: seconds, memory, largest difference."""
    started, cpu_started = time.perf_counter(), time.process_time()
    ids = None if args.ids is None else read_ids(args.ids)
    frames = read_folders(args.label_dir, args.detection_dir, ids=ids)
    read = time.perf_counter()
    evaluation = evaluate_kitti(frames.labels, frames.detections, iou_thresholds=THRESHOLDS)
    row = {
        "reading s": read - started,
        "reading and evaluation s": time.perf_counter() - started,
        "reading and evaluation, CPU s": time.process_time() - cpu_started,
        "memory MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }
    if args.official is not None:
        differences = []
        for threshold, by_name in json.loads(args.official.read_text()).items():
            for name, by_difficulty in by_name.items():
                class_name, _, metric = name.partition("_")
                key = class_name.capitalize(), METRICS[metric], float(threshold)
                for difficulty, values in by_difficulty.items():
                    for points, value in values.items():
                        ours = evaluation.average_precision(*key, difficulty, f"ap_{points}")
                        differences.append(abs(ours - value))
        row |= {"values compared": len(differences), "largest difference": max(differences)}
    return row


def run(args: argparse.Namespace) -> list[dict[str, float]]:
    """Repeat in processes of their own; the first run compiles and is not counted."""
    folders = [str(args.label_dir), str(args.detection_dir)]
    ids = [] if args.ids is None else ["--ids", str(args.ids)]
    official = [] if args.official is None else ["--official", str(args.official)]
    once = [sys.executable, __file__, "--once", *folders, *ids, *official]
    tool = [sys.executable, str(ROOT / "tools" / "evaluate_kitti.py"), *folders, *ids]
    tool += ["--iou", *map(str, THRESHOLDS)]
    rows = []
    for _ in range(args.repeats + 1):
        row = json.loads(subprocess.run(once, check=True, capture_output=True, text=True).stdout)
        started, cpu_started = time.perf_counter(), sum(os.times()[2:4])
        subprocess.run(tool, check=True, capture_output=True)
        row["command s"] = time.perf_counter() - started
        row["command, CPU s"] = sum(os.times()[2:4]) - cpu_started
        rows.append(row)
    return rows[1:]


def make_data(folder: Path, num_frames: int = 3769) -> None:
    """Write labels and results of made-up frames: five cars each, detected with errors."""
    rng = np.random.default_rng(0)
    (folder / "label_2").mkdir()
    (folder / "data").mkdir()
    for frame in range(num_frames):
        z = rng.uniform(5, 60, 5)
        location = np.column_stack([rng.uniform(-0.4, 0.4, 5) * z, np.full(5, 1.7), z])
        for name, std in (("label_2", 0.0), ("data", 0.12)):
            moved = location + rng.normal(size=(5, 3)) * std
            center = 610 + 720 * moved[:, 0] / moved[:, 2]
            half = 720 * np.array([1.5, 0.75]) / moved[:, 2:]
            low, high = center - half[:, 0], center + half[:, 0]
            objects = KittiObjects(
                names=np.array(["Car"] * 5),
                truncated=np.zeros(5),
                occluded=np.zeros(5, dtype=np.int64),
                alpha=np.zeros(5),
                bbox=np.column_stack([low, 200 - half[:, 1], high, 200 + half[:, 1]]),
                dimensions=np.tile([1.5, 1.6, 4.0], (5, 1)),
                location=moved,
                rotation_y=rng.normal(size=5) * std,
                score=None if name == "label_2" else rng.random(5),
            )
            write_labels(folder / name / f"{frame:06d}.txt", objects, decimals=2)


def provide(args: argparse.Namespace, folder: Path) -> None:
    """Fill in the folders where none are given."""
    golden, labels = SHARED / "kitti_eval_golden", SHARED / "kitti_labels"
    args.label_dir, args.detection_dir = folder / "label_2", folder / "data"
    if not golden.is_dir():
        make_data(folder)
        return
    for archive in (golden / "detections_val.tar.gz", labels / "labels_and_calib.tar.gz"):
        with tarfile.open(archive) as content:
            content.extractall(folder, filter="data")
    args.ids, args.official = labels / "val.txt", golden / "official_ap.json"


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, repeats=5)
    parser.add_argument("label_dir", type=Path, nargs="?")
    parser.add_argument("detection_dir", type=Path, nargs="?")
    parser.add_argument("--ids", type=Path, metavar="FILE")
    parser.add_argument("--official", type=Path, metavar="FILE", help="figures to compare with")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        sys.stdout.write(json.dumps(evaluate_once(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.detection_dir is None:
            provide(args, Path(folder))
        rows = run(args)
    report: dict[str, Any] = {name: spread([row[name] for row in rows]) for name in rows[0]}
    difference = report.pop("largest difference", {"median": float("nan")})["median"]
    cells = [(name, shown(row, digits=2)) for name, row in report.items()]
    cells.append(("largest difference", f"{difference:.1e}"))
    print_table(f"KITTI evaluation, {args.detection_dir}", ("", "median and range"), cells)
    write_json(args.json, {**facts(), **report, "largest difference": difference})


if __name__ == "__main__":
    main()
