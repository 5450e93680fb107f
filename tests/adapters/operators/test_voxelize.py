"""The cell of each point, and points grouped by cell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.adapters.operators.calls import voxelize, voxelize_dynamically

SIZE = (0.4, 0.5, 1.0)
FINE = (0.04, 0.05, 0.1)  # too many cells for a table of them
RANGE = (0.0, -4.0, -2.0, 10.0, 4.0, 2.0)

pytestmark = pytest.mark.usefixtures("path")


def slow_voxelize(
    points: Tensor, size: tuple[float, ...], max_points: int, max_voxels: int
) -> tuple[list[list[list[float]]], list[tuple[int, ...]]]:
    """Lists of points and cells z, y, x of each voxel, in order of their first point."""
    voxels: dict[tuple[int, ...], list[list[float]]] = {}
    low, high, step = (np.float32(values) for values in (RANGE[:3], RANGE[3:], size))
    num_cells = np.round((high - low) / step)
    for point in points.numpy():
        cell = np.floor((point[:3] - low) / step)
        key = tuple(int(value) for value in cell[::-1])
        outside = not ((cell >= 0) & (cell < num_cells)).all()
        if outside or (key not in voxels and len(voxels) == max_voxels):
            continue
        if len(voxels.setdefault(key, [])) < max_points:
            voxels[key].append(point.tolist())
    return list(voxels.values()), list(voxels)


def random_points(rng: np.random.Generator, num: int) -> Tensor:
    """(num, 4) points, a part of them out of range, in hundredths of a meter: some on borders."""
    low, high = [-100, -500, -250, 0], [1100, 500, 250, 100]
    return torch.from_numpy((rng.integers(low, high, (num, 4)) / 100).astype(np.float32))


@pytest.mark.parametrize("size", [SIZE, FINE])
@pytest.mark.parametrize(("max_points", "max_voxels"), [(0, 40), (1, 5000), (3, 40), (20, 5000)])
def test_voxels_equal_a_dictionary_of_lists(rng, size, max_points, max_voxels):
    """Order, contents, counts and padding."""
    points = random_points(rng, 3000)
    voxels, cells, counts = voxelize(points, size, RANGE, max_points, max_voxels)
    kept, keys = slow_voxelize(points, size, max_points, max_voxels)
    assert [tuple(row) for row in cells.tolist()] == keys
    assert counts.tolist() == [len(rows) for rows in kept]
    for voxel, rows in zip(voxels, kept, strict=True):
        assert voxel[: len(rows)].tolist() == rows
        assert not voxel[len(rows) :].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cells_are_quotients_of_whole_numbers(rng, dtype):
    """Positions in eighths of a meter: exact, and many on a border of a voxel."""
    eighths = rng.integers([-8, -40, -20], [90, 40, 20], (2000, 3))
    cells = (eighths - [0, -32, -16]) // [4, 2, 8]
    inside = ((cells >= 0) & (cells < [20, 32, 4])).all(axis=1)
    points = torch.from_numpy(eighths / 8).to(dtype)
    result = voxelize_dynamically(points, (0.5, 0.25, 1.0), RANGE)
    assert result.dtype == torch.int32
    np.testing.assert_array_equal(result, np.where(inside[:, None], cells[:, ::-1], -1))
    assert 200 < inside.sum() < 1900


def test_half_precision_is_voxelized_in_float32(rng):
    points = random_points(rng, 500).half()
    result = voxelize(points, SIZE, RANGE, 3, 400)
    expected = voxelize(points.float(), SIZE, RANGE, 3, 400)
    assert result[0].dtype == torch.half
    assert all(torch.equal(a.float(), b.float()) for a, b in zip(result, expected, strict=True))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30, -1e30])
def test_points_outside_or_not_finite_have_no_cell_and_no_voxel(value):
    points = torch.ones(3, 4)
    points[range(3), range(3)] = value
    for cloud in (points, points[:0]):
        assert (voxelize_dynamically(cloud, SIZE, RANGE) == -1).all()
        assert [len(part) for part in voxelize(cloud, SIZE, RANGE, 5, 10)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("size", "bounds", "name"),
    [
        ([-0.5, 0.5, 1.0], RANGE, "voxel_size"),
        ([0.0, 0.5, 1.0], RANGE, "voxel_size"),
        ([0.5, 0.5], RANGE, "voxel_size"),
        (SIZE, RANGE[:3], "coors_range"),
        (SIZE, [10.0, 0.0, 0.0, 0.0, 10.0, 4.0], "coors_range must be increasing"),
        (SIZE, [float("nan"), *RANGE[1:]], "coors_range must be increasing"),
        ([1e-12, 0.5, 1.0], RANGE, r"2\^31 cells"),
        ([1e-7, 1e-7, 1e-7], RANGE, r"2\^63"),
    ],
)
def test_bad_grids_are_refused(size, bounds, name):
    points = torch.rand(5, 4)
    with pytest.raises(ValueError, match=name):
        voxelize(points, size, bounds, 3, 10)
    with pytest.raises(ValueError, match=name):
        voxelize_dynamically(points, size, bounds)
    with pytest.raises(ValueError, match="points"):
        voxelize_dynamically(points[:, :2], SIZE, RANGE)
