from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch import Tensor
from torch.distributions import MultivariateNormal

from ebm3d.boxes.codings import LocalCoding
from ebm3d.energy import ImportanceSamples, sample_posterior
from ebm3d.noise import BoxNoise

_STDS = [0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04]
_CONSTANT = 17.3


@dataclass
class _Gaussian:
    """f = log density of a Gaussian of the residuals around boxes, plus a constant."""

    boxes: Tensor
    mean: Tensor
    covariance: Tensor
    noise: BoxNoise

    @property
    def labels(self) -> Tensor:
        return torch.zeros(len(self.boxes), dtype=torch.int64)

    @property
    def coding(self) -> LocalCoding:
        return LocalCoding(self.boxes, self.noise.noise_std(self.boxes, self.labels))

    def __call__(self, boxes: Tensor) -> Tensor:
        flat = boxes.transpose(0, 1)
        residuals = self.coding.encode(flat)
        density = MultivariateNormal(self.mean, self.covariance)
        log_p = density.log_prob(residuals) - self.coding.log_volume(flat)
        return log_p.transpose(0, 1) + _CONSTANT

    def posterior(self, num_samples: int = 4096, num_rounds: int = 4) -> ImportanceSamples:
        """Samples of a fixed seed."""
        generator = torch.Generator().manual_seed(3)
        return sample_posterior(
            self, self.boxes, self.labels, self.noise, num_samples, num_rounds, generator
        )


def _gaussian(count: int = 4) -> _Gaussian:
    """Correlated, half as wide as the noise, off its center; one box heads along -x."""
    low = torch.tensor([5.0, -10, -2, 3, 1.4, 1.2, -3], dtype=torch.float64)
    spread = torch.tensor([20.0, 20, 1, 2, 1, 1, 6])
    boxes = low + spread * torch.rand(count, 7, dtype=torch.float64)
    boxes[:1, 6] = math.pi - 1e-3
    mean = 0.4 * torch.randn(count, 7, dtype=torch.float64)
    root = torch.randn(count, 7, 7, dtype=torch.float64)
    root = 0.35 * torch.eye(7, dtype=torch.float64) + 0.08 * root
    return _Gaussian(boxes, mean, root @ root.transpose(1, 2), BoxNoise(_STDS))


def _assert_within(found: Tensor, expected: Tensor, standard_error: Tensor) -> None:
    """Five standard errors."""
    assert bool(((found - expected).abs() <= 5 * standard_error).all())


def test_normalizer_of_a_density_times_a_constant_is_the_constant():
    posterior = _gaussian().posterior()
    error = (1 / posterior.effective_sample_size - 1 / posterior.f.shape[1]).sqrt()
    assert float(error.max()) < 0.05
    _assert_within(posterior.log_normalizer, torch.full((4,), _CONSTANT), error)


def test_normalizer_by_the_noise_alone_is_the_same_within_its_larger_error():
    posterior = _gaussian().posterior(num_rounds=1)
    error = (1 / posterior.effective_sample_size - 1 / posterior.f.shape[1]).sqrt()
    _assert_within(posterior.log_normalizer, torch.full((4,), _CONSTANT), error)


@pytest.mark.parametrize(("axes", "sizes"), [("box", "log"), ("world", "metric")])
def test_residuals_of_the_noise_itself_have_unit_deviations(axes: str, sizes: str):
    # One component; small deviations, so that metric sizes are log ratios to first order.
    g, count = _gaussian(), 20_000
    noise = BoxNoise([0.01 * s for s in _STDS], (1.0,), axes=axes, sizes=sizes)
    posterior = sample_posterior(
        lambda boxes: noise.log_prob(g.boxes, boxes, g.labels), g.boxes, g.labels, noise, count, 1
    )
    variances = torch.diagonal(posterior.residual_covariance, dim1=-2, dim2=-1)
    # Standard error of a variance of n Gaussian samples: sqrt(2 / n).
    np.testing.assert_allclose(variances, 1, atol=5 * math.sqrt(2 / count))


def test_f_of_the_noise_itself_has_equal_weights_and_an_exact_normalizer():
    g = _gaussian()
    posterior = sample_posterior(
        lambda boxes: g.noise.log_prob(g.boxes, boxes, g.labels) - 2.5,
        g.boxes,
        g.labels,
        g.noise,
        num_samples=64,
        num_rounds=1,
    )
    ones = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(posterior.log_normalizer, -2.5 * ones)
    torch.testing.assert_close(posterior.effective_sample_size, 64 * ones)


def test_mean_and_covariance_are_those_of_the_density():
    g = _gaussian()
    posterior = g.posterior()
    size = posterior.effective_sample_size
    variance = g.covariance.diagonal(dim1=1, dim2=2)
    error = (variance / size[:, None]).sqrt()
    _assert_within(posterior.mean_residuals, g.mean, error)
    products = variance[:, :, None] * variance[:, None] + g.covariance.square()
    error = (products / size[:, None, None]).sqrt()
    _assert_within(posterior.residual_covariance, g.covariance, error)


def test_boxes_and_covariance_in_meters_follow_from_the_residuals():
    posterior = _gaussian().posterior(128)
    coding, mean = posterior.coding, posterior.mean_residuals
    torch.testing.assert_close(posterior.boxes, coding.decode(mean))
    jacobian = torch.autograd.functional.jacobian(coding.decode, mean)
    for n in range(4):
        own = jacobian[n, :, n]
        expected = own @ posterior.residual_covariance[n] @ own.T
        torch.testing.assert_close(posterior.covariance[n], expected)
        torch.testing.assert_close(posterior.std[n], expected.diagonal().sqrt())


def test_marginal_distribution_functions_are_those_of_the_density():
    g = _gaussian()
    posterior = g.posterior()
    variance = g.covariance.diagonal(dim1=1, dim2=2)
    for z in (-1.5, -0.3, 0.0, 0.8):
        found = posterior.cdf(g.coding.decode(g.mean + z * variance.sqrt()))
        error = (0.25 / posterior.effective_sample_size).sqrt()[:, None]
        _assert_within(found, torch.full_like(found, norm.cdf(z)), error)


def test_entropy_is_that_of_the_density_in_meters_and_radians():
    g = _gaussian()
    posterior = g.posterior()
    own = torch.tensor([multivariate_normal(cov=c.numpy()).entropy() for c in g.covariance])
    volume = g.coding.log_volume(g.coding.decode(g.mean))  # linear in the residuals
    # log p of a Gaussian scatters with variance D / 2; the volume adds little.
    error = (4 / posterior.effective_sample_size).sqrt()
    _assert_within(posterior.entropy, own + volume, error)


def test_log_density_of_boxes_is_f_less_the_normalizer():
    g = _gaussian()
    posterior = g.posterior(128)
    f = g(g.boxes[:, None])[:, 0]
    torch.testing.assert_close(posterior.log_prob(f), f - posterior.log_normalizer)
    expected = f / 2 - posterior.tempered(2.0).log_normalizer
    torch.testing.assert_close(posterior.tempered(2.0).log_prob(f), expected)


def test_squared_distances_have_the_mean_of_their_dimensions():
    posterior = _gaussian().posterior(128)
    squared = torch.stack([posterior.squared_mahalanobis(y) for y in posterior.samples.unbind(1)])
    expected = torch.full((4,), 7.0, dtype=torch.float64)
    torch.testing.assert_close((posterior.weights * squared.T).sum(1), expected)


def test_distance_is_unknown_where_one_sample_has_all_the_weight():
    posterior = sample_posterior(
        lambda boxes: 1e6 * boxes[..., 0],
        *(_gaussian().boxes, torch.zeros(4, dtype=torch.int64), BoxNoise(_STDS)),
        num_samples=16,
        num_rounds=1,
    )
    assert bool(torch.isnan(posterior.squared_mahalanobis(posterior.boxes)).all())


def test_adapted_proposal_wastes_far_fewer_samples_than_the_noise():
    g = _gaussian()
    adapted, alone = (g.posterior(512, rounds).effective_sample_size for rounds in (4, 1))
    assert bool((adapted > 5 * alone).all())
    assert bool((adapted > 128).all())
    assert bool((alone >= 1).all())


def test_temperature_scales_the_covariance_of_a_gaussian():
    # exp(f / tau) in residuals is N(m, tau C) times exp((1 - 1 / tau) u t), u the units of the log
    # sizes, as f is a density over meters: a Gaussian of covariance tau C about m + (tau - 1) C u.
    g, tau = _gaussian(), 1.4
    posterior = g.posterior(8192).tempered(tau)
    size = posterior.effective_sample_size
    assert float(size.min()) > 1000
    noise_std = torch.tensor([0.0, 0, 0, *_STDS[3:6], 0], dtype=torch.float64)
    covariance = tau * g.covariance
    variance = covariance.diagonal(dim1=1, dim2=2)
    mean = g.mean + (tau - 1) * g.covariance @ noise_std
    _assert_within(posterior.mean_residuals, mean, (variance / size[:, None]).sqrt())
    products = variance[:, :, None] * variance[:, None] + covariance.square()
    error = (products / size[:, None, None]).sqrt()
    _assert_within(posterior.residual_covariance, covariance, error)


def test_drawn_boxes_follow_the_weights():
    posterior = _gaussian().posterior(512)
    drawn = posterior.sample(4000, torch.Generator().manual_seed(0))
    assert drawn.shape == (4000, 4, 7)
    residuals = posterior.coding.encode(drawn)
    variance = posterior.residual_covariance.diagonal(dim1=1, dim2=2)
    _assert_within(residuals.mean(0), posterior.mean_residuals, (variance / 4000).sqrt())
    for n in range(4):
        known = {tuple(box) for box in posterior.samples[n].tolist()}
        assert all(tuple(box) in known for box in drawn[:50, n].tolist())


def test_drawn_boxes_of_a_posterior_that_is_nan_are_nan_and_the_others_are_drawn():
    posterior = _gaussian(3).posterior(64, 1)
    f = posterior.f.clone()
    f[1, 5] = math.nan
    drawn = replace(posterior, f=f).sample(4, torch.Generator().manual_seed(0))
    assert torch.isnan(drawn).all(dim=-1).tolist() == [[False, True, False]] * 4


def test_f_of_other_boxes_does_not_matter():
    g = _gaussian()
    expected = g.posterior(64)
    other = _gaussian()
    other.boxes, other.mean = g.boxes, g.mean.clone()
    other.covariance = g.covariance.clone()
    other.mean[1:] += 1
    other.covariance[1:] *= 2
    found = other.posterior(64)
    for name in ("samples", "f", "log_q", "weights", "mean_residuals"):
        torch.testing.assert_close(getattr(found, name)[0], getattr(expected, name)[0])
    assert not torch.allclose(found.mean_residuals[1:], expected.mean_residuals[1:])


def test_one_more_box_changes_no_other():
    g = _gaussian()
    expected = g.posterior(64)
    for rows in (slice(0, 1), slice(1, 4), torch.tensor([3, 0])):
        part = _Gaussian(g.boxes[rows], g.mean[rows], g.covariance[rows], g.noise)
        found = part.posterior(64)
        for name in ("samples", "f", "log_q", "mean_residuals", "log_normalizer"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name)[rows])


def test_rows_of_a_posterior_are_posteriors():
    posterior = _gaussian().posterior(64)
    part = posterior.tempered(1.5)[torch.tensor([2, 0])]
    joined = ImportanceSamples.cat([posterior[2:3], posterior[:1]]).tempered(1.5)
    for name in ("log_normalizer", "entropy", "std"):
        expected = getattr(posterior.tempered(1.5), name)[[2, 0]]
        torch.testing.assert_close(getattr(part, name), expected)
        torch.testing.assert_close(getattr(joined, name), expected)


def test_f_is_evaluated_in_the_dtype_of_the_boxes_and_kept_in_float64():
    g, seen = _gaussian(), []

    def f(boxes: Tensor) -> Tensor:
        seen.append((boxes.dtype, boxes.shape))
        return g(boxes.double()).float()

    posterior = sample_posterior(f, g.boxes.float(), g.labels, g.noise, 32, 3)
    assert seen == [(torch.float32, (4, 32, 7))] * 3
    assert posterior.f.dtype == posterior.samples.dtype == torch.float64


def test_no_boxes_have_no_posterior():
    g = _gaussian(0)
    posterior = sample_posterior(lambda boxes: boxes.sum(-1), g.boxes, g.labels, g.noise, 8, 3)
    assert len(posterior) == 0
    assert posterior.boxes.shape == posterior.std.shape == (0, 7)
    assert posterior.covariance.shape == (0, 7, 7)
    assert posterior.log_normalizer.shape == posterior.entropy.shape == (0,)
    assert posterior.sample(5).shape == (5, 0, 7)
    assert posterior.cdf(torch.zeros(0, 7, dtype=torch.float64)).shape == (0, 7)


@pytest.mark.parametrize(
    ("counts", "name"), [((0, 1), "num_samples"), ((1, 0), "num_rounds"), ((2.5, 1), "num_samples")]
)
def test_no_samples_or_rounds_are_refused(counts: tuple[int, int], name: str):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, a whole number"):
        _gaussian().posterior(*counts)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, np.nan])
def test_temperatures_that_are_none_are_refused(temperature: float):
    with pytest.raises(ValueError, match="temperature must be positive and finite"):
        _gaussian().posterior(8, 1).tempered(temperature)


def test_gaussian_of_many_samples_has_their_moments():
    posterior = _gaussian().posterior()
    distribution = posterior.gaussian(math.pi)
    torch.testing.assert_close(distribution.boxes, posterior.boxes)
    torch.testing.assert_close(distribution.covariance, posterior.covariance, rtol=0.01, atol=1e-4)
    assert distribution.yaw_period == math.pi


def test_gaussian_counts_the_units_squared_as_one_more_sample():
    posterior = _gaussian().posterior(16, 1)
    found = posterior.gaussian().density.covariance
    for n, size in enumerate(posterior.effective_sample_size.tolist()):
        own = size * posterior.residual_covariance[n] + torch.eye(7, dtype=torch.float64)
        torch.testing.assert_close(found[n], own / (size + 1))


def test_gaussian_of_one_sample_that_has_all_the_weight_has_half_the_units_squared():
    posterior = _gaussian(1).posterior(64, 1)
    alone = replace(posterior, f=torch.where(torch.arange(64) == 3, 0.0, -1e4)[None].double())
    distribution = alone.gaussian()
    torch.testing.assert_close(distribution.boxes, posterior.samples[:, 3])
    expected = torch.eye(7, dtype=torch.float64)[None] / 2
    torch.testing.assert_close(distribution.density.covariance, expected)


def test_numbers_that_do_not_fit_the_samples_are_refused():
    posterior = _gaussian().posterior(8, 1)
    number = len(posterior.f)
    with pytest.raises(ValueError, match=rf"f must have shape \({number},\)"):
        posterior.log_prob(posterior.boxes)
    with pytest.raises(ValueError, match="num_samples must be at least 0, a whole number"):
        posterior.sample(-1)
    assert posterior.sample(0).shape == (0, number, 7)
