from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad

from ebm3d.benchmarks.regression_1d import PROBLEMS


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_sets_are_the_published_ones(name: str, shared_data: Path):
    x, y = PROBLEMS[name].sample()
    with np.load(shared_data / "regression_1d" / f"{name}.npz") as file:
        np.testing.assert_array_equal(x.numpy(), file["x"])
        # numpy's float32 sine and exponential may differ in the last digit between processors.
        np.testing.assert_allclose(y.numpy(), file["y"], rtol=0, atol=4e-7)


def _scipy_density(name: str, x: float, y: np.ndarray) -> np.ndarray:
    if name == "set2":
        return stats.norm(np.sin(x), 0.15 / (1 + np.exp(-x))).pdf(y)
    if x >= 0:
        return stats.lognorm(0.25, loc=-1).pdf(y)
    first, second = stats.norm(np.sin(x), 0.075), stats.norm(-np.sin(x), 0.075)
    return 0.8 * first.pdf(y) + 0.2 * second.pdf(y)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("x", [-2.9, -1.0, -0.01, 0.0, 0.7, 2.5])
def test_the_density_is_that_of_scipy(name: str, x: float):
    y = np.linspace(-1.5, 2.5, 801)
    ours = (
        PROBLEMS[name].log_density(torch.tensor(x, dtype=torch.float64), torch.from_numpy(y)).exp()
    )
    np.testing.assert_allclose(ours.numpy(), _scipy_density(name, x, y), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("x", [-2.5, -0.3, 0.0, 1.0])
def test_the_density_integrates_to_one(name: str, x: float):
    at = torch.tensor(x, dtype=torch.float64)

    def density(y: float) -> float:
        return float(PROBLEMS[name].log_density(at, torch.tensor(y, dtype=torch.float64)).exp())

    # Pieces between the modes, each narrower than what quad might overlook.
    edges = np.linspace(-2, 4, 61)
    total = sum(quad(density, *pair)[0] for pair in pairwise(edges))
    assert total == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("name", PROBLEMS)
def test_points_are_distributed_as_the_density_says(name: str):
    # The probability integral transform is uniform; 5 standard errors of a uniform mean.
    x, y = (values.double() for values in PROBLEMS[name].sample(4000, seed=3))
    grid = torch.linspace(-2, 4, 6001).double()
    chosen = slice(0, 200)
    masses = PROBLEMS[name].log_density(x[chosen, None], grid).exp() * (grid[1] - grid[0])
    transform = (masses * (grid <= y[chosen, None])).sum(dim=1)
    assert abs(float(transform.mean()) - 0.5) < 5 / np.sqrt(12 * 200)
    assert stats.kstest(transform.numpy(), "uniform").pvalue > 1e-6


def test_no_points_are_legal_and_a_negative_number_is_not():
    assert all(values.shape == (0,) for values in PROBLEMS["set1"].sample(0))
    with pytest.raises(ValueError, match="num_points must be at least 0, but got -1"):
        PROBLEMS["set2"].sample(-1)
