from __future__ import annotations

import math

import pytest
import torch

from ebm3d.densities import Density, GaussianDensity, LaplaceDensity, MixtureDensity
from ebm3d.densities.rescaled import RescaledDensity

_FACTORS = torch.tensor([0.5, 3.0], dtype=torch.float64)


def _bases() -> list[Density]:
    """Seeded by the fixture of all tests."""
    two = [torch.randn(4, 2, dtype=torch.float64) for _ in range(2)]
    three = [torch.randn(4, 3, 2, dtype=torch.float64) for _ in range(2)]
    return [GaussianDensity(*two), LaplaceDensity(*two), MixtureDensity(*three, "mode")]


def test_spread_is_multiplied_exactly():
    for base in _bases():
        widened = RescaledDensity.of(base, _FACTORS)
        torch.testing.assert_close(
            widened.variance.sqrt(), base.variance.sqrt() * _FACTORS, rtol=1e-14, atol=0
        )


def test_correlations_stay():
    for base in _bases():
        widened = RescaledDensity.of(base, _FACTORS)
        torch.testing.assert_close(
            _correlation(widened), _correlation(base), rtol=1e-12, atol=1e-15
        )


def _correlation(density: Density) -> torch.Tensor:
    std = density.variance.sqrt()
    return density.covariance / (std[:, :, None] * std[:, None])


def test_point_estimate_stays():
    for base in _bases():
        assert torch.equal(RescaledDensity.of(base, _FACTORS).point, base.point)


def test_factor_one_changes_nothing():
    for base in _bases():
        widened = RescaledDensity.of(base, 1.0)
        residuals = base.sample(5)
        torch.testing.assert_close(widened.log_prob(residuals), base.log_prob(residuals))
        torch.testing.assert_close(widened.cdf(residuals), base.cdf(residuals))


def test_widened_gaussian_is_the_gaussian_of_that_spread():
    gaussian = _bases()[0]
    assert isinstance(gaussian, GaussianDensity)
    log_variance = gaussian.log_variance + 2 * torch.log(_FACTORS)
    expected = GaussianDensity(gaussian.location, log_variance)
    widened, residuals = RescaledDensity.of(gaussian, _FACTORS), expected.sample(9)
    torch.testing.assert_close(widened.log_prob(residuals), expected.log_prob(residuals))
    torch.testing.assert_close(widened.cdf(residuals), expected.cdf(residuals))


def test_widening_twice_is_widening_by_the_product():
    for base in _bases():
        twice = RescaledDensity.of(RescaledDensity.of(base, 2.0), _FACTORS)
        once = RescaledDensity.of(base, 2 * _FACTORS)
        residuals = once.sample(5)
        torch.testing.assert_close(twice.log_prob(residuals), once.log_prob(residuals))


def test_rows_are_selected_with_their_factors():
    base = _bases()[1]
    factors = torch.rand(4, 2, dtype=torch.float64) + 0.5
    residuals = base.sample(5)
    kept = RescaledDensity(base, factors)[[2, 0]]
    expected = RescaledDensity(base, factors).log_prob(residuals)[:, [2, 0]]
    torch.testing.assert_close(kept.log_prob(residuals[:, [2, 0]]), expected)


@pytest.mark.parametrize("factors", [0.0, -1.0, math.nan, math.inf])
def test_factors_that_are_not_positive_are_refused(factors: float):
    with pytest.raises(ValueError, match="factors must be positive and finite"):
        RescaledDensity.of(_bases()[0], factors)


def test_factors_of_another_number_are_refused():
    with pytest.raises(ValueError, match=r"factors must have shape \(\), or \(2,\)"):
        RescaledDensity.of(_bases()[0], torch.ones(3))


def test_factors_for_another_number_of_rows_are_refused():
    with pytest.raises(ValueError, match=r"factors must have shape \(4, D\)"):
        RescaledDensity(_bases()[0], torch.ones(3, 2))
