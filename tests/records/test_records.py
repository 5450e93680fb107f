from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm3d.boxes.codings import AnchorCoding
from ebm3d.densities import BoxDistribution, GaussianDensity
from ebm3d.records import TensorRecord

_INDICES = [
    slice(1, 4),
    slice(None, 0),
    torch.tensor([True, False, True, True, False]),
    torch.tensor([False] * 5),
    torch.tensor([3, 3, 0]),
]


@dataclass(frozen=True)
class Pair(TensorRecord):
    """Two columns and a name."""

    first: Tensor
    second: Tensor
    name: str = "pair"


@dataclass(frozen=True)
class Nested(TensorRecord):
    """A record in a record."""

    pair: Pair
    third: Tensor


def _nested(rows: int = 5, name: str = "kept") -> Nested:
    numbers = torch.arange(rows, dtype=torch.float64)
    return Nested(Pair(torch.stack((numbers, -numbers), dim=1), numbers**2, name), numbers / 2)


def _columns(record: Nested) -> tuple[Tensor, Tensor, Tensor]:
    return record.pair.first, record.pair.second, record.third


def _distribution() -> BoxDistribution:
    density = GaussianDensity(*torch.randn(2, 5, 7))
    return BoxDistribution(density, AnchorCoding(torch.rand(5, 7) + 0.5), math.pi)


@pytest.mark.parametrize("index", [*_INDICES, [4, 1]])
def test_index_selects_the_rows_of_every_tensor(index: Any):
    record = _nested()
    chosen = record[index]
    assert len(chosen) == len(record.third[index])
    assert chosen.pair.name == "kept"
    for column, whole in zip(_columns(chosen), _columns(record), strict=True):
        assert torch.equal(column, whole[index])


def test_scattered_rows_are_where_the_index_says_and_the_others_nan():
    record, index = _nested(3), torch.tensor([4, 0, 2])
    scattered = record.scatter(index, 5)
    assert len(scattered) == 5
    assert scattered.pair.name == "kept"
    for column, whole in zip(_columns(scattered), _columns(record), strict=True):
        assert torch.equal(column[index], whole)
        assert bool(torch.isnan(column[[1, 3]]).all())
    assert len(record[:0].scatter(index[:0], 2)) == 2


def test_joined_parts_are_the_whole():
    record = _nested()
    joined = Nested.cat([record[:2], record[2:2], record[2:]])
    assert joined.pair.name == "kept"
    for column, whole in zip(_columns(joined), _columns(record), strict=True):
        assert torch.equal(column, whole)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "records must be at least one"),
        ([_nested(), _nested().pair], r"records\[1\] must be a Nested"),
        ([_nested(), _nested(name="other")], "name must be kept"),
        ([_nested().pair, _nested(name="other").pair], r"records\[1\].name must be kept"),
    ],
)
def test_records_that_do_not_fit_are_not_joined(records: list[TensorRecord], message: str):
    with pytest.raises(ValueError, match=message):
        TensorRecord.cat(records)


def test_conversion_and_detaching_reach_every_tensor_of_a_copy():
    record = _nested()
    for column in _columns(record):
        column.requires_grad_()
    assert {column.dtype for column in _columns(record.to(torch.float32))} == {torch.float32}
    assert not any(column.requires_grad for column in _columns(record.detach()))
    assert all(column.requires_grad for column in _columns(record))
    assert record.to(torch.float32).pair.name == record.detach().pair.name == "kept"


@pytest.mark.mmdet3d
@pytest.mark.parametrize("index", _INDICES)
def test_instances_of_the_host_select_join_and_convert_distributions(index: Any):
    structures = pytest.importorskip("mmengine.structures")
    distribution = _distribution()
    instances = structures.InstanceData(scores=torch.arange(5.0), distribution=distribution)
    chosen = instances[index].distribution
    assert len(chosen) == len(torch.arange(5)[index])
    assert chosen.yaw_period == math.pi
    assert torch.equal(chosen.coding.reference, distribution.coding.reference[index])
    joined = structures.InstanceData.cat([instances[:3], instances[3:]]).distribution
    assert torch.equal(joined.boxes, distribution.boxes)
    assert instances.to(torch.float64).distribution.coding.reference.dtype == torch.float64


def test_distributions_of_different_periods_are_not_joined():
    parts = [_distribution(), replace(_distribution(), yaw_period=2 * math.pi)]
    with pytest.raises(ValueError, match=r"records\[1\].yaw_period"):
        BoxDistribution.cat(parts)
