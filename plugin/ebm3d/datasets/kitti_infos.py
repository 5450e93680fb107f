"""Info files as MMDetection3D 1.x reads them: version 1.1 infos and ground-truth database infos.

For ``KittiDataset``, ``KittiMetric`` and ``DataBaseSampler`` of mmdet3d 1.4.0. All values are plain
Python numbers, lists and strings: the pickled bytes depend on the data alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ebm3d.datasets.frame_files import CLASSES, DEFAULT_IMAGE_SIZE, KittiFrame
from ebm3d.datasets.kitti_calibration import homogeneous
from ebm3d.datasets.kitti_difficulty import difficulty
from ebm3d.datasets.kitti_labels import DONT_CARE
from ebm3d.datasets.point_clouds import NUM_FEATURES

DATABASE_FOLDER = "kitti_gt_database"


def info_file(infos: Sequence[dict[str, Any]], lidar_only: bool = False) -> dict[str, Any]:
    """Content of the info file of a split, from the ``frame_info`` of its frames."""
    categories = {name: label for label, name in enumerate(CLASSES)} | {DONT_CARE: -1}
    metainfo: dict[str, Any] = {"categories": categories, "dataset": "kitti", "info_version": "1.1"}
    if lidar_only:  # no image to evaluate in, or to lie outside of
        metainfo["lidar_only"] = True
    return {"metainfo": metainfo, "data_list": list(infos)}


def frame_info(frame: KittiFrame) -> dict[str, Any]:
    """Info of one frame."""
    calibration = frame.calibration
    lidar2cam = calibration.lidar_to_camera_matrix
    images: dict[str, Any] = {}
    for index in range(4):
        projection = getattr(calibration, f"P{index}")
        if projection is None:
            continue
        cam2img = homogeneous(projection)
        images[f"CAM{index}"] = {
            "cam2img": cam2img.tolist(),
            "lidar2img": (cam2img @ lidar2cam).tolist(),
        }
    width, height = (0, 0) if frame.lidar_only else frame.image_size or DEFAULT_IMAGE_SIZE
    images["CAM2"] |= {
        "img_path": f"{frame.frame_id}.png",
        "height": height,
        "width": width,
        "lidar2cam": lidar2cam.tolist(),
    }
    images["R0_rect"] = homogeneous(calibration.R0_rect).tolist()
    lidar_points = {
        "num_pts_feats": NUM_FEATURES,
        "lidar_path": f"{frame.frame_id}.bin",
        "Tr_velo_to_cam": homogeneous(calibration.Tr_velo_to_cam).tolist(),
    }
    if calibration.Tr_imu_to_velo is not None:
        lidar_points["Tr_imu_to_velo"] = homogeneous(calibration.Tr_imu_to_velo).tolist()
    info = {
        "sample_idx": int(frame.frame_id),
        "images": images,
        "lidar_points": lidar_points,
        "instances": _instances(frame),
    }
    if frame.plane is not None:
        info["plane"] = list(frame.plane)
    return info


def database_infos(frames: Sequence[KittiFrame]) -> dict[str, list[dict[str, Any]]]:
    """Content of the info file of the ground-truth database: for every class its objects."""
    infos: dict[str, list[dict[str, Any]]] = {name: [] for name in CLASSES}
    for frame in frames:
        levels = difficulty(frame.objects).tolist()
        for index, (row, path) in enumerate(database_paths(frame)):
            # The literal of CLASSES: one object of Python, so that pickles have the same bytes.
            name = CLASSES[CLASSES.index(str(frame.objects.names[row]))]
            info = {
                "name": name,
                "path": path,
                "image_idx": int(frame.frame_id),
                "gt_idx": index,
                "box3d_lidar": np.array(frame.boxes[row].tolist(), dtype=np.float32),
                "num_points_in_gt": int(frame.num_points[row]),
                "difficulty": levels[row],
                "group_id": sum(map(len, infos.values())),
                "score": 0.0,
            }
            infos[name].append(info)
    return infos


def database_paths(frame: KittiFrame) -> list[tuple[int, str]]:
    """Row in the labels, and file relative to the root, of each object of the database."""
    rows = np.flatnonzero(frame.objects.names != DONT_CARE).tolist()
    stem = f"{DATABASE_FOLDER}/{frame.frame_id}"
    return [(row, f"{stem}_{frame.objects.names[row]}_{i}.bin") for i, row in enumerate(rows)]


def _instances(frame: KittiFrame) -> list[dict[str, Any]]:
    """One entry per label, DontCare with label -1; boxes in the camera frame, sizes as l, h, w."""
    objects = frame.objects
    height, width, length = objects.dimensions.T
    boxes = np.column_stack([objects.location, length, height, width, objects.rotation_y])
    # The label gives the bottom; y points down, so the center is half a height less.
    center = objects.location - np.column_stack([0 * height, height / 2, 0 * height])
    projected = center @ frame.calibration.P2[:, :3].T + frame.calibration.P2[:, 3]
    depth = projected[:, 2:]
    center_2d = np.divide(
        projected[:, :2], depth, out=np.zeros((len(objects), 2)), where=depth != 0
    )
    is_object = objects.names != DONT_CARE
    index = np.where(is_object, np.cumsum(is_object) - 1, -1)
    labels = [CLASSES.index(n) if n in CLASSES else -1 for n in objects.names.tolist()]
    levels = difficulty(objects)
    return [
        {
            "bbox": objects.bbox[row].tolist(),
            "bbox_label": labels[row],
            "bbox_3d": boxes[row].tolist(),
            "bbox_label_3d": labels[row],
            "depth": float(projected[row, 2]),
            "center_2d": center_2d[row].tolist(),
            "num_lidar_pts": int(frame.num_points[row]),
            "difficulty": int(levels[row]),
            "truncated": float(objects.truncated[row]),
            "occluded": int(objects.occluded[row]),
            "alpha": float(objects.alpha[row]),
            "score": 0.0,
            "index": int(index[row]),
            "group_id": row,
        }
        for row in range(len(objects))
    ]
