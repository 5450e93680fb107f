"""Defects of the host as it is: run in a process of its own, where no repair is in place."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import ebm3d.adapters  # noqa: F401  the operators, no repairs


def sweep_from_the_side() -> list[int]:
    """Where the host puts the origin of a sweep whose sensor was at (3, 1, 0), turned left."""
    from mmdet3d.datasets.transforms import LoadPointsFromMultiSweeps
    from mmdet3d.structures import LiDARPoints

    turn = np.array([[0.0, -1, 0, 3], [1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    with tempfile.NamedTemporaryFile() as file:
        np.zeros((1, 5), dtype=np.float32).tofile(file.name)
        sweep = {"lidar_path": file.name, "lidar2sensor": np.linalg.inv(turn)}
        results = {
            "points": LiDARPoints(torch.zeros(1, 5), 5),
            "timestamp": 1.0,
            "lidar_sweeps": [{"timestamp": 0.95, "lidar_points": sweep}],
        }
        points = LoadPointsFromMultiSweeps(use_dim=3)(results)["points"].tensor
    return points[1].round().int().tolist()


def absent_classes() -> list[str]:
    """Errors of the class balance and of the object sampler where a class has no object."""
    from mmdet3d.datasets import CBGSDataset
    from mmdet3d.datasets.transforms.dbsampler import DataBaseSampler

    class Frames(list[set[int]]):
        def get_cat_ids(self, index: int) -> set[int]:
            return self[index]

    wrapper = SimpleNamespace(metainfo={"classes": ["a", "b"]})
    return [
        _error_of(CBGSDataset._get_sample_indices, wrapper, Frames([{0}])).split(":")[0],
        _error_of(DataBaseSampler.filter_by_min_points, {}, {"bus": 5}).split(":")[0],
    ]


def empty_cloud() -> str:
    """The error of a detector with a cloud without a point."""
    from mmdet3d.models.detectors import VoxelNet

    def encoder(*inputs: Any) -> Any:
        return inputs[0]

    model = SimpleNamespace(voxel_encoder=encoder, middle_encoder=encoder)
    voxels = {
        "voxels": torch.zeros(0, 5, 4),
        "num_points": torch.zeros(0),
        "coors": torch.zeros(0, 4),
    }
    inputs = {"voxels": voxels, "points": [torch.zeros(0, 4)]}
    return _error_of(VoxelNet.extract_feat, model, inputs).split(":")[0]


def small_defects() -> dict[str, Any]:
    """Whether numpy has long, the folder of kept kernels, the error of a process group."""
    from mmdet3d.datasets.transforms import dbsampler
    from mmdet3d.structures.ops import box_np_ops
    from mmengine.dist import init_dist

    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29631")
    return {
        "long": "long" in vars(dbsampler.np),
        "kernels": box_np_ops.corner_to_surfaces_3d_jit.stats.cache_path,
        "process group": _error_of(init_dist, "pytorch", backend="gloo"),
    }


def _error_of(function: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The error of a call, its type first; empty without one."""
    try:
        function(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> str:
    """All defects as JSON, by the name of their function."""
    defects = (sweep_from_the_side, absent_classes, empty_cloud, small_defects)
    return json.dumps({defect.__name__: defect() for defect in defects})
