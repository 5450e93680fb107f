from __future__ import annotations

import torch

from ebm3d.energy import NormalizedEnergy
from tests.energy.gaussian_energy import CONSTANT, NOISE, GaussianEnergy


def test_normalizers_of_a_density_times_a_constant_are_the_constant():
    f = GaussianEnergy(3)
    normalized = NormalizedEnergy(f, f.boxes, NOISE)
    expected = torch.full((3,), CONSTANT, dtype=torch.float64)
    torch.testing.assert_close(normalized.laplace.log_normalizer, expected)
    samples = normalized.posterior(2048, 4)
    # Five standard errors; the last round keeps most samples of a Gaussian.
    torch.testing.assert_close(samples.log_normalizer, expected, atol=5 / 1000**0.5, rtol=0)


def test_what_is_asked_for_twice_is_found_once():
    f = GaussianEnergy(2)
    normalized = NormalizedEnergy(f, f.boxes, NOISE)
    assert f.num_calls == 0
    assert normalized.laplace is normalized.laplace
    calls = f.num_calls
    assert normalized.posterior(16, 2) is normalized.posterior(16, 2)
    assert calls > 0
    assert f.num_calls - calls == 2
    assert normalized.posterior(16, 3) is not normalized.posterior(16, 2)


def test_units_are_those_of_the_noise_at_the_boxes_asked_for():
    f = GaussianEnergy(2)
    boxes = f.boxes * 1.5
    found = NormalizedEnergy(f, f.boxes, NOISE).noise_std(boxes)
    assert torch.equal(found, NOISE.noise_std(boxes, f.labels))
