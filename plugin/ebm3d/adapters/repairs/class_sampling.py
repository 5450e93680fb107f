"""Sampling by class where a class has no object, as in nuScenes mini."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np


@cache
def repair_class_balance() -> bool:
    """Balance the classes that are there.

    Upstream defect: ``CBGSDataset`` divides by the number of frames of each class
    (``dataset_wrappers.py``, line 93): a ZeroDivisionError where a class is absent.
    """
    from mmdet3d.datasets import CBGSDataset

    def sample_indices(self: Any, dataset: Any) -> list[int]:
        frames: dict[int, list[int]] = {label: [] for label in range(len(self.metainfo["classes"]))}
        for index in range(len(dataset)):
            for label in dataset.get_cat_ids(index):
                if label != -1:
                    frames[label].append(index)
        present = [rows for rows in frames.values() if rows]
        total = sum(map(len, present))
        chosen: list[int] = []
        for rows in present:
            ratio = 1.0 / len(present) / (len(rows) / total)
            chosen += np.random.choice(rows, int(len(rows) * ratio)).tolist()
        return chosen

    CBGSDataset._get_sample_indices = sample_indices
    return True


@cache
def repair_object_sampling() -> bool:
    """Sample nothing of a class that the database lacks.

    Upstream defect: ``DataBaseSampler`` (``dbsampler.py``, lines 191 and 314) raises a KeyError, or
    numpy's error for an empty list where its filters leave none.
    """
    from mmdet3d.datasets.transforms.dbsampler import DataBaseSampler

    keep, sample = DataBaseSampler.filter_by_min_points, DataBaseSampler.sample_class_v2

    def filter_by_min_points(objects: dict[str, list[Any]], least: dict[str, int]) -> Any:
        return keep(objects, {name: count for name, count in least.items() if name in objects})

    def sample_class(self: Any, name: str, number: int, boxes: Any) -> list[Any]:
        return sample(self, name, number, boxes) if self.db_infos.get(name) else []

    DataBaseSampler.filter_by_min_points = staticmethod(filter_by_min_points)
    DataBaseSampler.sample_class_v2 = sample_class
    return True
