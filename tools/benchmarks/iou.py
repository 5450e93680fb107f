"""Rotated IoU: pairs a second and largest error, beside shapely and mmcv where they are installed.

python tools/benchmarks/iou.py [--json FILE] [--boxes N] [--repeats R]

N x N pairs of car-sized boxes within some meters of each other, about every fourth pair
overlapping. shapely is given ready polygons and computes intersection areas only. Rates per CPU
second, summed over the threads, hold on a busy machine too. Differences are those of the other
library's results from ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _report import facts, parser_of, print_table, shown, spread, take_turns, write_json
from numpy.typing import NDArray

from ebm3d.boxes import bev_corners
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


def shapely_iou(boxes: FloatArray, others: FloatArray) -> Callable[[], Any]:
    """A function that computes all pairs with shapely."""
    import shapely

    first, second = (
        shapely.polygons(bev_corners(torch.from_numpy(rows)).numpy()) for rows in (boxes, others)
    )
    areas = (boxes[:, 3] * boxes[:, 4])[:, None] + (others[:, 3] * others[:, 4])[None]

    def compute() -> FloatArray:
        common = shapely.area(shapely.intersection(first[:, None], second[None]))
        return np.asarray(common / (areas - common))

    return compute


def mmcv_iou(boxes: FloatArray, others: FloatArray) -> Callable[[], Any]:
    """A function that computes all pairs with mmcv on the CPU."""
    from mmcv.ops import box_iou_rotated

    columns = [0, 1, 3, 4, 6]
    first, second = (torch.as_tensor(rows[:, columns]).float() for rows in (boxes, others))
    return lambda: box_iou_rotated(first, second).numpy()


def main() -> None:
    """Measure, print, write."""
    args = parser_of(__doc__, boxes=1000, repeats=7).parse_args()
    boxes, others = make_boxes(args.boxes, 0), make_boxes(args.boxes, 1)
    few = max(args.boxes // 4, 1)
    exact = iou_bev(boxes, others)
    report = {**facts(), "boxes": args.boxes, "overlapping": float((exact > 0).mean())}
    calls = {
        "ebm3d bev": (lambda: iou_bev(boxes, others), args.boxes),
        "ebm3d 3d": (lambda: iou_3d(boxes, others), args.boxes),
    }
    for name, make in (("shapely", shapely_iou), ("mmcv", mmcv_iou)):
        try:
            calls[name] = make(boxes[:few], others[:few]), few
        except ImportError:
            continue
    rows = {}
    for name, (compute, num) in calls.items():
        seconds = take_turns({"": compute}, args.repeats)
        rates = {kind: spread([num**2 / s for s in seconds[kind][""]]) for kind in seconds}
        rows[name] = {f"pairs per {kind} second": rate for kind, rate in rates.items()}
        if not name.startswith("ebm3d"):
            difference = np.abs(compute() - exact[:few, :few]).max()
            rows[name]["largest difference"] = float(difference)
    print_table(
        f"Rotated IoU, {args.boxes} x {args.boxes}, {report['overlapping']:.0%} overlapping",
        ("", "million pairs/s", "per CPU s", "difference"),
        [
            (
                name,
                shown(row["pairs per clock second"], 1e-6, 3),
                shown(row["pairs per processor second"], 1e-6, 3),
                f"{row['largest difference']:.1e}" if "largest difference" in row else "",
            )
            for name, row in rows.items()
        ],
    )
    write_json(args.json, {**report, "rows": rows})


if __name__ == "__main__":
    main()
