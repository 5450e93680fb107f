"""The voxel of each point, against the definition in whole numbers."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch

from tests.adapters.operators.calls import choose, voxelize_dynamically

dynamic_voxelize = import_module("ebm3d.adapters.operators.dynamic_voxelize")

SIZE = (0.5, 0.25, 1.0)
RANGE = (0.0, -4.0, -2.0, 10.0, 4.0, 2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("path", ["numba", "torch"])
def test_cells_are_quotients_of_whole_numbers(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, path: str, dtype: torch.dtype
) -> None:
    """Positions in eighths of a meter: exact, and many on a border of a voxel."""
    choose(monkeypatch, path)
    eighths = rng.integers([-8, -40, -20], [90, 40, 20], (2000, 3))
    cells = (eighths - [0, -32, -16]) // [4, 2, 8]
    inside = ((cells >= 0) & (cells < [20, 32, 4])).all(axis=1)
    expected = np.where(inside[:, None], cells[:, ::-1], -1)
    found = voxelize_dynamically(torch.from_numpy(eighths / 8).to(dtype), SIZE, RANGE)
    assert found.dtype == torch.int32
    np.testing.assert_array_equal(found, expected)
    assert 200 < inside.sum() < 1900


@pytest.mark.parametrize("path", ["numba", "torch"])
def test_points_that_are_not_finite_lie_nowhere(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    choose(monkeypatch, path)
    values = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, -1e30])
    for column in range(3):
        points = torch.ones(5, 4)
        points[:, column] = values
        assert (voxelize_dynamically(points, SIZE, RANGE) == -1).all()
    assert voxelize_dynamically(torch.zeros(0, 4), SIZE, RANGE).shape == (0, 3)


def test_jitted_and_plain_python_agree(rng: np.random.Generator) -> None:
    points = rng.uniform(-5.0, 11.0, (300, 3)).astype(np.float32)
    constants = np.float32(SIZE), np.float32(RANGE), np.array([20, 32, 4])
    filled = [np.zeros((300, 3), np.int32) for _ in range(2)]
    dynamic_voxelize._fill(points, *constants, filled[0])
    dynamic_voxelize._fill.py_func(points, *constants, filled[1])
    np.testing.assert_array_equal(*filled)


def test_nothing_is_read_on_the_host() -> None:
    assert voxelize_dynamically(torch.empty(9, 4, device="meta"), SIZE, RANGE).shape == (9, 3)


def test_cuda_gives_the_cells_of_the_cpu(rng: np.random.Generator, cuda: torch.device) -> None:
    points = torch.from_numpy(rng.uniform(-5.0, 11.0, (5000, 4)).astype(np.float32))
    found = voxelize_dynamically(points.to(cuda), SIZE, RANGE)
    assert torch.equal(found.cpu(), voxelize_dynamically(points, SIZE, RANGE))
