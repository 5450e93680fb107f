"""Info files of the host, version 1.1, of made-up labels."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from ebm3d.datasets.kitti_frames import KittiFrames
from ebm3d.datasets.kitti_labels import KittiObjects

NAMES = ("Pedestrian", "Cyclist", "Car", "Van", "Truck", "Person_sitting", "Tram", "Misc")
P2 = [[721.5, 0.0, 609.6, 44.9], [0.0, 721.5, 172.9, 0.2], [0.0, 0.0, 1.0, 0.003], [0, 0, 0, 1]]
LIDAR_TO_CAMERA = [
    [0.0, -1.0, 0.0, 0.0],
    [0.0, 0.0, -1.0, -0.08],
    [1.0, 0.0, 0.0, -0.27],
    [0.0, 0.0, 0.0, 1.0],
]


def info_of(frame_id: str, objects: KittiObjects, **image: Any) -> dict[str, Any]:
    """An entry of an info file; ``image`` replaces what it says of the camera."""
    camera = {"cam2img": P2, "lidar2cam": LIDAR_TO_CAMERA, "height": 375, "width": 1242, **image}
    instances = [
        {
            "bbox": objects.bbox[i].tolist(),
            "bbox_label": NAMES.index(name) if name in NAMES else -1,
            "bbox_3d": [
                *objects.location[i].tolist(),
                *objects.dimensions[i, [2, 0, 1]].tolist(),
                float(objects.rotation_y[i]),
            ],
            "num_lidar_pts": 10 * i,
            "truncated": float(objects.truncated[i]),
            "occluded": int(objects.occluded[i]),
            "alpha": float(objects.alpha[i]),
        }
        for i, name in enumerate(objects.names)
    ]
    return {
        "sample_idx": int(frame_id),
        "images": {"CAM2": camera},
        "lidar_points": {"lidar_path": f"{frame_id}.bin"},
        "instances": instances,
    }


def write_infos(
    path: Path, labels: KittiFrames, metainfo: dict[str, Any] | None = None, **image: Any
) -> None:
    """Write the info file of labels."""
    infos = [info_of(name, labels.frame(i), **image) for i, name in enumerate(labels.frame_ids)]
    categories = {name: i for i, name in enumerate(NAMES)} | {"DontCare": -1}
    content = {"metainfo": {"categories": categories, **(metainfo or {})}, "data_list": infos}
    path.write_bytes(pickle.dumps(content))
