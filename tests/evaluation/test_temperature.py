from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from ebm3d.evaluation.calibration import DIMENSIONS
from ebm3d.evaluation.temperature import fit_temperature, read_temperature, write_temperature


@pytest.mark.parametrize(
    ("density", "expected"),
    [
        (stats.norm, lambda z: np.sqrt(np.square(z).mean(axis=0))),
        (stats.laplace, lambda z: np.abs(z).mean(axis=0)),
    ],
)
def test_factors_are_the_maximum_likelihood_scales(rng, density, expected):
    z = density.rvs(size=(300, 7), random_state=rng) * np.geomspace(0.1, 8.0, 7)
    fitted = fit_temperature(lambda s: -density.logpdf(z, scale=s).sum(axis=1).mean(), 300)
    scale = expected(z)
    np.testing.assert_allclose(fitted.factors, scale, rtol=1e-3)
    after = -density.logpdf(z, scale=scale).sum(axis=1).mean()
    assert fitted.nll_after == pytest.approx(after)
    assert fitted.nll_before == pytest.approx(-density.logpdf(z).sum(axis=1).mean())


def test_factors_of_a_joint_density_are_at_the_minimum_though_they_depend_on_each_other(rng):
    """A common scale of all dimensions, Student's t with 3 degrees of freedom."""
    scale = np.geomspace(0.4, 2.5, 7)
    z = stats.multivariate_t(shape=np.diag(scale**2), df=3, seed=rng).rvs(2000)

    def nll(s):
        return -stats.multivariate_t(shape=np.diag(s**2), df=3).logpdf(z).mean()

    fitted = fit_temperature(nll, 2000)
    np.testing.assert_allclose(fitted.factors, scale, rtol=0.15)
    for index in range(7):
        for step in (0.97, 1.03):
            moved = np.array(fitted.factors)
            moved[index] *= step
            assert nll(moved) > fitted.nll_after


def test_factors_of_histograms_are_near_the_best_though_their_density_has_steps(rng):
    z = rng.normal(size=(400, 7)) * np.geomspace(0.4, 2.5, 7)

    def nll(s):  # uniform in bins of width 1/2 with the masses of a normal distribution
        edge = np.floor(z / s * 2) / 2
        mass = stats.norm.cdf(edge + 0.5) - stats.norm.cdf(edge) + 1e-12
        return -np.log(mass * 2 / s).mean(axis=0)

    grid = np.exp(np.linspace(np.log(0.1), np.log(10.0), 1000))
    best = sum(np.stack([nll(s) for s in grid]).min(axis=0))
    fitted = fit_temperature(lambda s: float(nll(s).sum()), 400)
    assert fitted.nll_before > best + 1.0
    assert fitted.nll_after < best + 0.05


def test_scaling_is_never_worse_than_none():
    fitted = fit_temperature(lambda s: 1.0 if (s == 1).all() else 2.0, 10)
    assert fitted.factors == (1.0,) * 7
    assert fitted.nll_after == fitted.nll_before == 1.0


@pytest.mark.parametrize(("num", "value"), [(0, math.nan), (5, math.nan), (5, math.inf)])
def test_nothing_is_fitted_to_nothing(num, value):
    with pytest.raises(ValueError, match="calibration pairs must be one or more"):
        fit_temperature(lambda s: value, num)


@pytest.mark.parametrize("num", [7, 9])
def test_factors_are_read_as_they_were_written(tmp_path, rng, num):
    z = rng.normal(size=(50, num))
    z[:, 0] = 0.0  # its factor is the smallest there is
    fitted = fit_temperature(lambda s: -stats.norm.logpdf(z, scale=s).sum(axis=1).mean(), 50, num)
    path = tmp_path / "new" / "temperature.json"
    write_temperature(path, fitted)
    assert tuple(read_temperature(path)) == fitted.factors
    assert json.loads(path.read_text())["num_pairs"] == 50


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("not json", "a JSON file"),
        ([1, 2], "factors of x, y, z, dx, dy, dz, yaw"),
        ({"factors": {"x": 1.0}}, "factors of x, y, z, dx, dy, dz, yaw"),
        *(({"dz": value}, "factor of dz") for value in (0.0, math.nan, 1e9, "2", True)),
    ],
)
def test_files_that_hold_no_factors_are_refused(tmp_path, tree, message):
    path = tmp_path / "t.json"
    with pytest.raises(FileNotFoundError, match="--fit-temperature"):
        read_temperature(path)
    if isinstance(tree, dict) and "dz" in tree:
        tree = {"factors": dict.fromkeys(DIMENSIONS, 1.5) | tree}
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    with pytest.raises(ValueError, match=message):
        read_temperature(path)
