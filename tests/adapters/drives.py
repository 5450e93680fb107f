"""A tiny data set in the host's nuScenes infos, and sweeps from a moving sensor."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.datasets.nuscenes.poses import rotation_matrices

FloatArray = NDArray[np.float64]
# Returns of the ego car in the frame of its sensor, m: roof, hood, tail.
EGO_RETURNS = np.array([[0.0, 0.2, -0.3], [0.4, 2.3, -0.9], [-0.9, -1.5, -0.8]])
_METAINFO = {"dataset": "nuscenes", "version": "v1.0-tiny", "split": "", "info_version": "1.1"}
_SIZES = {  # length, width, height
    "car": (4.6, 1.95, 1.73),
    "truck": (6.9, 2.5, 2.8),
    "trailer": (12.3, 2.9, 3.9),
    "bus": (11.2, 2.9, 3.5),
    "construction_vehicle": (6.4, 2.8, 3.2),
    "bicycle": (1.7, 0.6, 1.3),
    "motorcycle": (2.1, 0.77, 1.47),
    "pedestrian": (0.73, 0.67, 1.77),
    "traffic_cone": (0.41, 0.41, 1.07),
    "barrier": (0.5, 2.5, 0.98),
}


def transform(rotation: Any, translation: Any) -> FloatArray:
    """A homogeneous matrix (4, 4) of a quaternion (w, x, y, z) or matrix and a translation."""
    matrix = np.eye(4)
    rotation = np.asarray(rotation, dtype=float)
    matrix[:3, :3] = rotation_matrices(rotation) if rotation.shape == (4,) else rotation
    matrix[:3, 3] = translation
    return matrix


def sweep_entry(path: str, to_key: FloatArray, timestamp: float) -> dict[str, Any]:
    """A sweep as the host's infos hold it; ``to_key`` takes its points to the key frame."""
    lidar2sensor = np.linalg.inv(to_key).astype(np.float32).tolist()
    return {
        "lidar_points": {"lidar_path": path, "lidar2sensor": lidar2sensor},
        "timestamp": timestamp,
    }


def write_cloud(path: Path, points: Any, intensity: float = 128.0) -> None:
    """Points (P, 3) as nuScenes stores them: x, y, z, intensity, ring."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rest = np.broadcast_to([intensity, 5.0], (len(points), 2))
    np.hstack([points, rest]).astype(np.float32).tofile(path)


def write_drive(root: Path, splits: dict[str, int], *, num_sweeps: int = 10, seed: int = 0) -> None:
    """Write clouds, infos and the database of objects of a drive past a car of every class.

    Args:
        root: receives ``samples``, ``sweeps``, the infos and ``nuscenes_gt_database``.
        splits: number of key frames by name of the split.
        num_sweeps: before each key frame but the first, which has none.
        seed: of the boxes and their points.
    """
    rng = np.random.default_rng(seed)
    for split, num_frames in splits.items():
        frames = [_write_frame(root, f"{split}_{i}", i, num_sweeps, rng) for i in range(num_frames)]
        categories = {name: label for label, name in enumerate(CLASSES)}
        infos = {"metainfo": {**_METAINFO, "categories": categories}, "data_list": frames}
        (root / f"nuscenes_infos_{split}.pkl").write_bytes(pickle.dumps(infos))
    database = {name: _write_objects(root, name, rng) for name in CLASSES}
    (root / "nuscenes_dbinfos_train.pkl").write_bytes(pickle.dumps(database))


def _write_frame(
    root: Path, name: str, index: int, num_sweeps: int, rng: np.random.Generator
) -> dict[str, Any]:
    """One key frame with its sweeps: two objects of each class within 40 m."""
    instances, clouds = [], [rng.uniform((-45, -45, -1.9), (45, 45, -1.7), (4000, 3))]
    for label, kind in enumerate(CLASSES):
        for number in range(2):
            size = np.array(_SIZES[kind])
            center = np.array([*rng.uniform(-40, 40, 2), size[2] / 2 - 1.8])
            clouds.append(center + size * rng.uniform(-0.5, 0.5, (60, 3)))
            instances.append(
                {
                    "bbox_3d": [*center, *size, 0.0],
                    "bbox_label": label,
                    "bbox_label_3d": label,
                    "bbox_3d_isvalid": True,
                    "num_lidar_pts": 60,
                    "num_radar_pts": 0,
                    "velocity": [1.0, -2.0] if number == 0 else [np.nan, np.nan],
                }
            )
    points, timestamp = np.concatenate(clouds), 1000.0 + 0.5 * index
    file = f"{name}.pcd.bin"
    write_cloud(root / "samples" / "LIDAR_TOP" / file, points)
    info: dict[str, Any] = {
        "sample_idx": index,
        "token": name,
        "timestamp": timestamp,
        "ego2global": np.eye(4).tolist(),
        "lidar_points": {
            "num_pts_feats": 5, "lidar_path": file, "lidar2ego": np.eye(4).tolist(),
        },
        "instances": instances,
    }  # fmt: skip
    for sweep in range(num_sweeps if index else 0):
        file, lag = f"{name}_{sweep}.pcd.bin", 0.05 * (sweep + 1)
        to_key = transform(np.eye(3), (0, -5 * lag, 0))
        write_cloud(root / "sweeps" / "LIDAR_TOP" / file, points - to_key[:3, 3])
        entry = sweep_entry(f"{root}/sweeps/LIDAR_TOP/{file}", to_key, timestamp - lag)
        info.setdefault("lidar_sweeps", []).append(entry)
    return info


def _write_objects(root: Path, name: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Three objects of a class for the ground-truth sampler, the last without a velocity."""
    size, entries = np.array(_SIZES[name]), []
    for number in range(3):
        path = f"nuscenes_gt_database/{name}_{number}.bin"
        points = size * (rng.uniform(0, 1, (40, 3)) - (0.5, 0.5, 0))
        write_cloud(root / path, points)
        velocity = [np.nan] * 2 if number == 2 else [0.5, 0.5]
        box = [*rng.uniform(-40, 40, 2), -1.8, *size, 0.3, *velocity]
        entries.append(
            {
                "name": name,
                "path": path,
                "box3d_lidar": np.array(box, dtype=np.float32),
                "num_points_in_gt": 40,
                "difficulty": 0,
            }
        )
    return entries
