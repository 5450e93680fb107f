"""Two simulated frames in KITTI's layout, detections of them, and an energy of five steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ebm3d.commands import main
from ebm3d.datasets import read_labels, write_labels
from ebm3d.simulation import write_dataset


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders clouds, labels, calib and detections, and energy.pt."""
    root = tmp_path_factory.mktemp("commands")
    write_dataset(root / "made", num_train=2, num_val=0, seed=3, workers=1, progress=False)
    names = {"velodyne_reduced": "clouds", "label_2": "labels", "calib": "calib"}
    for old, new in names.items():
        (root / "made" / "training" / old).rename(root / new)
    (root / "detections").mkdir()
    rng = np.random.default_rng(0)
    for path in sorted((root / "labels").iterdir()):
        objects = read_labels(path)
        objects = objects.select(np.flatnonzero(objects.names != "DontCare"))
        moved = objects.location + 0.08 * rng.normal(size=objects.location.shape)
        scored = replace(objects, location=moved, score=4 * rng.random(len(objects)) - 2)
        write_labels(root / "detections" / path.name, scored)
    assert main([*train_arguments(root), "--out", str(root / "energy.pt")]) == 0
    return root


def train_arguments(data: Path) -> list[str]:
    """A training of five steps on cars and vans."""
    paths = [str(data / "labels"), str(data / "clouds"), "--calib", str(data / "calib")]
    rest = ["--map", "Van=Car", "--classes", "Car", "--steps", "5", "--val-share", "0.5"]
    return ["train-energy", *paths, *rest, "--device", "cpu"]


def refine_arguments(data: Path) -> list[str]:
    """A refinement by that energy."""
    paths = [str(data / "detections"), str(data / "clouds"), "--calib", str(data / "calib")]
    energy = ["--energy", str(data / "energy.pt"), "--map", "Van=Car"]
    return ["refine", *paths, *energy, "--device", "cpu"]
