from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from ebm3d.boxes.codings import AnchorCoding
from ebm3d.densities import BoxDistribution, GaussianDensity, HistogramDensity
from ebm3d.records import TensorRecord


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


def _pair(rows: int = 5, name: str = "kept") -> Pair:
    first = torch.arange(2 * rows, dtype=torch.float64).reshape(rows, 2)
    return Pair(first, -torch.arange(rows), name)


def _nested(rows: int = 5) -> Nested:
    return Nested(_pair(rows), torch.arange(rows, dtype=torch.float64) / 2)


def _distribution(rows: int) -> BoxDistribution:
    parameters = torch.randn(2, rows, 7)
    return BoxDistribution(
        GaussianDensity(*parameters), AnchorCoding(torch.rand(rows, 7) + 0.5), math.pi
    )


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_length_is_the_number_of_rows(rows: int):
    assert len(_pair(rows)) == len(_nested(rows)) == rows


@pytest.mark.parametrize(
    "index",
    [
        slice(1, 4),
        slice(None, 0),
        torch.tensor([True, False, True, True, False]),
        torch.tensor([False] * 5),
        torch.tensor([3, 3, 0]),
        [4, 1],
    ],
)
def test_index_selects_the_rows_of_every_tensor(index: object):
    record = _nested()
    chosen = record[index]
    assert torch.equal(chosen.pair.first, record.pair.first[index])
    assert torch.equal(chosen.pair.second, record.pair.second[index])
    assert torch.equal(chosen.third, record.third[index])


def test_placed_rows_are_where_the_index_says_and_the_others_not_numbers():
    record = BoxDistribution(GaussianDensity(*torch.randn(2, 3, 7)), AnchorCoding(torch.rand(3, 7)))
    index = torch.tensor([4, 0, 2])
    scatter = record.scatter(index, 5)
    assert len(scatter) == 5
    assert scatter.yaw_period == record.yaw_period
    for got, expected in (
        (scatter.coding.reference, record.coding.reference),
        (scatter.density.mean, record.density.mean),
    ):
        assert torch.equal(got[index], expected)
        assert bool(torch.isnan(got[[1, 3]]).all())
    assert len(record[:0].scatter(index[:0], 2)) == 2


def test_fields_that_are_no_tensors_belong_to_all_rows():
    assert _nested()[:2].pair.name == "kept"
    assert _nested().to(torch.float32).pair.name == "kept"
    assert _nested().detach().pair.name == "kept"


def test_joined_parts_are_the_whole():
    record = _nested()
    joined = Nested.cat([record[:2], record[2:2], record[2:]])
    assert torch.equal(joined.pair.first, record.pair.first)
    assert torch.equal(joined.pair.second, record.pair.second)
    assert torch.equal(joined.third, record.third)


def test_joined_records_keep_what_belongs_to_all_rows():
    assert Pair.cat([_pair(name="one"), _pair(name="one")]).name == "one"


def test_records_of_different_periods_are_not_joined():
    parts = [_distribution(2), replace(_distribution(2), yaw_period=2 * math.pi)]
    with pytest.raises(ValueError, match=r"records\[1\].yaw_period must be 3.14.* got 6.28"):
        BoxDistribution.cat(parts)


def test_what_differs_inside_a_record_is_found():
    parts = [_nested(), replace(_nested(), pair=_pair(name="other"))]
    with pytest.raises(ValueError, match="name must be kept"):
        Nested.cat(parts)


def test_records_of_different_classes_are_not_joined():
    with pytest.raises(ValueError, match=r"records\[1\] must be a Pair as records\[0\]"):
        TensorRecord.cat([_pair(), _nested()])


def test_nothing_is_not_joined():
    with pytest.raises(ValueError, match="records must be at least one"):
        Pair.cat([])


def test_conversion_reaches_every_tensor():
    converted = _nested().to(torch.float32)
    columns = (converted.pair.first, converted.pair.second, converted.third)
    assert {column.dtype for column in columns} == {torch.float32}


def test_detached_record_has_no_graph():
    record = Pair(torch.ones(2, requires_grad=True) * 2, torch.ones(2, requires_grad=True) * 3)
    detached = record.detach()
    assert record.first.requires_grad
    assert not detached.first.requires_grad
    assert not detached.second.requires_grad


def test_converted_record_is_another_one():
    record = _pair()
    before = record.first.clone()
    record.to(torch.float32).first.zero_()
    assert torch.equal(record.first, before)


def test_distribution_of_histograms_joins_with_its_range():
    masses = torch.log_softmax(torch.randn(4, 7, 3), dim=-1)
    density = HistogramDensity(masses, (-1.0,) * 7, (1.0,) * 7, 0.2)
    joined = HistogramDensity.cat([density[:1], density[1:]])
    assert torch.equal(joined.log_masses, masses)
    assert (joined.lower, joined.upper, joined.tail_weight) == ((-1.0,) * 7, (1.0,) * 7, 0.2)


@pytest.mark.mmdet3d
@pytest.mark.parametrize(
    "index",
    [
        torch.tensor([True, False, True, False]),
        torch.tensor([False] * 4),
        torch.tensor([2, 0, 2]),
        slice(1, 3),
    ],
)
def test_instances_of_the_host_select_the_rows_of_a_distribution(index: Tensor | slice):
    structures = pytest.importorskip("mmengine.structures")
    distribution = _distribution(4)
    instances = structures.InstanceData(scores=torch.arange(4.0), distribution=distribution)[index]
    chosen = instances.distribution
    assert len(instances) == len(chosen) == len(torch.arange(4)[index])
    assert chosen.yaw_period == math.pi
    assert torch.equal(chosen.density.location, distribution.density.location[index])
    assert torch.equal(chosen.coding.reference, distribution.coding.reference[index])


@pytest.mark.mmdet3d
def test_instances_of_the_host_join_distributions():
    structures = pytest.importorskip("mmengine.structures")
    distribution = _distribution(4)
    parts = [
        structures.InstanceData(distribution=distribution[rows]) for rows in (slice(3), slice(3, 4))
    ]
    joined = structures.InstanceData.cat(parts).distribution
    assert torch.equal(joined.boxes, distribution.boxes)


@pytest.mark.mmdet3d
def test_instances_of_the_host_convert_distributions():
    structures = pytest.importorskip("mmengine.structures")
    converted = (
        structures.InstanceData(distribution=_distribution(4)).to(torch.float64).distribution
    )
    assert converted.density.log_variance.dtype == torch.float64
    assert converted.coding.reference.dtype == torch.float64
