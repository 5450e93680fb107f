"""Info files and predictions of made-up drives in nuScenes' layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.datasets.nuscenes.infos import frame_info, metainfo, write_infos
from ebm3d.datasets.nuscenes.tables import read_tables
from tests.evaluation.nuscenes.drives import VERSION

# As mmdet3d's CenterPoint orders them.
MODEL_CLASSES = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)


def write_split(root: Path, path: Path, split: str = "mini_val") -> list[dict[str, Any]]:
    """Write the info file of all samples of the tables; return the infos."""
    tables = read_tables(root, VERSION)
    infos = [frame_info(tables, row, row, 10) for row in range(len(tables.samples.tokens))]
    write_infos(path, metainfo(VERSION, split), infos)
    return infos


def sample_of(
    info: dict[str, Any],
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    names: Sequence[str],
    initial: NDArray[np.float64] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A prediction as the host hands it to metrics; boxes ``(N, 7)`` or ``(N, 9)``."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    def wrap(values: NDArray[np.float64]) -> LiDARInstance3DBoxes:
        tensor = torch.as_tensor(values, dtype=torch.float32)
        return LiDARInstance3DBoxes(tensor, box_dim=tensor.shape[1])

    labels = [MODEL_CLASSES.index(name) for name in names]
    predicted = InstanceData(
        bboxes_3d=wrap(boxes),
        scores_3d=torch.as_tensor(scores, dtype=torch.float32),
        labels_3d=torch.as_tensor(labels, dtype=torch.int32),
        **fields,
    )
    if initial is not None:
        predicted.initial_bboxes_3d = wrap(initial)
    path = f"some/where/{info['lidar_points']['lidar_path']}"
    sample = Det3DDataSample(metainfo={"lidar_path": path, "sample_idx": 0})
    sample.pred_instances_3d = predicted
    result: dict[str, Any] = sample.to_dict()
    return result


def labels_of(info: dict[str, Any]) -> tuple[NDArray[np.float64], list[str]]:
    """Labels of the ten classes, LiDAR frame, ``z`` at the bottom, ``(N, 9)``, and their names."""
    labels = [part for part in info["instances"] if part["bbox_label"] >= 0]
    rows = [[*part["bbox_3d"], *part["velocity"]] for part in labels]
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 9)
    boxes[:, 2] -= boxes[:, 5] / 2
    return boxes, [CLASSES[part["bbox_label"]] for part in labels]
