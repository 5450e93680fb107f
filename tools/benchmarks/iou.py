"""Rotated IoU: pairs a second and largest error, beside shapely and mmcv where they are installed.

python tools/benchmarks/iou.py [--json FILE] [--boxes N] [--repeats R]

N x N pairs of car-sized boxes within some meters of each other, about every fourth pair
overlapping; one call to warm up, then the median and range of R calls. shapely is given ready
polygons and computes intersection areas only. Rates per CPU second, summed over the threads, hold
on a busy machine too. Differences are those of the other library's results from ours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ebm3d.boxes.iou import iou_3d, iou_bev

FloatArray = NDArray[np.float64]


def make_boxes(num: int, seed: int) -> FloatArray:
    """Car-sized boxes around (300, 300)."""
    rng = np.random.default_rng(seed)
    boxes = np.empty((num, 7))
    boxes[:, :3] = rng.normal(size=(num, 3)) * [3.0, 3.0, 0.3] + [300.0, 300.0, -1.7]
    boxes[:, 3:6] = rng.uniform([3.0, 1.4, 1.3], [5.0, 2.0, 1.9], (num, 3))
    boxes[:, 6] = rng.uniform(-np.pi, np.pi, num)
    return boxes


def measure(compute: Callable[[], Any], num_pairs: int, repeats: int) -> dict[str, float]:
    """Median and range of pairs a second, and a CPU second, after one call to warm up."""
    compute()
    rates, cpu_rates = [], []
    for _ in range(repeats):
        started, cpu_started = time.perf_counter(), time.process_time()
        compute()
        rates.append(num_pairs / (time.perf_counter() - started))
        cpu_rates.append(num_pairs / (time.process_time() - cpu_started))
    return {
        "median": statistics.median(rates),
        "low": min(rates),
        "high": max(rates),
        "median per CPU second": statistics.median(cpu_rates),
    }


def shapely_iou(boxes: FloatArray, others: FloatArray) -> tuple[Callable[[], FloatArray], str]:
    """A function that computes all pairs with shapely, and the version."""
    import shapely

    def polygons(rows: FloatArray) -> NDArray[Any]:
        cos, sin = np.cos(rows[:, 6:]), np.sin(rows[:, 6:])
        along = rows[:, 3:4] / 2 * [1, -1, -1, 1]
        across = rows[:, 4:5] / 2 * [1, 1, -1, -1]
        x = rows[:, 0:1] + cos * along - sin * across
        y = rows[:, 1:2] + sin * along + cos * across
        return np.asarray(shapely.polygons(np.stack([x, y], axis=-1)))

    first, second = polygons(boxes)[:, None], polygons(others)[None]
    areas = (boxes[:, 3] * boxes[:, 4])[:, None] + (others[:, 3] * others[:, 4])[None]

    def compute() -> FloatArray:
        common = shapely.area(shapely.intersection(first, second))
        return np.asarray(common / (areas - common))

    return compute, shapely.__version__


def mmcv_iou(boxes: FloatArray, others: FloatArray) -> tuple[Callable[[], FloatArray], str]:
    """A function that computes all pairs with mmcv on the CPU, and the version."""
    import mmcv
    import torch
    from mmcv.ops import box_iou_rotated

    first, second = (
        torch.as_tensor(rows[:, [0, 1, 3, 4, 6]], dtype=torch.float32) for rows in (boxes, others)
    )

    def compute() -> FloatArray:
        return np.asarray(box_iou_rotated(first, second).numpy())

    return compute, mmcv.__version__


def run(num: int, repeats: int) -> dict[str, Any]:
    """All measurements."""
    boxes, others = make_boxes(num, 0), make_boxes(num, 1)
    few = max(num // 4, 1)
    ours = iou_bev(boxes, others)
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "overlapping": float((ours > 0).mean()),
        "ebm3d bev": measure(lambda: iou_bev(boxes, others), num * num, repeats),
        "ebm3d 3d": measure(lambda: iou_3d(boxes, others), num * num, repeats),
    }
    for name, make in (("shapely", shapely_iou), ("mmcv", mmcv_iou)):
        try:
            compute, version = make(boxes[:few], others[:few])
        except ImportError:
            continue
        error = float(np.abs(compute() - ours[:few, :few]).max())
        results[f"{name} {version}"] = {
            **measure(compute, few * few, repeats),
            "largest difference": error,
        }
    return results


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--boxes", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=7, help="default: %(default)s")
    options = parser.parse_args()
    results = run(options.boxes, options.repeats)
    shown = f"{options.boxes} x {options.boxes}, {results['overlapping']:.0%} overlapping"
    table = Table(title=f"Rotated IoU, {shown}, {results['machine']}")
    columns = (
        "million pairs/s",
        "range",
        "per CPU s",
        "ebm3d BEV faster by",
        "per CPU s",
        "difference",
    )
    for column in ("", *columns):
        table.add_column(column, justify="right")
    base = results["ebm3d bev"]
    for name, part in results.items():
        if isinstance(part, dict):
            table.add_row(
                name,
                f"{part['median'] / 1e6:.3f}",
                f"{part['low'] / 1e6:.3f} to {part['high'] / 1e6:.3f}",
                f"{part['median per CPU second'] / 1e6:.3f}",
                f"{base['median'] / part['median']:.1f}",
                f"{base['median per CPU second'] / part['median per CPU second']:.1f}",
                f"{part['largest difference']:.1e}" if "largest difference" in part else "",
            )
    Console().print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
