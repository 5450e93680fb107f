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


def _away_from_kinks(density: Density) -> Tensor:
    """0.37 deviations from the mean: no kink of the table lies there."""
    return (density.mean + 0.37 * density.variance.sqrt()).detach()


@every_density
@every_row
def test_mass_mean_and_covariance_are_the_integrals(name: str, row: int):
    density, grid = _density(name), quadrature(name, row)
    assert grid.panel_masses().sum() == pytest.approx(1, abs=1e-9)
    mean, covariance = grid.moments()
    np.testing.assert_allclose(density.mean[row].numpy(), mean, atol=1e-9)
    np.testing.assert_allclose(density.covariance[row].numpy(), covariance, atol=1e-8)
    diagonal = torch.diagonal(density.covariance, dim1=-2, dim2=-1)
    torch.testing.assert_close(density.variance, diagonal, rtol=1e-14, atol=0)


@every_density
@every_row
@pytest.mark.parametrize("d", [0, 1])
def test_cdf_is_the_integral_of_the_marginal(name: str, row: int, d: int):
    grid = quadrature(name, row)
    masses = grid.panel_masses().sum(axis=1 - d)
    expected = np.concatenate(([0], np.cumsum(masses)))
    at = torch.zeros(ROWS, len(expected), 2, dtype=torch.float64)
    at[row, :, d] = torch.from_numpy(grid.edges[d])
    np.testing.assert_allclose(_density(name).cdf(at)[row, :, d].numpy(), expected, atol=1e-9)


@every_density
@every_row
def test_samples_fit_the_density(name: str, row: int, generator: torch.Generator):
    density, grid = _density(name), quadrature(name, row)
    drawn = density.sample(_SAMPLES, generator)
    levels = density.cdf(drawn)[row].numpy()
    assert min(stats.kstest(levels[:, d], "uniform").pvalue for d in range(2)) > _P_VALUE
    log_p = density.log_prob(drawn)[row]
    standard_error = log_p.std().item() / _SAMPLES**0.5
    assert abs(log_p.mean().item() - grid.expectation(grid.log_density)) < 5 * standard_error
    # The cells of the grid, those of fewer than five expected samples as one.
    expected = grid.panel_masses() * _SAMPLES
    observed, *_ = np.histogram2d(*drawn[row].numpy().T, bins=grid.edges)
    populated = expected >= 5
    cells = np.append(observed[populated], _SAMPLES - observed[populated].sum())
    masses = np.append(expected[populated], _SAMPLES - expected[populated].sum())
    if masses[-1] < 5:  # too few for the approximation by chi squared
        cells, masses = cells[:-1], masses[:-1] * cells[:-1].sum() / masses[:-1].sum()
    assert stats.chisquare(cells, masses).pvalue > _P_VALUE


@every_density
def test_log_prob_and_cdf_have_the_derivatives_of_finite_differences(name: str):
    density = _density(name)
    tensors, residuals = _tensors(density), _away_from_kinks(density)

    def log_prob(residuals: Tensor, *values: Tensor) -> Tensor:
        return replace(density, **dict(zip(tensors, values, strict=True))).log_prob(residuals)

    inputs = [value.clone().requires_grad_() for value in (residuals, *tensors.values())]
    assert torch.autograd.gradcheck(log_prob, inputs)
    residuals.requires_grad_()
    (slope,) = torch.autograd.grad(density.cdf(residuals).sum(), residuals)
    step = 1e-6
    numeric = (density.cdf(residuals + step) - density.cdf(residuals - step)) / (2 * step)
    torch.testing.assert_close(slope, numeric.detach(), rtol=1e-6, atol=1e-8)


@every_density
def test_rows_and_samples_are_those_of_a_loop(name: str):
    density = _density(name)
    residuals = density.sample(7)
    for n in range(ROWS):
        one, at = density[n : n + 1], residuals[n : n + 1]
        torch.testing.assert_close(density.log_prob(residuals)[n], one.log_prob(at)[0])
        torch.testing.assert_close(density.cdf(residuals)[n], one.cdf(at)[0])
    torch.testing.assert_close(density.log_prob(residuals)[:, 3], density.log_prob(residuals[:, 3]))
    torch.testing.assert_close(density.cdf(residuals)[:, 3], density.cdf(residuals[:, 3]))


@every_density
def test_far_residuals_have_finite_values_and_gradients_in_float32(name: str):
    density = _density(name).to(torch.float32)
    for distance in (-1e3, 1e3):
        at = (density.mean + distance * density.variance.sqrt()).detach().requires_grad_()
        leaves = {key: value.detach().requires_grad_() for key, value in _tensors(density).items()}
        log_p = replace(density, **leaves).log_prob(at)
        wanted = (at, *leaves.values())
        gradients = torch.autograd.grad(log_p.sum(), wanted, materialize_grads=True)
        assert all(torch.isfinite(value).all() for value in (log_p, *gradients))


@every_density
def test_samples_are_those_of_the_generator_and_have_no_graph(name: str):
    density = _density(name)
    first, second = (density.sample(6, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    leaves = {key: value.clone().requires_grad_() for key, value in _tensors(density).items()}
    assert not replace(density, **leaves).sample(3).requires_grad


@every_density
def test_residuals_of_another_shape_are_refused(name: str):
    density = _density(name)
    for wrong in (torch.zeros(ROWS, 1), torch.zeros(1, 2), torch.zeros(2), torch.zeros(4, ROWS, 2)):
        for function in (density.log_prob, density.cdf):
            with pytest.raises(ValueError, match="residuals must have shape"):
                function(wrong)


@every_density
def test_a_residual_of_nan_has_no_density(name: str):
    density = _density(name)
    unknown = torch.full((ROWS, 2), math.nan, dtype=torch.float64)
    assert torch.isnan(density.log_prob(unknown)).all()
    assert torch.isnan(density.cdf(unknown)).all()
