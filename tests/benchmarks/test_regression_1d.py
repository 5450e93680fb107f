"""The benchmark in one dimension: its densities, its divergence, and what each method learns."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from regression_1d import methods
from regression_1d.__main__ import main, summarize
from regression_1d.methods import make_methods, train
from regression_1d.problem import PROBLEMS, RANGE, Problem, kl_divergence
from scipy import stats
from torch import Tensor
from torch.distributions import Normal

METHODS = [name for name in make_methods("set1") if not name.endswith("_annealed")]
GRID = torch.linspace(-RANGE, RANGE, 512)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_sets_are_the_published_ones(name: str, shared_data: Path):
    x, y = PROBLEMS[name].sample()
    with np.load(shared_data / "regression_1d" / f"{name}.npz") as file:
        np.testing.assert_array_equal(x.numpy(), file["x"])
        # numpy's float32 sine and exponential may differ in the last digit between processors.
        np.testing.assert_allclose(y.numpy(), file["y"], rtol=0, atol=4e-7)


@pytest.mark.parametrize("x", [-2.9, -0.01, 0.0, 2.5])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_density_is_that_of_scipy(name: str, x: float):
    y = np.linspace(-1.5, 2.5, 801)
    if name == "set2":
        expected = stats.norm(np.sin(x), 0.15 / (1 + np.exp(-x))).pdf(y)
    elif x >= 0:
        expected = stats.lognorm(0.25, loc=-1).pdf(y)
    else:
        modes = [stats.norm(s * np.sin(x), 0.075).pdf(y) for s in (1, -1)]
        expected = 0.8 * modes[0] + 0.2 * modes[1]
    ours = (
        PROBLEMS[name].log_density(torch.tensor(x, dtype=torch.float64), torch.from_numpy(y)).exp()
    )
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-6, atol=1e-30)


def test_points_are_distributed_as_the_density_says():
    x, y = (values.double() for values in PROBLEMS["set1"].sample(200, seed=3))
    grid = torch.linspace(-2, 4, 6001).double()
    masses = PROBLEMS["set1"].log_density(x[:, None], grid).exp() * (grid[1] - grid[0])
    transform = (masses * (grid <= y[:, None])).sum(dim=1)
    assert stats.kstest(transform.numpy(), "uniform").pvalue > 1e-6


def test_the_divergence_between_gaussians_is_the_closed_form_up_to_constants_in_f():
    # Wide against the spacing of the grid and narrow against its range: sums are integrals.
    problem = Problem("", draw=None, log_density=lambda x, y: Normal(0.2 * x, 0.3).log_prob(y))
    means, stds = torch.tensor([0.1, -0.2]).double(), torch.tensor([0.25, 0.4]).double()

    def models(x: Tensor, y: Tensor) -> Tensor:
        density = Normal(means[:, None, None], stds[:, None, None])
        return density.log_prob(y.double()) + 1000.0 * x[:, None]

    squared = ((0.2 * GRID.double() - means[:, None]).square().mean(1) + 0.09) / (2 * stds**2)
    expected = torch.log(stds / 0.3) + squared - 0.5
    divergence = kl_divergence(problem, models, len(GRID))
    torch.testing.assert_close(divergence, expected, rtol=1e-4, atol=1e-5)


def test_a_density_that_misses_the_truth_costs_no_more_than_epsilon_allows():
    def models(x: Tensor, y: Tensor) -> Tensor:
        return -1e6 * (y - 2.9).square().expand(1, len(x), -1)

    divergence = float(kl_divergence(PROBLEMS["set2"], models, 256))
    assert 0.8 * -math.log(1e-30) < divergence < -math.log(1e-30)


@pytest.mark.parametrize("name", METHODS)
def test_each_method_comes_nearer_to_the_density(name: str):
    problem = PROBLEMS["set2"]
    x, y = problem.sample(400)
    method = replace(make_methods("set2", 64)[name], learning_rate=5e-3)
    if name == "ml_mcmc":
        losses = partial(methods.ml_mcmc, m=8, step_size=0.05, num_steps=4)
        method = replace(method, loss=partial(methods._energy_loss, losses))
    divergences, means = [], []
    for num_epochs in (1, 30):
        models, losses = train(method, x, y, 2, num_epochs)
        assert losses.shape == (num_epochs, 2)
        density = list(method.densities.values())[-1][1]
        divergences.append(kl_divergence(problem, partial(density, models), 128))
        means.append(losses[-1])
    if name == "sm":  # its loss says little of the density across valleys
        assert (means[1] < means[0]).all()
    else:
        assert (divergences[1] < 0.8 * divergences[0]).all()


@pytest.mark.parametrize("name", ["gaussian", "laplace", "mdn", "propel", "rlel", "binned"])
def test_a_normalized_density_integrates_to_one(name: str):
    x, y = PROBLEMS["set1"].sample(64)
    method = make_methods("set1")[name]
    models, _ = train(method, x, y, 1, 5)
    # A jump of a histogram costs half a step times its height: 1e-3 in all.
    wide = torch.linspace(-40, 40, 640001)
    with torch.no_grad():
        values = method.densities[name][1](models, torch.tensor([-1.0, 2.0]), wide).double().exp()
    total = torch.trapezoid(values, wide.double(), dim=-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # f = -y^2 / 2 at y = 0.3: log Z = log(2 pi) / 2; of a label of std 0.2, its variance more.
        (methods.ml_is, 0.5 * math.log(2 * math.pi) + 0.5 * 0.3**2),
        (methods.quadrature, 0.5 * math.log(2 * math.pi) + 0.5 * 0.3**2),
        (partial(methods.kld_is, label_std=0.2), 0.5 * math.log(2 * math.pi) + 0.5 * (0.09 + 0.04)),
        # f'' + f'^2 / 2
        (methods.score_matching, -1 + 0.5 * 0.3**2),
    ],
)
def test_losses_of_a_known_f_are_their_closed_forms(loss, expected: float):
    y = torch.full((256, 1), 0.3)
    values = loss(lambda points: -0.5 * points.square(), y, 1024).detach().flatten()
    # Five standard errors; of the uniform grid, the density beyond the range is missing, 0.0027.
    error = 5 * float(values.std()) / 16 + (0.004 if loss is methods.quadrature else 1e-5)
    assert float(values.mean()) == pytest.approx(expected, abs=error)


def test_denoising_is_least_for_the_density_of_the_noise():
    loss = methods.dsm(lambda points: -0.5 * points.square(), torch.zeros(1, 1), 64, std=1.0)
    assert float(loss.detach().abs().max()) < 1e-10


def test_contrasts_of_a_constant_f_less_log_q_are_those_of_guessing():
    noise = methods.centered_noise(methods.NARROW)
    y = torch.zeros(2, 3)
    torch.testing.assert_close(
        methods.nce(noise.log_prob, y, 15), torch.full((2, 3), math.log(16.0))
    )
    torch.testing.assert_close(
        methods.conditional_nce(torch.zeros_like, y, 15), torch.full((2, 3), math.log(16.0))
    )


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_the_true_value_of_nce_plus_is_drawn_from_narrower_noise(beta: float):
    points = []

    def f(y: Tensor) -> Tensor:
        points.append(y)
        return torch.zeros_like(y)

    methods.nce(f, torch.zeros(1, 4000), 1, beta=beta)
    # Of the mixture of stds 0.1 and 0.8; the fourth moment bounds the error by 5 of 1.4 %.
    expected = beta**2 * (0.01 + 0.64) / 2
    assert float(points[0][..., 0].square().mean()) == pytest.approx(expected, rel=0.15)


def test_the_models_of_a_method_are_independent():
    x, y = PROBLEMS["set1"].sample(32)
    models, losses = train(make_methods("set1", 16)["nce"], x, y, 2, 1)
    assert losses[0, 0] != losses[0, 1]
    with torch.no_grad():
        f = methods._energy_density(models, x, y)
    (gradient,) = torch.autograd.grad(
        models.bind(x.expand(2, -1))(y.expand(2, 1, -1).expand(2, 32, 32))[0].sum(),
        models.branch.weight,
    )
    assert f.shape == (2, 32, 32)
    assert gradient[0].abs().sum() > 0
    assert gradient[1].abs().sum() == 0


def test_models_that_diverged_are_counted_and_left_out_of_the_mean():
    summary = summarize([0.1, float("nan"), 0.3])
    assert (summary["mean"], summary["diverged"]) == (pytest.approx(0.2), 1)
    assert summarize([float("inf")])["mean"] is None


def test_the_command_writes_its_files_and_trains_nothing_twice(tmp_path: Path):
    files = [
        part for n in ("json", "figure", "markdown") for part in (f"--{n}", f"{tmp_path}/{n}.png")
    ]
    arguments = ["--methods", "gaussian", "--epochs", "1", "--points", "32", "--grid", "32"]
    arguments += ["--models", "2", "--work-dir", str(tmp_path / "runs"), *files]
    main(arguments)
    results = json.loads((tmp_path / "json.png").read_text())["results"]
    assert results["set2"]["gaussian"]["models"] == 2
    assert "| Gaussian | 2 |" in (tmp_path / "markdown.png").read_text()
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "runs" / "set1_gaussian.pt").stat().st_mtime_ns
    main(arguments)
    assert (tmp_path / "runs" / "set1_gaussian.pt").stat().st_mtime_ns == before
    with pytest.raises(SystemExit, match="choose another --work-dir"):
        main([*arguments, "--epochs", "2"])
