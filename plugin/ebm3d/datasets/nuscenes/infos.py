"""Info files of nuScenes as MMDetection3D 1.x reads them: version 1.1.

For ``NuScenesDataset`` and ``NuScenesMetric`` of mmdet3d 1.4.0. All values are plain Python
numbers, lists and strings: the pickled bytes depend on the data alone.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ebm3d.datasets.nuscenes.classes import ATTRIBUTES, CLASSES
from ebm3d.datasets.nuscenes.frames import lidar_boxes, sweep_transforms, sweeps_of
from ebm3d.datasets.nuscenes.poses import headings
from ebm3d.datasets.nuscenes.tables import NuScenesTables

NUM_FEATURES = 5  # x, y, z, intensity, ring
_PROTOCOL = 3  # of pickle: it numbers its memo, so that parts can be joined


def metainfo(version: str, split: str) -> dict[str, Any]:
    """What the info file of a split says of itself."""
    return {
        "categories": {name: label for label, name in enumerate(CLASSES)},
        "dataset": "nuscenes",
        "version": version,
        "split": split,
        "info_version": "1.1",
    }


def frame_info(tables: NuScenesTables, sample: int, index: int, max_sweeps: int) -> dict[str, Any]:
    """Info of a key frame, the one of number ``index`` in its file.

    Without ``lidar_sweeps`` where there are none, by which the host knows. Beyond the host's
    fields, a frame has the name of its ``scene``, and an instance has its token, the category of
    the tables, ``velocity_isvalid``, ``attr_label`` (index in ``ATTRIBUTES``, their number for
    none), and ``global_box``: center, length, width, height, yaw, vx, vy in the global frame.
    """
    sweeps, row = tables.sweeps, tables.samples.sweeps[sample]
    info = {
        "sample_idx": index,
        "token": tables.samples.tokens[sample],
        "timestamp": int(tables.samples.timestamps[sample]) / 1e6,
        "scene": tables.scenes[tables.samples.scenes[sample]],
        "ego2global": sweeps.ego_to_global(row).tolist(),
        "images": {},
        "lidar_points": {
            "num_pts_feats": NUM_FEATURES,
            "lidar_path": Path(sweeps.filenames[row]).name,
            "lidar2ego": sweeps.lidar_to_ego(row).tolist(),
        },
        "instances": _instances(tables, sample),
    }
    if past := _sweeps(tables, sample, max_sweeps):
        info["lidar_sweeps"] = past
    return info


def write_infos(path: Path, meta: dict[str, Any], infos: Iterable[dict[str, Any]]) -> None:
    """Pickle ``{"metainfo": meta, "data_list": [*infos]}``; memory holds one info at a time."""
    head = (pickle.PROTO, bytes([_PROTOCOL]), pickle.EMPTY_DICT, pickle.MARK)
    with path.open("wb") as file:
        file.writelines(head)
        file.write(_part("metainfo") + _part(meta) + _part("data_list"))
        file.write(pickle.EMPTY_LIST + pickle.MARK)
        for info in infos:
            file.write(_part(info))
        file.write(pickle.APPENDS + pickle.SETITEMS + pickle.STOP)


def _part(value: Any) -> bytes:
    """A value as a part of a pickle: without the opcodes of its beginning and end."""
    return pickle.dumps(value, protocol=_PROTOCOL)[2:-1]


def _sweeps(tables: NuScenesTables, sample: int, max_sweeps: int) -> list[dict[str, Any]]:
    """The sweeps before a key frame; ``lidar2sensor`` leads from the key frame to the sweep."""
    sweeps, rows = tables.sweeps, sweeps_of(tables, sample, max_sweeps)
    rotations, translations = sweep_transforms(tables, sample, rows)
    to_sweep = np.tile(np.eye(4), (len(rows), 1, 1))
    to_sweep[:, :3, :3] = rotations.transpose(0, 2, 1)
    to_sweep[:, :3, 3:] = -to_sweep[:, :3, :3] @ translations[..., None]
    ego_to_global, lidar_to_ego = sweeps.ego_to_global(rows), sweeps.lidar_to_ego(rows)
    return [
        {
            "timestamp": int(sweeps.timestamps[row]) / 1e6,
            "ego2global": ego_to_global[i].tolist(),
            "lidar_points": {
                "num_pts_feats": NUM_FEATURES,
                "lidar_path": sweeps.filenames[row],
                "lidar2ego": lidar_to_ego[i].tolist(),
                "lidar2sensor": to_sweep[i].tolist(),
            },
            "sample_data_token": sweeps.tokens[row],
        }
        for i, row in enumerate(rows.tolist())
    ]


def _instances(tables: NuScenesTables, sample: int) -> list[dict[str, Any]]:
    """One entry per label, with label -1 for categories of no class."""
    labels, rows = tables.annotations, tables.annotations.rows_of(sample)
    boxes = lidar_boxes(tables, sample)
    global_boxes = np.column_stack(
        [
            labels.translations[rows],
            labels.sizes[rows][:, [1, 0, 2]],
            headings(labels.rotations[rows]),
            labels.velocities[rows][:, :2],
        ]
    )
    attributes = np.where(labels.attributes < 0, len(ATTRIBUTES), labels.attributes)
    return [
        {
            "bbox_label": int(labels.labels[row]),
            "bbox_3d": boxes[i, :7].tolist(),
            "bbox_3d_isvalid": bool(labels.num_lidar_points[row] + labels.num_radar_points[row]),
            "bbox_label_3d": int(labels.labels[row]),
            "attr_label": int(attributes[row]),
            "num_lidar_pts": int(labels.num_lidar_points[row]),
            "num_radar_pts": int(labels.num_radar_points[row]),
            "velocity": boxes[i, 7:].tolist(),
            "velocity_isvalid": not np.isnan(boxes[i, 7]),
            "global_box": global_boxes[i].tolist(),
            "category": tables.categories[labels.categories[row]],
            "instance_token": tables.instances[labels.instances[row]],
        }
        for i, row in enumerate(range(rows.start, rows.stop))
    ]
