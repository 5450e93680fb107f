"""Densities widened, translated, or with the point estimate of a decoder."""

from __future__ import annotations

import math

import pytest
import torch

from ebm3d.densities import Density, GaussianDensity, LaplaceDensity, MixtureDensity

pytestmark = pytest.mark.usefixtures("float64")

_FACTORS = torch.tensor([0.5, 3.0], dtype=torch.float64)


def _bases() -> list[Density]:
    three = torch.randn(2, 4, 3, 2)
    return [
        GaussianDensity(*torch.randn(2, 4, 2)),
        LaplaceDensity(*torch.randn(2, 4, 2)),
        MixtureDensity(*three, "mode"),
    ]


def _assert_same_density(actual: Density, expected: Density):
    residuals = torch.randn(4, 5, 2)
    torch.testing.assert_close(actual.log_prob(residuals), expected.log_prob(residuals))
    torch.testing.assert_close(actual.cdf(residuals), expected.cdf(residuals))
    torch.testing.assert_close(actual.mean, expected.mean)
    torch.testing.assert_close(actual.covariance, expected.covariance)
    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    torch.testing.assert_close(actual.sample(6, one), expected.sample(6, other))


def test_rescaling_multiplies_the_spread_and_keeps_the_point_estimate():
    for base in _bases():
        widened = base.rescaled(_FACTORS)
        torch.testing.assert_close(widened.variance, base.variance * _FACTORS.square())
        assert torch.equal(widened.point, base.point)
        _assert_same_density(base.rescaled(2.0).rescaled(_FACTORS), base.rescaled(2 * _FACTORS))
        _assert_same_density(base.rescaled(1.0), base)


def test_gaussians_stay_gaussians():
    location, log_variance, offset = torch.randn(3, 4, 2)
    base = GaussianDensity(location, log_variance)
    widened = GaussianDensity(location, log_variance + 2 * torch.log(_FACTORS))
    _assert_same_density(base.rescaled(_FACTORS), widened)
    translated = GaussianDensity(location + offset, log_variance)
    _assert_same_density(base.translated(offset), translated)
    torch.testing.assert_close(base.translated(offset).point, translated.point)


def test_a_decoded_point_estimate_leaves_the_density():
    for base in _bases():
        point = torch.randn(4, 2)
        decoded = base.with_point(point)
        assert torch.equal(decoded.point, point)
        _assert_same_density(decoded, base)
        # Temperature widens about the point estimate.
        torch.testing.assert_close(decoded.rescaled(3.0).mean, point + 3 * (base.mean - point))


@pytest.mark.parametrize("factors", [0.0, -1.0, math.nan, math.inf, torch.ones(3)])
def test_wrong_factors_are_refused(factors: float | torch.Tensor):
    with pytest.raises(ValueError, match="factors must"):
        _bases()[0].rescaled(factors)


def test_points_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="must have shape"):
        _bases()[0].with_point(torch.zeros(3, 2))
