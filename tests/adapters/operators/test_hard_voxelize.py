"""Points to voxels against a dictionary of lists."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ebm3d.pooling import voxelization
from ebm3d.pooling.voxelization import voxelize

SIZE = np.array([0.5, 0.4, 1.0], dtype=np.float32)
RANGE = np.array([0, -4, -2, 10, 4, 2], dtype=np.float32)


def slow_voxelize(
    points: NDArray[np.float32], max_points: int, max_voxels: int
) -> tuple[list[NDArray[np.float32]], list[tuple[int, ...]]]:
    """Lists of points and coordinates z, y, x of each voxel, in order of their first point."""
    voxels: dict[tuple[int, ...], list[NDArray[np.float32]]] = {}
    cells = np.round((RANGE[3:] - RANGE[:3]) / SIZE)
    for point in points:
        cell = np.floor((point[:3] - RANGE[:3]) / SIZE)
        if not ((cell >= 0) & (cell < cells)).all():
            continue
        key = tuple(int(value) for value in cell[::-1])
        if key not in voxels and len(voxels) == max_voxels:
            continue
        if len(voxels.setdefault(key, [])) < max_points:
            voxels[key].append(point)
    return [np.stack(kept) for kept in voxels.values()], list(voxels)


def random_points(rng: np.random.Generator, num: int) -> NDArray[np.float32]:
    """(num, 4) points, a part of them out of range."""
    low, high = [-1, -5, -2.5, 0], [11, 5, 2.5, 1]
    return rng.uniform(low, high, size=(num, 4)).astype(np.float32)


@pytest.mark.parametrize(("max_points", "max_voxels"), [(1, 5000), (3, 40), (20, 5000)])
def test_voxels_equal_a_dictionary_of_lists(
    rng: np.random.Generator, max_points: int, max_voxels: int
) -> None:
    """Order, contents, counts and padding."""
    points = random_points(rng, 3000)
    voxels, coordinates, counts = voxelize(points, SIZE, RANGE, max_points, max_voxels)
    kept, keys = slow_voxelize(points, max_points, max_voxels)
    assert [tuple(row) for row in coordinates] == keys
    assert counts.tolist() == [len(rows) for rows in kept]
    for voxel, rows in zip(voxels, kept, strict=True):
        np.testing.assert_array_equal(voxel[: len(rows)], rows)
        assert not voxel[len(rows) :].any()


def test_jitted_and_plain_python_agree(rng: np.random.Generator) -> None:
    """Both kernels through ``py_func``; plain Python warns of the hash that wraps around."""
    points = random_points(rng, 200)
    cells = np.round((RANGE[3:] - RANGE[:3]) / SIZE).astype(np.int64)
    arguments = (points, SIZE, RANGE, cells, 2, 50)
    jitted = voxelization._assign(*arguments)
    with np.errstate(over="ignore"):
        plain = voxelization._assign.py_func(*arguments)
    for found, expected in zip(jitted, plain, strict=True):
        np.testing.assert_array_equal(found, expected)
    filled = [np.zeros((50, 2, 4), dtype=np.float32) for _ in range(2)]
    voxelization._fill(points, jitted[0], filled[0])
    voxelization._fill.py_func(points, jitted[0], filled[1])
    np.testing.assert_array_equal(*filled)


def test_no_points_give_no_voxels() -> None:
    """An empty cloud is legal."""
    voxels, coordinates, counts = voxelize(np.zeros((0, 4), np.float32), SIZE, RANGE, 5, 10)
    assert (voxels.shape, coordinates.shape, counts.shape) == ((0, 5, 4), (0, 3), (0,))


def test_points_of_two_columns_are_refused() -> None:
    """The message names the columns."""
    with pytest.raises(ValueError, match="columns"):
        voxelize(np.zeros((3, 2), np.float32), SIZE, RANGE, 5, 10)
