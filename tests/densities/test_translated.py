from __future__ import annotations

import pytest
import torch

from ebm3d.densities import GaussianDensity, MixtureDensity
from ebm3d.densities.translated import TranslatedDensity

pytestmark = pytest.mark.usefixtures("float64")


def test_translated_gaussian_is_the_gaussian_of_the_moved_mean():
    location, log_variance, offset = torch.randn(3, 4, 7)
    found = TranslatedDensity(GaussianDensity(location, log_variance), offset)
    expected = GaussianDensity(location + offset, log_variance)
    residuals = torch.randn(5, 4, 7)
    for name in ("point", "mean", "variance", "covariance"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    torch.testing.assert_close(found.log_prob(residuals), expected.log_prob(residuals))
    torch.testing.assert_close(found.cdf(residuals), expected.cdf(residuals))
    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    torch.testing.assert_close(found.sample(6, one), expected.sample(6, other))


def test_rows_are_chosen_with_their_offsets():
    base = MixtureDensity(torch.randn(4, 2, 7), torch.randn(4, 2, 7))
    density = TranslatedDensity(base, torch.randn(4, 7))
    index = torch.tensor([3, 1])
    assert torch.equal(density[index].point, density.point[index])


def test_offset_of_another_shape_is_refused():
    base = GaussianDensity(torch.zeros(2, 7), torch.zeros(2, 7))
    with pytest.raises(ValueError, match="offset must have shape"):
        TranslatedDensity(base, torch.zeros(1, 7))
