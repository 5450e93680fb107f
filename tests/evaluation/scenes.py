"""Small KITTI scenes for tests: objects by keyword, frames by list."""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm3d.datasets.kitti_frames import KittiFrames, stack_frames
from ebm3d.datasets.kitti_labels import KittiObjects


def make_objects(rows: list[dict[str, Any]], *, scores: bool) -> KittiObjects:
    """Objects from keywords; what is not given is an easy car, 10 m ahead.

    ``x`` and ``z`` are the place in meters; the 2D box follows ``x`` (100 px wide, 60 px high), so
    that objects apart in space are apart in the picture.
    """

    def column(name: str, default: Any, dtype: Any = np.float64) -> np.ndarray:
        return np.array([row.get(name, default) for row in rows], dtype=dtype)

    num = len(rows)
    x, z = column("x", 0.0), column("z", 10.0)
    left = 1000.0 + 100.0 * x + 7.0 * z
    bbox = np.column_stack([left, 0 * left + 100, left + 100, 100 + column("pixels", 60.0)])
    for i, row in enumerate(rows):
        if "bbox" in row:
            bbox[i] = row["bbox"]
    dimensions = column("hwl", (1.5, 1.6, 4.0)).reshape((num, 3))
    location = np.column_stack([x, column("y", 1.7), z])
    dont_care = np.array([row.get("name") == "DontCare" for row in rows], dtype=bool)
    dimensions[dont_care], location[dont_care] = -1.0, -1000.0
    return KittiObjects(
        names=np.array([row.get("name", "Car") for row in rows], dtype=np.str_),
        truncated=column("truncated", 0.0),
        occluded=column("occluded", 0, np.int64),
        alpha=column("alpha", 0.3),
        bbox=bbox.reshape((num, 4)),
        dimensions=dimensions,
        location=location.reshape((num, 3)),
        rotation_y=column("yaw", 0.0),
        score=column("score", 0.5) if scores else None,
    )


def make_frames(frames: list[list[dict[str, Any]]], *, scores: bool) -> KittiFrames:
    """Frames 000000, 000001, ... of ``make_objects``."""
    parts = {f"{i:06d}": make_objects(rows, scores=scores) for i, rows in enumerate(frames)}
    return stack_frames(parts, scores=scores)


def many_cars(num: int, **changes: Any) -> list[list[dict[str, Any]]]:
    """One car a frame, in ``num`` frames."""
    return [[dict(changes)] for _ in range(num)]


def random_scene(
    rng: np.random.Generator, num_frames: int, main: str = "Car"
) -> tuple[KittiFrames, KittiFrames]:
    """Crowded frames, half of ``main``; every kind of label and detection, equal scores too."""
    names = [main] * 6 + ["Van", "Pedestrian", "Person_sitting", "Cyclist", "Truck", "DontCare"]
    labels, detections = [], []
    for _ in range(num_frames):
        truth = []
        for _ in range(rng.integers(0, 9)):
            row = {
                "name": names[rng.integers(len(names))],
                "x": rng.uniform(-6, 6),
                "y": rng.uniform(1.5, 1.8),
                "z": rng.uniform(5, 60),
                "yaw": rng.uniform(-3, 3),
                "alpha": rng.uniform(-3, 3),
                "pixels": float(rng.choice([20.0, 25.0, 30.0, 40.0, 41.0, 60.0])),
                "occluded": int(rng.choice([0, 0, 0, 1, 2, 3])),
                "truncated": float(rng.choice([0.0, 0.0, 0.15, 0.3, 0.4, 0.7])),
            }
            if row["name"] == "DontCare":
                left = 1000.0 + rng.uniform(-300, 300)
                row["bbox"] = (left, 90.0, left + rng.uniform(50, 400), 170.0)
            truth.append(row)
        found = []
        for row in truth:
            for _ in range(rng.integers(0, 3)):
                moved = dict(row, name=row["name"] if row["name"] != "DontCare" else main)
                moved.pop("bbox", None)
                for key, spread in (
                    ("x", 0.3),
                    ("y", 0.1),
                    ("z", 0.3),
                    ("yaw", 0.2),
                    ("alpha", 0.4),
                ):
                    moved[key] = row.get(key, 1.0) + rng.normal() * spread
                moved["pixels"] = row["pixels"] + rng.normal() * 4
                moved["score"] = (
                    float(rng.integers(1, 15)) / 15 if rng.random() < 0.4 else rng.random()
                )
                if rng.random() < 0.15:
                    moved["name"] = names[rng.integers(5, len(names) - 1)]
                found.append(moved)
        found += [
            {
                "name": main,
                "x": rng.uniform(-6, 6),
                "z": rng.uniform(5, 60),
                "score": rng.random() * 0.6,
            }
            for _ in range(rng.integers(0, 3))
        ]
        labels.append(truth)
        detections.append([found[i] for i in rng.permutation(len(found))])
    return make_frames(labels, scores=False), make_frames(detections, scores=True)
