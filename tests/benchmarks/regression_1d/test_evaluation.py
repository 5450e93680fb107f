from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ebm3d.benchmarks.regression_1d import PROBLEMS, Problem, kl_divergence
from ebm3d.benchmarks.regression_1d.evaluation import grid
from ebm3d.densities.gaussian import log_normal

SIZE = 512


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_true_density_has_no_divergence(name: str):
    problem = PROBLEMS[name]

    def truth(x: Tensor) -> Tensor:
        return problem.log_density(x.double()[:, None], grid(SIZE).double())[None]

    assert abs(float(kl_divergence(problem, truth, SIZE))) < 1e-10


def test_between_two_gaussians_it_is_the_closed_form():
    # Wide against the spacing of the grid and narrow against its range: sums are integrals.
    log_variance = torch.tensor(2 * math.log(0.3)).double()
    problem = Problem(
        "gaussian", "", draw=None, log_density=lambda x, y: log_normal(y, 0.2 * x, log_variance)
    )
    means, stds = torch.tensor([0.1, -0.2]).double(), torch.tensor([0.25, 0.4]).double()

    def models(x: Tensor) -> Tensor:
        located = means[:, None, None] + 0 * x[:, None]
        return 7.0 + log_normal(grid(SIZE).double(), located, 2 * torch.log(stds)[:, None, None])

    x = grid(SIZE).double()
    squared = ((0.2 * x - means[:, None]).square().mean(dim=1) + 0.09) / (2 * stds.square())
    expected = torch.log(stds / 0.3) + squared - 0.5
    found = kl_divergence(problem, models, SIZE)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_constant_added_to_f_does_not_matter_however_large():
    def models(x: Tensor) -> Tensor:
        f = -grid(SIZE).square().expand(1, len(x), -1)
        return torch.cat((f, f + 1000.0 * x[:, None]))

    first, second = kl_divergence(PROBLEMS["set2"], models, SIZE)
    assert torch.isfinite(first)
    assert float(second) == pytest.approx(float(first), rel=1e-3)


def test_a_density_that_misses_the_truth_costs_no_more_than_epsilon_allows():
    def models(x: Tensor) -> Tensor:
        return -1e6 * (grid(SIZE) - 2.9).square().expand(1, len(x), -1)

    divergence = float(kl_divergence(PROBLEMS["set2"], models, SIZE))
    assert 0.8 * -math.log(1e-30) < divergence < -math.log(1e-30)
