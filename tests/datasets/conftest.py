"""A small data set in the KITTI layout, made of numbers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ebm3d.datasets import (
    KittiCalibration,
    KittiObjects,
    boxes_from_camera,
    boxes_to_camera,
    write_calibration,
    write_cloud,
    write_labels,
)

TRAIN = ("000000", "000001", "000002", "000003")
VAL = ("000004", "000005")
_CLASSES = {
    "000000": ("DontCare", "Car", "Car"),
    "000001": (),
    "000002": ("DontCare",),
    "000003": ("Pedestrian", "Cyclist", "Truck", "Tram", "Person_sitting", "Misc", "Van"),
    "000004": ("Car", "DontCare"),
    "000005": ("Cyclist",),
}


@dataclass(frozen=True)
class Tree:
    """The root of the data set, and shorthands for its files."""

    root: Path

    def label(self, frame_id: str) -> Path:
        return self.root / "training" / "label_2" / f"{frame_id}.txt"

    def calibration(self, frame_id: str) -> Path:
        return self.root / "training" / "calib" / f"{frame_id}.txt"

    def cloud(self, frame_id: str, folder: str = "velodyne") -> Path:
        return self.root / "training" / folder / f"{frame_id}.bin"

    def image(self, frame_id: str) -> Path:
        return self.root / "training" / "image_2" / f"{frame_id}.png"

    def write_image_header(self, frame_id: str, width: int, height: int) -> None:
        self.image(frame_id).parent.mkdir(exist_ok=True)
        chunk = struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0)
        self.image(frame_id).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)


@pytest.fixture
def calibration() -> KittiCalibration:
    """Matrices like KITTI's: axes permuted, rotated by a degree or so, shifted by decimeters."""
    return make_calibration(tilt=0.02)


def make_calibration(tilt: float) -> KittiCalibration:
    """Cameras that look along the LiDAR's x axis, tilted by ``tilt`` radians."""
    cosine, sine = np.cos(tilt), np.sin(tilt)
    permutation = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
    roll = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    nod = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
    shift = np.array([[0.01], [-0.08], [-0.27]])
    projections = [
        np.array([[720.0, 0.0, 610.0, x], [0.0, 720.0, 173.0, 0.2], [0.0, 0.0, 1.0, 0.003]])
        for x in (0.0, -387.0, 45.0, -340.0)
    ]
    imu = np.hstack([np.eye(3), [[-0.81], [0.32], [-0.8]]])
    return KittiCalibration(*projections, nod, np.hstack([roll @ permutation, shift]), imu)


@pytest.fixture
def kitti_tree(tmp_path: Path, rng: np.random.Generator, calibration: KittiCalibration) -> Tree:
    """Four training and two validation frames with full scans, without images and planes."""
    tree = Tree(tmp_path / "kitti")
    for name in ("ImageSets", "training/calib", "training/label_2", "training/velodyne"):
        (tree.root / name).mkdir(parents=True)
    (tree.root / "ImageSets" / "train.txt").write_text("\n".join(TRAIN) + "\n")
    (tree.root / "ImageSets" / "val.txt").write_text("\n".join(VAL) + "\n")
    for frame_id, names in _CLASSES.items():
        objects = _make_objects(names, rng, calibration)
        write_calibration(tree.calibration(frame_id), calibration)
        write_labels(tree.label(frame_id), objects, decimals=2)
        write_cloud(tree.cloud(frame_id), _make_cloud(objects, rng, calibration))
    return tree


def _make_objects(
    names: tuple[str, ...], rng: np.random.Generator, calibration: KittiCalibration
) -> KittiObjects:
    """Objects side by side, in the camera's view; every number with two decimals."""
    num = len(names)
    boxes = np.zeros((num, 7))
    boxes[:, 0] = 14.0 + 2.0 * np.arange(num)
    boxes[:, 1] = 2.5 * (np.arange(num) - num / 2)
    boxes[:, 2] = -1.7
    boxes[:, 3:6] = rng.uniform([1.0, 0.6, 1.4], [4.4, 1.9, 1.9], size=(num, 3))
    boxes[:, 6] = rng.uniform(-np.pi, np.pi, size=num)
    location, dimensions, rotation_y = boxes_to_camera(boxes, calibration)
    left = np.linspace(100.0, 900.0, num)
    bbox = np.column_stack([left, 0 * left + 150, left + 60, np.linspace(170.0, 230.0, num)])
    table = np.column_stack(
        [np.zeros(num), np.arange(num) % 4, rotation_y, bbox, dimensions, location, rotation_y]
    ).round(2)
    table[np.array(names, dtype=np.str_) == "DontCare"] = [
        *(-1, -1, -10, 100, 150, 160, 170, -1, -1, -1, -1000, -1000, -1000, -10)
    ]
    return KittiObjects.from_table(np.array(names, dtype=np.str_), table)


def _make_cloud(
    objects: KittiObjects, rng: np.random.Generator, calibration: KittiCalibration
) -> np.ndarray:
    """Points all around, and some in every box."""
    clouds = [rng.uniform([-40, -40, -2, 0], [40, 40, 1, 1], size=(1500, 4))]
    objects = objects.select(objects.names != "DontCare")
    fields = (objects.location, objects.dimensions, objects.rotation_y)
    for box in boxes_from_camera(*fields, calibration):
        local = rng.uniform([-0.5, -0.5, 0], [0.5, 0.5, 1], size=(30, 3)) * box[3:6]
        cosine, sine = np.cos(box[6]), np.sin(box[6])
        rotation = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        clouds.append(np.hstack([box[:3] + local @ rotation.T, rng.uniform(size=(30, 1))]))
    cloud = np.vstack(clouds)
    # Keep clear of the camera, where pixels depend on the last digit.
    return cloud[np.linalg.norm(cloud[:, :3], axis=1) > 1.5].astype(np.float32)


@pytest.fixture
def scenes(rng: np.random.Generator) -> dict[str, tuple[list[str], np.ndarray, np.ndarray]]:
    """The scene of each of ``FRAMES``."""
    from tests.datasets.scenes import FRAMES, make_scene

    return {frame_id: make_scene(rng) for frame_id in FRAMES}
