"""The 13 tables of nuScenes, of simulated drives."""

from __future__ import annotations

from hashlib import md5
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.nuscenes.classes import ATTRIBUTES, CLASS_OF_CATEGORY
from ebm3d.datasets.nuscenes.poses import yaw_quaternions
from ebm3d.simulation.drives.annotations import KeyFrame, annotated, attribute
from ebm3d.simulation.drives.drive import SWEEPS, Drive

Record = dict[str, Any]
FloatArray = NDArray[np.float64]
VERSION = "v1.0-sim"
CHANNEL = "LIDAR_TOP"
MAP = "maps/none.png"
DRIVE_TABLES = (
    "log",
    "scene",
    "calibrated_sensor",
    "sample",
    "sample_data",
    "ego_pose",
    "instance",
    "sample_annotation",
)
LEVELS = ("v0-40", "v40-60", "v60-80", "v80-100")
START = 1_600_000_000_000_000  # microseconds, of the first drive
_PERIOD = 50_000  # microseconds, between two sweeps
_APART = 1_000_000_000  # microseconds, between two drives
_CATEGORY = {name: category for category, name in reversed(CLASS_OF_CATEGORY.items())}
_CATEGORY["bus"] = "vehicle.bus.rigid"


def token(*parts: object) -> str:
    """32 hexadecimal digits that stand for these parts."""
    return md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def shared_tables(logs: list[str]) -> dict[str, list[Record]]:
    """Tables that all drives share; ``logs`` are the tokens of their logs."""
    named = {"category": CLASS_OF_CATEGORY, "attribute": ATTRIBUTES}
    tables: dict[str, list[Record]] = {
        table: [{"token": token(table, n), "name": n, "description": ""} for n in names]
        for table, names in named.items()
    }
    tables["visibility"] = [
        {"token": str(i + 1), "level": level, "description": ""} for i, level in enumerate(LEVELS)
    ]
    sensor = {"token": token("sensor", CHANNEL), "channel": CHANNEL, "modality": "lidar"}
    tables["sensor"] = [sensor]
    record = {"token": token("map"), "log_tokens": logs, "category": "none", "filename": MAP}
    tables["map"] = [record]
    return tables


def cloud_name(scene: str, place: int, step: int) -> str:
    """File of a sweep, relative to the data set; ``place`` counts all drives of all splits."""
    folder = "sweeps" if step % SWEEPS else "samples"
    return f"{folder}/{CHANNEL}/{scene}__{CHANNEL}__{_time(place, step)}.pcd.bin"


def drive_tables(
    scene: str, place: int, drive: Drive, frames: list[KeyFrame]
) -> dict[str, list[Record]]:
    """Records of one drive, by table, from its K key frames."""
    scene_token, log = token(scene, "scene"), token(scene, "log")
    calibration = token(scene, "calibrated_sensor")
    samples = [token(scene, "sample", k) for k in range(len(frames))]
    steps = range((len(frames) - 1) * SWEEPS + 1)
    data = [token(scene, "sample_data", step) for step in steps]
    sample = [
        {"token": t, "timestamp": _time(place, k * SWEEPS), "scene_token": scene_token, **links}
        for k, (t, links) in enumerate(zip(samples, _links(samples), strict=True))
    ]
    sample_data = [
        {
            "token": data[step],
            "sample_token": samples[-(-step // SWEEPS)],  # the next one, as in nuScenes
            "ego_pose_token": data[step],
            "calibrated_sensor_token": calibration,
            "timestamp": _time(place, step),
            "fileformat": "pcd",
            "is_key_frame": step % SWEEPS == 0,
            "height": 0,
            "width": 0,
            "filename": cloud_name(scene, place, step),
            **links,
        }
        for step, links in zip(steps, _links(data), strict=True)
    ]
    ego_pose = [
        {"token": data[step], "timestamp": _time(place, step), **_pose(drive.ego[step])}
        for step in steps
    ]
    instances, annotations = _annotations(scene, samples, drive, frames)
    log_record = {
        "token": log,
        "logfile": scene,
        "vehicle": "simulated",
        "date_captured": "2020-09-13",
        "location": "simulated",
    }
    scene_record = {
        "token": scene_token,
        "log_token": log,
        "nbr_samples": len(samples),
        "first_sample_token": samples[0],
        "last_sample_token": samples[-1],
        "name": scene,
        "description": "simulated",
    }
    sensor = {
        "token": calibration,
        "sensor_token": token("sensor", CHANNEL),
        **_pose(drive.lidar),
        "camera_intrinsic": [],
    }
    tables = ([log_record], [scene_record], [sensor], sample, sample_data, ego_pose)
    return dict(zip(DRIVE_TABLES, (*tables, instances, annotations), strict=True))


def _annotations(
    scene: str, samples: list[str], drive: Drive, frames: list[KeyFrame]
) -> tuple[list[Record], list[Record]]:
    """Instances of a drive and their annotations, one after the other."""
    instances, annotations = [], []
    kept = annotated(frames)
    for i, actor in enumerate(actor for actor in drive.actors if actor.name):
        shown = np.flatnonzero(kept[:, i])
        if len(shown) == 0:
            continue
        instance = token(scene, "instance", i)
        tokens = [token(scene, "sample_annotation", i, k) for k in shown]
        instances.append(
            {
                "token": instance,
                "category_token": token("category", _CATEGORY[actor.name]),
                "nbr_annotations": len(shown),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
        )
        for k, name, links in zip(shown, tokens, _links(tokens), strict=True):
            frame = frames[k]
            x, y, z, dx, dy, dz, yaw = frame.boxes[i].tolist()
            what = attribute(actor.name, actor.state, frame.speeds[i])
            annotations.append(
                {
                    "token": name,
                    "sample_token": samples[k],
                    "instance_token": instance,
                    "visibility_token": str(frame.visibility[i]),
                    "attribute_tokens": [] if what is None else [token("attribute", what)],
                    "translation": [x, y, round(z + dz / 2, 3)],
                    "size": [dy, dx, dz],
                    "rotation": yaw_quaternions(yaw).tolist(),
                    **links,
                    "num_lidar_pts": int(frame.num_points[i]),
                    "num_radar_pts": 0,
                }
            )
    return instances, annotations


def _links(tokens: list[str]) -> list[Record]:
    """``prev`` and ``next`` of the records of a chain."""
    around = ["", *tokens, ""]
    return [{"prev": p, "next": n} for p, n in zip(around[:-2], around[2:], strict=True)]


def _pose(pose: FloatArray) -> Record:
    """Translation and rotation of a pose ``(7,)``."""
    return {"translation": pose[:3].tolist(), "rotation": pose[3:].tolist()}


def _time(place: int, step: int) -> int:
    """Time stamp of a sweep, microseconds."""
    return START + place * _APART + step * _PERIOD
