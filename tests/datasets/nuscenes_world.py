"""A small world in nuScenes' layout, made of numbers: a wall, objects at rest and in motion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.nuscenes.poses import rotation_matrices

SCENES = ("scene-0061", "scene-0103")  # of mini_train and mini_val
NUM_SAMPLES, STEPS = 3, 5  # key frames of a scene; sweeps from one to the next
START, STEP = 1_533_000_000_000_000, 50_000  # microseconds
POINTS = 40  # of each object
WALL_X = 30.0  # of a wall's plane, global frame, from the start of the drive
# Category, center at time 0 from the start of the drive, velocity, width, length, height, yaw.
OBJECTS: tuple[tuple[str, tuple[float, ...], tuple[float, ...], tuple[float, ...], float], ...] = (
    ("vehicle.car", (12, 3, 0.9), (0, 0, 0), (1.8, 4.5, 1.6), 0.4),
    ("vehicle.car", (-10, 6, 0.9), (4, 1, 0), (1.9, 4.4, 1.5), 0.24),
    ("human.pedestrian.adult", (5, -7, 1.0), (-1, 0.5, 0), (0.6, 0.7, 1.8), 2.5),
    ("movable_object.trafficcone", (-6, -5, 0.5), (0, 0, 0), (0.4, 0.4, 0.9), 1.0),
    ("static_object.bicycle_rack", (9, -12, 0.6), (0, 0, 0), (1.5, 6.0, 1.1), -0.7),
    ("vehicle.truck", (-20, -12, 1.6), (0, 0, 0), (2.5, 7.0, 3.0), 3.0),  # seen once
)
BARRIER = len(OBJECTS)  # without points
ONCE = 5
Tables = dict[str, list[dict[str, Any]]]


def write_world(
    root: Path, version: str = "v1.0-mini", scenes: tuple[str, ...] = SCENES, seed: int = 0
) -> Tables:
    """Write tables and clouds; return the tables, to change them and write them again."""
    random = np.random.default_rng(seed)
    tables: Tables = {
        "log": [],
        "visibility": [],
        "map": [],
        "attribute": [{"token": "parked", "name": "vehicle.parked"}],
        "category": [],
        "sensor": [
            {"token": "lidar", "channel": "LIDAR_TOP", "modality": "lidar"},
            {"token": "camera", "channel": "CAM_FRONT", "modality": "camera"},
        ],
    }
    for name in ("scene", "sample", "sample_data", "ego_pose", "calibrated_sensor"):
        tables[name] = []
    for name in ("instance", "sample_annotation"):
        tables[name] = []
    for category in {name for name, *_ in OBJECTS} | {"movable_object.barrier"}:
        tables["category"].append({"token": f"category {category}", "name": category})
    tables["category"].sort(key=lambda record: record["name"])
    for index, scene in enumerate(scenes):
        _add_scene(root, tables, index, scene, random)
    write_tables(root / version, tables)
    return tables


def write_tables(folder: Path, tables: Tables) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(records, indent=0))


def start_of(scene: int) -> NDArray[np.float64]:
    """Where a drive begins, global frame."""
    return np.array([600.0 + 300 * scene, 1600.0, 0.0])


def _add_scene(
    root: Path, tables: Tables, index: int, scene: str, random: np.random.Generator
) -> None:
    tables["scene"].append({"token": scene, "name": scene, "log_token": ""})
    quaternion = np.array([0.7067, -0.0153, 0.0174, -0.7071]) + 0.004 * index
    for sensor in ("lidar", "camera"):
        tables["calibrated_sensor"].append(
            {
                "token": f"{scene} {sensor}",
                "sensor_token": sensor,
                "translation": [0.98, 0.01 * index, 1.84],
                "rotation": _unit(quaternion),
            }
        )
    # Boxes are upright for the tilted sensor: points at their faces would be outside.
    of_object = random.uniform(-0.38, 0.38, (len(OBJECTS), POINTS, 3))
    wall = random.uniform((WALL_X, -15, 0), (WALL_X, 15, 4), (100, 3))
    number = (NUM_SAMPLES - 1) * STEPS + 1
    for step in range(number):
        key, time = step % STEPS == 0, START + index * 10**9 + step * STEP
        sample = f"{scene} sample {round(step / STEPS)}"
        if key:
            tables["sample"].append(
                {
                    "token": sample,
                    "timestamp": time,
                    "scene_token": scene,
                    "prev": _linked(f"{scene} sample", step // STEPS - 1, NUM_SAMPLES),
                    "next": _linked(f"{scene} sample", step // STEPS + 1, NUM_SAMPLES),
                }
            )
        seconds = step * STEP / 1e6
        yaw, tilt = 0.3 + 0.5 * seconds + index, 0.02 * np.sin(7 * seconds + index)
        pose = {
            "token": f"{scene} pose {step}",
            "translation": (start_of(index) + [6 * seconds, 2 * seconds**2, 0]).tolist(),
            "rotation": _unit(np.array([np.cos(yaw / 2), tilt, 0.01, np.sin(yaw / 2)])),
        }
        tables["ego_pose"].append(pose)
        name = f"{'samples' if key else 'sweeps'}/LIDAR_TOP/{scene}_{step}.pcd.bin"
        data = {
            "token": f"{scene} data {step}",
            "sample_token": sample,
            "ego_pose_token": pose["token"],
            "calibrated_sensor_token": f"{scene} lidar",
            "filename": name,
            "timestamp": time,
            "is_key_frame": key,
            "prev": _linked(f"{scene} data", step - 1, number),
            "next": _linked(f"{scene} data", step + 1, number),
        }
        tables["sample_data"].append(data)
        camera = {"token": f"{data['token']} camera", "calibrated_sensor_token": f"{scene} camera"}
        tables["sample_data"].append(data | camera | {"prev": "", "next": ""})
        points = np.concatenate([_object_points(of_object, seconds).reshape(-1, 3), wall])
        calibration = tables["calibrated_sensor"][2 * index]
        _write_cloud(root / name, points + start_of(index), pose, calibration, random)
    for row in range(BARRIER + 1):
        _add_instance(tables, index, scene, row)


def _add_instance(tables: Tables, index: int, scene: str, row: int) -> None:
    """The labels of an object, in all key frames but for the one seen once."""
    barrier = ("movable_object.barrier", (20, 9, 0.5), (0, 0, 0), (2.0, 0.5, 1.0), 0.1)
    category, center, velocity, size, yaw = (*OBJECTS, barrier)[row]
    instance = f"{scene} instance {row}"
    tables["instance"].append({"token": instance, "category_token": f"category {category}"})
    steps = [1] if row == ONCE else range(NUM_SAMPLES)
    for step in steps:
        moved = np.array(velocity) * step * STEPS * STEP / 1e6
        is_alone, has_points = len(steps) == 1, row != BARRIER
        tables["sample_annotation"].append(
            {
                "token": f"{instance} {step}",
                "sample_token": f"{scene} sample {step}",
                "instance_token": instance,
                "attribute_tokens": ["parked"] if category == "vehicle.car" else [],
                "translation": (start_of(index) + center + moved).tolist(),
                "size": list(size),
                "rotation": [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)],
                "prev": "" if is_alone else _linked(instance, step - 1, NUM_SAMPLES),
                "next": "" if is_alone else _linked(instance, step + 1, NUM_SAMPLES),
                "num_lidar_pts": POINTS * has_points,
                "num_radar_pts": 0,
            }
        )


def _object_points(unit: NDArray[np.float64], seconds: float) -> NDArray[np.float64]:
    """Points of all objects, from the start of the drive, from those in a unit cube."""
    result = np.empty_like(unit)
    for i, (_, center, velocity, (width, length, height), yaw) in enumerate(OBJECTS):
        x, y, z = (unit[i] * [length, width, height]).T
        turned = [np.cos(yaw) * x - np.sin(yaw) * y, np.sin(yaw) * x + np.cos(yaw) * y, z]
        result[i] = np.transpose(turned) + center + np.array(velocity) * seconds
    return result


def _write_cloud(
    path: Path,
    points: NDArray[np.float64],
    pose: dict[str, Any],
    calibration: dict[str, Any],
    random: np.random.Generator,
) -> None:
    """Points of the global frame as the LiDAR sees them."""
    for frame in (pose, calibration):
        points = (points - frame["translation"]) @ rotation_matrices(frame["rotation"])
    others = random.integers(0, (256, 32), (len(points), 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.column_stack([points, others]).astype("<f4").tobytes())


def _unit(quaternion: NDArray[np.float64]) -> list[float]:
    return (quaternion / np.linalg.norm(quaternion)).tolist()


def _linked(name: str, number: int, end: int) -> str:
    return f"{name} {number}" if 0 <= number < end else ""
