"""Road users on a plane with points on their faces, in the layouts that are prepared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ebm3d.datasets import (
    KittiCalibration,
    KittiObjects,
    boxes_to_camera,
    write_calibration,
    write_cloud,
    write_labels,
)
from tests.datasets.conftest import make_calibration

FRAMES = tuple(f"{i:06d}" for i in range(5))
SIZES = {  # length, width, height
    "Car": (3.9, 1.6, 1.5),
    "Van": (4.9, 1.9, 2.2),
    "Cyclist": (1.8, 0.6, 1.75),
    "Pedestrian": (0.8, 0.7, 1.7),
}
CALIBRATION = make_calibration(tilt=0.01)
Change = Callable[[KittiObjects], KittiObjects]
Scenes = dict[str, tuple[list[str], np.ndarray, np.ndarray]]


def make_scene(rng: np.random.Generator) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, boxes and points of road users on a plane: a column each, points on their faces."""
    names = [*("Car",) * 3, "Van", "Cyclist", "Pedestrian"]
    boxes = np.zeros((len(names), 7))
    boxes[:, 0] = rng.uniform(8, 30, len(names))
    boxes[:, 1] = boxes[:, 0] * (np.arange(len(names)) - 2.5) / 5
    boxes[:, 2], boxes[:, 6] = -1.7, rng.uniform(-np.pi, np.pi, len(names))
    boxes[:, 3:6] = [SIZES[name] for name in names] * rng.uniform(0.95, 1.05, (len(names), 1))
    clouds = [
        np.column_stack([rng.uniform(2, 45, 1500), rng.uniform(-25, 25, 1500), [-1.72] * 1500])
    ]
    for box in boxes:
        local = rng.uniform([-0.5, -0.5, 0.02], [0.5, 0.5, 0.98], (150, 3))
        face = rng.integers(4, size=150)
        local[np.arange(150), face // 2] = np.where(face % 2, 0.495, -0.495)
        local *= box[3:6]
        cosine, sine = np.cos(box[6]), np.sin(box[6])
        clouds.append(
            local @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]]) + box[:3]
        )
    cloud = np.concatenate(clouds)
    return names, boxes, np.column_stack([cloud, np.full(len(cloud), 0.3)]).astype(np.float32)


def to_objects(names: list[str], boxes: np.ndarray) -> KittiObjects:
    location, dimensions, rotation_y = boxes_to_camera(boxes, CALIBRATION)
    num = len(names)
    left = np.linspace(100, 900, num)
    bbox = np.column_stack([left, np.full(num, 150.0), left + 60, np.full(num, 230.0)])
    table = np.column_stack(
        [np.zeros((num, 2)), rotation_y, bbox, dimensions, location, rotation_y]
    )
    return KittiObjects.from_table(np.array(names), table)


def write_lists(root: Path, frames: tuple[str, ...] = FRAMES) -> None:
    (root / "ImageSets").mkdir(parents=True)
    (root / "ImageSets" / "train.txt").write_text("\n".join(frames[:-2]) + "\n")
    (root / "ImageSets" / "val.txt").write_text("\n".join(frames[-2:]) + "\n")


def write_kitti(
    root: Path,
    scenes: Scenes,
    change: Change = lambda objects: objects,
    calibration: KittiCalibration = CALIBRATION,
) -> Path:
    write_lists(root)
    for name in ("calib", "label_2", "velodyne_reduced"):
        (root / "training" / name).mkdir(parents=True)
    for frame_id, (names, boxes, points) in scenes.items():
        objects = change(to_objects(names, boxes))
        write_labels(root / "training" / "label_2" / f"{frame_id}.txt", objects)
        write_calibration(root / "training" / "calib" / f"{frame_id}.txt", calibration)
        write_cloud(root / "training" / "velodyne_reduced" / f"{frame_id}.bin", points)
    return root


def write_custom(root: Path, scenes: Scenes, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """LiDAR-frame labels in ``labels``, as changed from boxes whose z is the center's."""
    write_lists(root)
    (root / "labels").mkdir()
    (root / "points").mkdir()
    for frame_id, (names, boxes, points) in scenes.items():
        rows = change(boxes + np.outer(boxes[:, 5], [0, 0, 0.5, 0, 0, 0, 0])).tolist()
        lines = [f"{' '.join(map(repr, r))} {n}\n" for r, n in zip(rows, names, strict=True)]
        (root / "labels" / f"{frame_id}.txt").write_text("".join(lines))
        write_cloud(root / "points" / f"{frame_id}.bin", points)
    return root
