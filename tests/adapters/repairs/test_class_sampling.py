"""Class-balanced frames and sampled objects where a class has no object."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


class _Frames:
    """Frames with these classes in each."""

    def __init__(self, labels: list[set[int]]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def get_cat_ids(self, index: int) -> set[int]:
        return self.labels[index]


def _balanced(labels: list[set[int]], num_classes: int) -> list[int]:
    from mmdet3d.datasets import CBGSDataset

    wrapper = SimpleNamespace(metainfo={"classes": [str(i) for i in range(num_classes)]})
    return CBGSDataset._get_sample_indices(wrapper, _Frames(labels))


def test_an_absent_class_leaves_the_balance_of_the_others():
    """Frames of class 0 and 2 come equally often; class 1 has none."""
    labels = [{0}] * 30 + [{2}] * 10 + [{-1}]
    chosen = np.array(_balanced(labels, 3))
    assert (chosen < 30).sum() == (chosen >= 30).sum() == 20
    assert chosen.max() < 40
    assert _balanced([{-1}, set()], 3) == []


@pytest.mark.parametrize("objects", [{}, {"bus": []}, {"bus": [1]}])
def test_nothing_is_sampled_of_an_absent_class(objects: dict[str, Any], monkeypatch):
    from mmdet3d.datasets.transforms.dbsampler import DataBaseSampler

    sampler = SimpleNamespace(db_infos=objects, sampler_dict={})
    kept = DataBaseSampler.filter_by_min_points({"car": [], **objects}, {"bus": 0, "trailer": 5})
    assert kept.keys() == {"car", *objects}
    if objects.get("bus"):
        with pytest.raises(KeyError):  # the host's own code goes on
            DataBaseSampler.sample_class_v2(sampler, "bus", 2, None)
    else:
        assert DataBaseSampler.sample_class_v2(sampler, "bus", 2, None) == []
