from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from ebm3d.benchmarks.regression_1d.mixture import WeightedMixture
from ebm3d.benchmarks.regression_1d.randomness import ModelGenerators


@pytest.fixture
def mixture() -> WeightedMixture:
    outputs = torch.tensor([0.3, -1.0, 0.8, -0.5, 1.0, 0.1, -2.0, -1.0, -3.0])
    return WeightedMixture.from_outputs(outputs.expand(2, 3, 9))


def _scipy(y: np.ndarray, kind: str) -> np.ndarray:
    weights = np.exp([0.3, -1.0, 0.8])
    scales = np.exp(np.array([-2.0, -1.0, -3.0]) / 2)
    parts = [stats.norm(m, s) for m, s in zip([-0.5, 1.0, 0.1], scales, strict=True)]
    values = sum(w * getattr(part, kind)(y) for w, part in zip(weights, parts, strict=True))
    return values / weights.sum()


def test_the_density_is_that_of_scipy(mixture: WeightedMixture):
    y = torch.linspace(-3, 3, 101)
    ours = mixture.log_prob(y.expand(2, 3, -1)).exp()
    assert ours.shape == (2, 3, 101)
    np.testing.assert_allclose(ours[1, 2].numpy(), _scipy(y.numpy(), "pdf"), rtol=1e-5)


def test_samples_fit_the_density(mixture: WeightedMixture):
    samples = mixture.sample(2000, ModelGenerators([0, 1]))
    assert samples.shape == (2, 3, 2000)
    for model in (0, 1):
        drawn = samples[model].flatten().numpy()
        assert stats.kstest(drawn, lambda y: _scipy(y, "cdf")).pvalue > 1e-6


def test_each_model_has_a_generator_of_its_own(mixture: WeightedMixture):
    together = mixture.sample(5, ModelGenerators([3, 4]))
    one = WeightedMixture(mixture.log_weights[1:], mixture.means[1:], mixture.log_variances[1:])
    assert torch.equal(together[1:], one.sample(5, ModelGenerators([4])))
    assert not torch.equal(together[0], together[1])


def test_standard_deviations_are_bounded():
    outputs = torch.tensor([0.0, 0.0, 0.5, -0.5, -80.0, 80.0])
    stds = torch.exp(WeightedMixture.from_outputs(outputs.expand(1, 1, 6)).log_variances / 2)
    np.testing.assert_allclose(stds[0, 0].numpy(), [0.01, 4.0], rtol=1e-5)
