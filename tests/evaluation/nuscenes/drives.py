"""Random drives as nuScenes tables, and random detections of them: what the tests evaluate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ebm3d.datasets.nuscenes.classes import ATTRIBUTES, CLASS_OF_CATEGORY, CLASSES

RACK = "static_object.bicycle_rack"
VERSION = "v1.0-mini"
META = {f"use_{kind}": kind == "lidar" for kind in ("camera", "lidar", "radar", "map", "external")}
CATEGORIES = (*CLASS_OF_CATEGORY, RACK, "animal")
_RANGE = 60.0


def quaternion(rng: np.random.Generator) -> list[float]:
    """A heading with some roll and pitch."""
    yaw = rng.uniform(-np.pi, np.pi)
    q = np.array([np.cos(yaw / 2), *rng.normal(0, 0.02, 2), np.sin(yaw / 2)])
    return (q / np.linalg.norm(q)).tolist()


def write_drives(
    root: Path,
    rng: np.random.Generator,
    *,
    num_samples: int = 6,
    num_labels: int = 30,
    classes: tuple[str, ...] = CLASSES,
    scenes: tuple[str, ...] = ("scene-0103", "scene-0916"),
) -> None:
    """Write the 13 tables of drives with labels of some classes, racks and animals."""
    names = [c for c in CATEGORIES if CLASS_OF_CATEGORY.get(c, classes[0]) in classes]
    tables: dict[str, list[dict[str, Any]]] = {
        "category": [{"token": name, "name": name} for name in CATEGORIES],
        "attribute": [{"token": name, "name": name} for name in ATTRIBUTES],
        "sensor": [{"token": "lidar", "channel": "LIDAR_TOP", "modality": "lidar"}],
        "map": [{"token": "map", "filename": "maps/none.png", "log_tokens": ["log"]}],
        "log": [{"token": "log"}],
        "visibility": [],
        "scene": [{"token": name, "name": name} for name in scenes],
    }
    for name in ("calibrated_sensor", "ego_pose", "sample", "sample_data"):
        tables[name] = []
    tables |= {"instance": [], "sample_annotation": []}
    tables["calibrated_sensor"].append(
        {
            "token": "calibration",
            "sensor_token": "lidar",
            "translation": [0.9, 0.0, 1.8],
            "rotation": quaternion(rng),
        }
    )
    for scene in scenes:
        _add_scene(tables, rng, scene, num_samples, num_labels, names)
    (root / VERSION).mkdir(parents=True)
    (root / "maps").mkdir()
    (root / "maps" / "none.png").touch()
    for name, records in tables.items():
        (root / VERSION / f"{name}.json").write_text(json.dumps(records))


def _add_scene(
    tables: Mapping[str, list[dict[str, Any]]],
    rng: np.random.Generator,
    scene: str,
    num_samples: int,
    num_labels: int,
    categories: list[str],
) -> None:
    """Samples of one scene, whose objects are annotated in some of them."""
    tokens = [f"{scene}-{i}" for i in range(num_samples)]
    links = list(zip(["", *tokens[:-1]], [*tokens[1:], ""], strict=True))
    ego = rng.uniform(200, 900, 3)
    for i, (token, (before, after)) in enumerate(zip(tokens, links, strict=True)):
        time = {"token": token, "timestamp": 1_000_000 + 500_000 * i, "prev": before, "next": after}
        tables["sample"].append({**time, "scene_token": scene})
        place = [*(ego + i * np.array([3.0, 1.0, 0.0])).tolist()]
        tables["ego_pose"].append(
            {"token": token, "translation": place, "rotation": quaternion(rng)}
        )
        keys = {"ego_pose_token": token, "calibrated_sensor_token": "calibration"}
        file = {"filename": f"samples/LIDAR_TOP/{token}.pcd.bin", "is_key_frame": True}
        tables["sample_data"].append({**time, "sample_token": token, **keys, **file})
    for j in range(num_labels):
        category = categories[rng.integers(len(categories))]
        name = f"{scene}-{j}"
        tables["instance"].append({"token": name, "category_token": category})
        seen = np.flatnonzero(rng.random(num_samples) < 0.8).tolist()
        own = [f"{name}-{i}" for i in seen]
        center = ego + [*rng.uniform(-_RANGE, _RANGE, 2), rng.normal(0, 1)]
        velocity = rng.normal(0, 2, 3) * [1, 1, 0.05] * (rng.random() < 0.6)
        size = np.exp(rng.normal(0.7, 0.4, 3)) * (3 if category == RACK else 1)
        for i, before, after in zip(seen, ["", *own[:-1]], [*own[1:], ""], strict=True):
            attribute = [ATTRIBUTES[rng.integers(len(ATTRIBUTES))]] if rng.random() < 0.8 else []
            tables["sample_annotation"].append(
                {
                    "token": f"{name}-{i}",
                    "sample_token": tokens[i],
                    "instance_token": name,
                    "attribute_tokens": attribute,
                    "translation": (center + 0.5 * i * velocity).round(3).tolist(),
                    "size": size.round(3).tolist(),
                    "rotation": quaternion(rng),
                    "prev": before,
                    "next": after,
                    "num_lidar_pts": int(rng.integers(0, 4)),
                    "num_radar_pts": int(rng.integers(0, 2)),
                }
            )


def random_results(
    root: Path,
    rng: np.random.Generator,
    *,
    classes: tuple[str, ...] = CLASSES,
    score: float | None = None,
) -> dict[str, Any]:
    """Detect some labels, some twice, some of another class, and clutter; scores have ties."""
    tables = {
        name: json.loads((root / VERSION / f"{name}.json").read_text())
        for name in ("sample", "instance", "sample_annotation")
    }
    category_of = {record["token"]: record["category_token"] for record in tables["instance"]}
    results: dict[str, list[dict[str, Any]]] = {r["token"]: [] for r in tables["sample"]}
    for label in tables["sample_annotation"]:
        name = CLASS_OF_CATEGORY.get(category_of[label["instance_token"]])
        for _ in range(rng.integers(0, 3)):
            if name is None or rng.random() < 0.15:
                name = classes[rng.integers(len(classes))]
            if name not in classes:
                continue
            shift = rng.normal(0, rng.choice([0.2, 1.0, 3.0]), 3) * [1, 1, 0.2]
            velocity = rng.normal(0, 2, 2) if rng.random() < 0.8 else np.full(2, np.nan)
            results[label["sample_token"]].append(
                {
                    "sample_token": label["sample_token"],
                    "translation": (label["translation"] + shift).tolist(),
                    "size": (label["size"] * np.exp(rng.normal(0, 0.2, 3))).tolist(),
                    "rotation": label["rotation"] if rng.random() < 0.5 else quaternion(rng),
                    "velocity": velocity.tolist(),
                    "detection_name": name,
                    "detection_score": round(rng.random(), 1) if score is None else score,
                    "attribute_name": rng.choice(["", *ATTRIBUTES]).item(),
                }
            )
    tokens = [*results]
    results[tokens[0]] = []
    rng.shuffle(tokens)
    return {"meta": META, "results": {token: results[token] for token in tokens}}
