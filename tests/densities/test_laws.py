"""The laws every density obeys, on the table of examples.

A statistical test here fails by chance for one seed in 10,000; seeds are fixed.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ebm3d.densities import Density
from tests.densities.examples import EXAMPLES, ROWS, quadrature

_P_VALUE = 1e-4
_SAMPLES = 20_000

every_density = pytest.mark.parametrize("name", EXAMPLES)
every_row = pytest.mark.parametrize("row", range(ROWS))


def _density(name: str, rows: int = ROWS) -> Density:
    return EXAMPLES[name].build(rows)


def _tensors(density: Density) -> dict[str, Tensor]:
    """The parameters of a density that are tensors, by name."""
    named = {field.name: getattr(density, field.name) for field in fields(density)}
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


@every_density
@every_row
def test_density_integrates_to_one(name: str, row: int):
    assert quadrature(name, row).panel_masses().sum() == pytest.approx(1, abs=1e-9)


@every_density
@every_row
def test_mean_is_the_first_moment(name: str, row: int):
    mean, _ = quadrature(name, row).moments()
    np.testing.assert_allclose(_density(name).mean[row].numpy(), mean, atol=1e-9)


@every_density
@every_row
def test_covariance_is_the_second_central_moment(name: str, row: int):
    _, covariance = quadrature(name, row).moments()
    np.testing.assert_allclose(_density(name).covariance[row].numpy(), covariance, atol=1e-8)


@every_density
def test_variance_is_the_diagonal_of_the_covariance(name: str):
    density = _density(name)
    diagonal = torch.diagonal(density.covariance, dim1=-2, dim2=-1)
    torch.testing.assert_close(density.variance, diagonal, rtol=1e-14, atol=0)


@every_density
@every_row
@pytest.mark.parametrize("d", [0, 1])
def test_cdf_is_the_integral_of_the_marginal(name: str, row: int, d: int):
    grid = quadrature(name, row)
    masses = grid.panel_masses().sum(axis=1 - d)
    expected = np.concatenate(([0], np.cumsum(masses)))
    at = torch.zeros(len(expected), ROWS, 2, dtype=torch.float64)
    at[:, row, d] = torch.from_numpy(grid.edges[d])
    np.testing.assert_allclose(_density(name).cdf(at)[:, row, d].numpy(), expected, atol=1e-9)


@every_density
@every_row
def test_samples_fall_into_cells_as_the_density_says(
    name: str, row: int, generator: torch.Generator
):
    grid = quadrature(name, row)
    expected = grid.panel_masses() * _SAMPLES
    drawn = _density(name).sample(_SAMPLES, generator)[:, row].numpy()
    observed, *_ = np.histogram2d(drawn[:, 0], drawn[:, 1], bins=grid.edges)
    populated = expected >= 5
    cells = np.append(observed[populated], _SAMPLES - observed[populated].sum())
    masses = np.append(expected[populated], _SAMPLES - expected[populated].sum())
    if masses[-1] < 5:  # too few for the approximation by chi squared
        cells, masses = cells[:-1], masses[:-1] * cells[:-1].sum() / masses[:-1].sum()
    assert stats.chisquare(cells, masses).pvalue > _P_VALUE


@every_density
@every_row
def test_samples_follow_the_cdf(name: str, row: int, generator: torch.Generator):
    density = _density(name)
    levels = density.cdf(density.sample(_SAMPLES, generator))[:, row].numpy()
    p_values = [stats.kstest(levels[:, d], "uniform").pvalue for d in range(2)]
    assert min(p_values) > _P_VALUE


@every_density
@every_row
def test_mean_log_density_of_samples_is_minus_the_entropy(
    name: str, row: int, generator: torch.Generator
):
    density, grid = _density(name), quadrature(name, row)
    log_p = density.log_prob(density.sample(_SAMPLES, generator))[:, row]
    standard_error = log_p.std().item() / _SAMPLES**0.5
    assert abs(log_p.mean().item() - grid.expectation(grid.log_density)) < 5 * standard_error


@every_density
def test_log_prob_has_the_derivatives_of_finite_differences(name: str):
    density = _density(name)
    tensors = _tensors(density)
    # 0.37 of a deviation away: no kink of the table lies there.
    residuals = (density.mean + 0.37 * density.variance.sqrt()).detach()

    def log_prob(residuals: Tensor, *values: Tensor) -> Tensor:
        return replace(density, **dict(zip(tensors, values, strict=True))).log_prob(residuals)

    inputs = [value.clone().requires_grad_() for value in (residuals, *tensors.values())]
    assert torch.autograd.gradcheck(log_prob, inputs)


@every_density
def test_derivative_of_the_cdf_is_the_marginal_density(name: str):
    density = _density(name)
    residuals = (density.mean + 0.37 * density.variance.sqrt()).detach().requires_grad_()
    (slope,) = torch.autograd.grad(density.cdf(residuals).sum(), residuals)
    step = 1e-6
    numeric = (density.cdf(residuals + step) - density.cdf(residuals - step)) / (2 * step)
    torch.testing.assert_close(slope, numeric.detach(), rtol=1e-6, atol=1e-8)


@every_density
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_rows_give_no_values(name: str, dtype: torch.dtype):
    density = _density(name, 0).to(dtype)
    drawn = density.sample(4)
    assert drawn.shape == (4, 0, 2)
    assert density.log_prob(drawn).shape == (4, 0)
    assert density.cdf(drawn).shape == (4, 0, 2)
    assert density.covariance.shape == (0, 2, 2)
    assert density.point.shape == density.mean.shape == density.variance.shape == (0, 2)


@every_density
def test_no_samples_are_no_samples(name: str):
    assert _density(name).sample(0).shape == (0, ROWS, 2)


@every_density
def test_everything_stays_in_float32(name: str):
    density = _density(name).to(torch.float32)
    drawn = density.sample(5)
    values = (drawn, density.log_prob(drawn), density.cdf(drawn), density.point, density.mean)
    assert {value.dtype for value in (*values, density.covariance)} == {torch.float32}


@every_density
def test_float32_agrees_with_float64(name: str):
    exact = _density(name)
    residuals = exact.mean + 0.37 * exact.variance.sqrt()
    rounded = exact.to(torch.float32).log_prob(residuals.float())
    torch.testing.assert_close(rounded.double(), exact.log_prob(residuals), rtol=1e-5, atol=1e-5)


@every_density
@pytest.mark.parametrize("leading", [(), (5,), (2, 3)])
def test_leading_axes_are_kept(name: str, leading: tuple[int, ...]):
    density = _density(name)
    residuals = density.mean.expand(*leading, ROWS, 2)
    assert density.log_prob(residuals).shape == (*leading, ROWS)
    assert density.cdf(residuals).shape == (*leading, ROWS, 2)


@every_density
def test_rows_do_not_see_each_other(name: str):
    density = _density(name)
    residuals = density.sample(7)
    alone = [density[n : n + 1].log_prob(residuals[:, n : n + 1]) for n in range(ROWS)]
    torch.testing.assert_close(density.log_prob(residuals), torch.cat(alone, 1))


@every_density
def test_far_residuals_have_finite_values_and_gradients_in_float32(name: str):
    density = _density(name).to(torch.float32)
    for distance in (-1e3, 1e3):
        at = (density.mean + distance * density.variance.sqrt()).detach().requires_grad_()
        names = _tensors(density)
        leaves = {key: value.detach().requires_grad_() for key, value in names.items()}
        log_p = replace(density, **leaves).log_prob(at)
        wanted = (at, *leaves.values())
        gradients = torch.autograd.grad(log_p.sum(), wanted, materialize_grads=True)
        assert all(torch.isfinite(value).all() for value in (log_p, *gradients))


@every_density
def test_cdf_is_zero_far_below_and_one_far_above(name: str):
    density = _density(name)
    reach = 1e3 * density.variance.sqrt()
    ends = density.cdf(torch.stack((density.mean - reach, density.mean + reach)))
    assert ends[0].abs().max() < 1e-12
    assert (1 - ends[1]).abs().max() < 1e-12


@every_density
def test_samples_are_those_of_the_generator(name: str):
    density = _density(name)
    first, second = (density.sample(6, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)


@every_density
def test_samples_have_no_graph(name: str):
    density = _density(name)
    leaves = {key: value.clone().requires_grad_() for key, value in _tensors(density).items()}
    assert not replace(density, **leaves).sample(3).requires_grad


@every_density
def test_residuals_of_another_shape_are_refused(name: str):
    density = _density(name)
    for wrong in (torch.zeros(ROWS, 1), torch.zeros(1, 2), torch.zeros(2)):
        with pytest.raises(ValueError, match=r"residuals must have shape \(\.\.\., 3, 2\)"):
            density.log_prob(wrong)
        with pytest.raises(ValueError, match=r"residuals must have shape \(\.\.\., 3, 2\)"):
            density.cdf(wrong)


@every_density
def test_what_is_not_a_number_has_no_density(name: str):
    density = EXAMPLES[name].build(ROWS)
    unknown = torch.full((ROWS, 2), math.nan, dtype=torch.float64)
    assert torch.isnan(density.log_prob(unknown)).all()
    assert torch.isnan(density.cdf(unknown)).all()
