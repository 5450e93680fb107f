"""Points to voxels against a dictionary of lists."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.adapters.operators.voxel_grid import cells_of_points
from tests.adapters.operators.calls import choose, voxelize, voxelize_dynamically

hard_voxelize = import_module("ebm3d.adapters.operators.hard_voxelize")

SIZE = (0.5, 0.4, 1.0)
FINE = (0.05, 0.04, 0.1)  # too many cells for a table of them
RANGE = (0.0, -4.0, -2.0, 10.0, 4.0, 2.0)


def slow_voxelize(
    points: Tensor, size: tuple[float, ...], max_points: int, max_voxels: int
) -> tuple[list[list[list[float]]], list[tuple[int, ...]]]:
    """Lists of points and cells z, y, x of each voxel, in order of their first point."""
    voxels: dict[tuple[int, ...], list[list[float]]] = {}
    low, high, step = (np.float32(values) for values in (RANGE[:3], RANGE[3:], size))
    num_cells = np.round((high - low) / step)
    for point in points.numpy():
        cell = np.floor((point[:3] - low) / step)
        if not ((cell >= 0) & (cell < num_cells)).all():
            continue
        key = tuple(int(value) for value in cell[::-1])
        if key not in voxels and len(voxels) == max_voxels:
            continue
        if len(voxels.setdefault(key, [])) < max_points:
            voxels[key].append(point.tolist())
    return list(voxels.values()), list(voxels)


def random_points(rng: np.random.Generator, num: int) -> Tensor:
    """(num, 4) points, a part of them out of range, in hundredths of a meter: some on borders."""
    low, high = [-100, -500, -250, 0], [1100, 500, 250, 100]
    return torch.from_numpy((rng.integers(low, high, (num, 4)) / 100).astype(np.float32))


@pytest.mark.parametrize("path", ["numba", "torch"])
@pytest.mark.parametrize("size", [SIZE, FINE])
@pytest.mark.parametrize(("max_points", "max_voxels"), [(1, 5000), (3, 40), (20, 5000)])
def test_voxels_equal_a_dictionary_of_lists(
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    size: tuple[float, ...],
    max_points: int,
    max_voxels: int,
) -> None:
    """Order, contents, counts and padding."""
    choose(monkeypatch, path)
    points = random_points(rng, 3000)
    voxels, cells, counts = voxelize(points, size, RANGE, max_points, max_voxels)
    kept, keys = slow_voxelize(points, size, max_points, max_voxels)
    assert [tuple(row) for row in cells.tolist()] == keys
    assert counts.tolist() == [len(rows) for rows in kept]
    for voxel, rows in zip(voxels, kept, strict=True):
        assert voxel[: len(rows)].tolist() == rows
        assert not voxel[len(rows) :].any()


def test_half_precision_is_voxelized_in_float32(rng: np.random.Generator) -> None:
    points = random_points(rng, 500).half()
    found = voxelize(points, SIZE, RANGE, 3, 400)
    expected = voxelize(points.float(), SIZE, RANGE, 3, 400)
    assert found[0].dtype == torch.half
    for half, single in zip(found, expected, strict=True):
        assert torch.equal(half.float(), single.float())


@pytest.mark.parametrize(("size", "cells"), [(SIZE, [20, 20, 4]), (FINE, [200, 200, 40])])
def test_jitted_and_plain_python_agree(
    rng: np.random.Generator, size: tuple[float, ...], cells: list[int]
) -> None:
    """The kernel through ``py_func``; plain Python warns of the hash that wraps around."""
    points = random_points(rng, 200).numpy()
    results = []
    for kernel in (hard_voxelize._fill, hard_voxelize._fill.py_func):
        filled = (
            np.zeros((50, 2, 4), np.float32),
            np.zeros((50, 3), np.int32),
            np.zeros(50, np.int32),
        )
        with np.errstate(over="ignore"):
            num = kernel(points, np.float32(size), np.float32(RANGE), np.array(cells), *filled)
        results.append((num, *filled))
    for jitted, plain in zip(*results, strict=True):
        np.testing.assert_array_equal(jitted, plain)


@pytest.mark.parametrize("path", ["numba", "torch"])
def test_clouds_without_a_point_inside_give_no_voxels(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    choose(monkeypatch, path)
    for cloud in (torch.zeros(0, 4), torch.full((7, 4), -50.0), torch.full((7, 4), torch.nan)):
        voxels, cells, counts = voxelize(cloud, SIZE, RANGE, 5, 10)
        assert (voxels.shape, cells.shape, counts.shape) == ((0, 5, 4), (0, 3), (0,))


@pytest.mark.parametrize("call", [voxelize, voxelize_dynamically])
def test_points_of_two_columns_are_refused(call: object) -> None:
    """The message names the columns."""
    arguments = (5, 10) if call is voxelize else ()
    with pytest.raises(ValueError, match="columns"):
        call(torch.zeros(3, 2), SIZE, RANGE, *arguments)


def test_sorting_reads_nothing_on_the_host() -> None:
    points = torch.empty(50, 4, device="meta")
    cells, inside = cells_of_points(points, torch.tensor(SIZE), torch.tensor(RANGE))
    filled = [
        torch.empty(shape, dtype=dtype, device="meta")
        for shape, dtype in (((9, 3, 4), torch.float), ((9, 3), torch.int), ((9,), torch.int))
    ]
    num = hard_voxelize.fill_by_sorting(points, cells, inside, [20, 20, 4], *filled)
    assert num.shape == ()


def test_cuda_gives_the_voxels_of_the_cpu(rng: np.random.Generator, cuda: torch.device) -> None:
    points = random_points(rng, 3000)
    for found, expected in zip(
        voxelize(points.to(cuda), SIZE, RANGE, 3, 40),
        voxelize(points, SIZE, RANGE, 3, 40),
        strict=True,
    ):
        assert torch.equal(found.cpu(), expected)
