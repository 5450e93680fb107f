"""Sweeps of nuScenes: in the right place, the same at every test, without the ego car."""

from __future__ import annotations

from functools import cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np

EGO_FOOTPRINT = ((-1.0, 1.0), (-1.6, 2.5))
"""x (right) and y (forward) of the ego car in nuScenes' LiDAR frame, from and to, meters.

The outline of a Renault Zoe (4.08 m x 1.73 m) around its sensor. Of the 34,688 returns of a real
key frame 8,526 lie in it (x in [-0.62, 0.65], y in [-1.12, 1.81]), and none outside it as far as
the next ground (2.5 m to the sides, 2.9 m ahead).
"""


@cache
def repair_sweeps() -> bool:
    """Place sweeps by the inverse of ``lidar2sensor``, and choose the nearest in every test.

    Upstream defects of ``LoadPointsFromMultiSweeps`` (``loading.py``, lines 402 to 452):
    ``R^T t`` is added where ``t`` belongs, up to 53 cm on nuScenes mini (open-mmlab/mmdetection3d
    #3054, #2164); without ``test_mode`` a test draws its sweeps at random, so in every CenterPoint
    config (#2883); an empty list of sweeps is not padded; ``remove_close`` leaves the ego car in
    the key frame, and its ends in the sweeps. Here frames without ``ann_info`` are tests, and
    ``remove_close`` drops the returns inside ``EGO_FOOTPRINT`` from every cloud, in its own frame.
    """
    from mmdet3d.datasets.transforms import LoadPointsFromMultiSweeps

    LoadPointsFromMultiSweeps.transform = _transform
    LoadPointsFromMultiSweeps._remove_close = _remove_ego
    return True


@cache
def repair_sweep_paths() -> bool:
    """Find the folder of a sweep by its place in the path, not by the word in it.

    Upstream defect: ``Det3DDataset.parse_data_info`` (``det3d_dataset.py``, line 290) takes every
    sweep whose path holds ``samples`` anywhere, as a data root may, for a key frame.
    """
    from mmdet3d.datasets.det3d_dataset import Det3DDataset

    parse = Det3DDataset.parse_data_info

    def parse_data_info(self: Any, info: dict[str, Any]) -> Any:
        for sweep in info.get("lidar_sweeps", ()):
            cloud = sweep["lidar_points"]
            cloud["lidar_path"] = "/".join(PurePosixPath(cloud["lidar_path"]).parts[-3:])
        return parse(self, info)

    Det3DDataset.parse_data_info = parse_data_info
    return True


def _transform(self: Any, results: dict[str, Any]) -> dict[str, Any]:
    """The key frame and its sweeps in its frame, with the time lag in seconds in column 4."""
    key = results["points"]
    key.tensor[:, 4] = 0
    if self.remove_close:
        key = self._remove_close(key)
    sweeps, clouds = results.get("lidar_sweeps") or (), [key]
    if not sweeps and self.pad_empty_sweeps:
        clouds += [key] * self.sweeps_num
    chosen: Any = range(min(len(sweeps), self.sweeps_num))
    if len(sweeps) > self.sweeps_num and not self.test_mode and "ann_info" in results:
        chosen = np.random.choice(len(sweeps), self.sweeps_num, replace=False)
    for index in chosen:
        sweep = sweeps[index]["lidar_points"]
        cloud = self._load_points(sweep["lidar_path"]).reshape(-1, self.load_dim)
        cloud = self._remove_close(cloud) if self.remove_close else cloud.copy()
        to_sensor = np.asarray(sweep["lidar2sensor"], dtype=cloud.dtype)
        cloud[:, :3] = (cloud[:, :3] - to_sensor[:3, 3]) @ to_sensor[:3, :3]
        cloud[:, 4] = results["timestamp"] - sweeps[index]["timestamp"]
        clouds.append(key.new_point(cloud))
    results["points"] = key.cat(clouds)[:, self.use_dim]
    return results


def _remove_ego(self: Any, points: Any, radius: float | None = None) -> Any:
    """Points (host's or array) outside the ego car; ``radius`` is the host's and unused."""
    x, y = (
        points[:, axis] if isinstance(points, np.ndarray) else points.tensor[:, axis]
        for axis in (0, 1)
    )
    (left, right), (back, front) = EGO_FOOTPRINT
    return points[~((x > left) & (x < right) & (y > back) & (y < front))]
