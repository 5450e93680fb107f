from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from ebm3d.boxes.codings import LocalCoding
from ebm3d.energy import ImportanceSamples, sample_posterior
from ebm3d.noise import BoxNoise

_STDS = [0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04, 0.9, 0.3]
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

    @property
    def variance(self) -> Tensor:
        return self.covariance.diagonal(dim1=1, dim2=2)

    def __call__(self, boxes: Tensor) -> Tensor:
        density = MultivariateNormal(self.mean[:, None], self.covariance[:, None])
        log_p = density.log_prob(self.coding.encode(boxes)) - self.coding.log_volume(boxes)
        return log_p + _CONSTANT

    def posterior(self, num_samples: int = 4096, num_rounds: int = 4) -> ImportanceSamples:
        """Samples of a fixed seed."""
        return _posterior(self, self, num_samples, num_rounds)


def _posterior(
    f: Callable[[Tensor], Tensor], g: _Gaussian, num_samples: int = 64, num_rounds: int = 4
) -> ImportanceSamples:
    """Samples of any f around the boxes of a Gaussian."""
    generator = torch.Generator().manual_seed(3)
    return sample_posterior(f, g.boxes, g.labels, g.noise, num_samples, num_rounds, generator)


def _gaussian(count: int = 4, columns: int = 7) -> _Gaussian:
    """Correlated, half as wide as the noise, off its center; one box heads along -x."""
    low = torch.tensor([5.0, -10, -2, 3, 1.4, 1.2, -3], dtype=torch.float64)
    spread = torch.tensor([20.0, 20, 1, 2, 1, 1, 6])
    boxes = low + spread * torch.rand(count, 7, dtype=torch.float64)
    boxes[:1, 6] = math.pi - 1e-3
    mean = 0.4 * torch.randn(count, columns, dtype=torch.float64)
    root = torch.randn(count, columns, columns, dtype=torch.float64)
    root = 0.35 * torch.eye(columns, dtype=torch.float64) + 0.08 * root
    velocities = 8 * torch.randn(count, columns - 7, dtype=torch.float64)
    boxes = torch.cat((boxes, velocities), dim=1)
    return _Gaussian(boxes, mean, root @ root.transpose(1, 2), BoxNoise(_STDS[:columns]))


def _assert_within(value: Tensor, expected: Tensor, standard_error: Tensor) -> None:
    """Five standard errors."""
    assert bool(((value - expected).abs() <= 5 * standard_error).all())


def _assert_moments(posterior: ImportanceSamples, mean: Tensor, covariance: Tensor) -> None:
    """Those of a Gaussian, within what the effective sample size allows."""
    size = posterior.effective_sample_size
    variance = covariance.diagonal(dim1=1, dim2=2)
    _assert_within(posterior.mean_residuals, mean, (variance / size[:, None]).sqrt())
    products = variance[:, :, None] * variance[:, None] + covariance.square()
    error = (products / size[:, None, None]).sqrt()
    _assert_within(posterior.residual_covariance, covariance, error)


@pytest.mark.parametrize("num_rounds", [1, 4])
@pytest.mark.parametrize("columns", [7, 9])
def test_normalizer_of_a_density_times_a_constant_is_the_constant(num_rounds: int, columns: int):
    posterior = _gaussian(columns=columns).posterior(num_rounds=num_rounds)
    error = (1 / posterior.effective_sample_size - 1 / posterior.f.shape[1]).sqrt()
    if num_rounds > 1:
        assert float(error.max()) < 0.05
    _assert_within(posterior.log_normalizer, torch.full((4,), _CONSTANT), error)


@pytest.mark.parametrize(("axes", "sizes"), [("box", "log"), ("world", "metric")])
def test_f_of_the_noise_has_equal_weights_and_unit_deviations(axes: str, sizes: str):
    # One component; small deviations, so that metric sizes are log ratios to first order.
    g, count = _gaussian(), 20_000
    g.noise = BoxNoise([0.01 * s for s in _STDS[:7]], (1.0,), axes=axes, sizes=sizes)
    f = lambda boxes: g.noise.log_prob(g.boxes, boxes, g.labels) - 2.5  # noqa: E731
    posterior = _posterior(f, g, count, 1)
    ones = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(posterior.log_normalizer, -2.5 * ones)
    torch.testing.assert_close(posterior.effective_sample_size, count * ones)
    variances = torch.diagonal(posterior.residual_covariance, dim1=-2, dim2=-1)
    # Standard error of a variance of n Gaussian samples: sqrt(2 / n).
    np.testing.assert_allclose(variances, 1, atol=5 * math.sqrt(2 / count))


@pytest.mark.parametrize("columns", [7, 9])
def test_mean_and_covariance_are_those_of_the_density(columns: int):
    g = _gaussian(columns=columns)
    _assert_moments(g.posterior(), g.mean, g.covariance)


def test_temperature_scales_the_covariance_of_a_gaussian():
    # exp(f / tau) in residuals is N(m, tau C) times exp((1 - 1 / tau) u t), u the units of the log
    # sizes, as f is a density over meters: a Gaussian of covariance tau C about m + (tau - 1) C u.
    g, tau = _gaussian(), 1.4
    posterior = g.posterior(8192).tempered(tau)
    assert float(posterior.effective_sample_size.min()) > 1000
    noise_std = torch.tensor([0.0, 0, 0, *_STDS[3:6], 0], dtype=torch.float64)
    mean = g.mean + (tau - 1) * g.covariance @ noise_std
    _assert_moments(posterior, mean, tau * g.covariance)
    f = g(g.boxes[:, None])[:, 0]
    torch.testing.assert_close(posterior.log_prob(f), f / tau - posterior.log_normalizer)


def test_adapted_proposal_wastes_far_fewer_samples_than_the_noise():
    g = _gaussian()
    adapted, alone = (g.posterior(512, rounds).effective_sample_size for rounds in (4, 1))
    assert bool((adapted > 5 * alone).all())
    assert bool((adapted > 128).all())
    assert bool((alone >= 1).all())


@pytest.mark.parametrize("columns", [7, 9])
def test_drawn_boxes_follow_the_weights(columns: int):
    posterior = _gaussian(columns=columns).posterior(512)
    drawn = posterior.sample(4000, torch.Generator().manual_seed(0))
    assert drawn.shape == (4, 4000, columns)
    residuals = posterior.coding.encode(drawn)
    variance = posterior.residual_covariance.diagonal(dim1=1, dim2=2)
    _assert_within(residuals.mean(1), posterior.mean_residuals, (variance / 4000).sqrt())
    for n in range(4):
        samples = {tuple(box) for box in posterior.samples[n].tolist()}
        assert all(tuple(box) in samples for box in drawn[n, :50].tolist())


def test_drawn_boxes_of_a_posterior_that_is_nan_are_nan_and_the_others_are_drawn():
    posterior = _gaussian(3).posterior(64, 1)
    f = posterior.f.clone()
    f[1, 5] = math.nan
    drawn = replace(posterior, f=f).sample(4, torch.Generator().manual_seed(0))
    assert torch.isnan(drawn).all(dim=-1).tolist() == [[False] * 4, [True] * 4, [False] * 4]


def test_other_boxes_of_the_batch_do_not_matter():
    g = _gaussian()
    expected = g.posterior(64)
    for rows in (slice(0, 1), slice(1, 4), torch.tensor([3, 0])):
        part = _Gaussian(g.boxes[rows], g.mean[rows], g.covariance[rows], g.noise)
        for name in ("samples", "f", "log_q", "mean_residuals", "log_normalizer"):
            value = getattr(part.posterior(64), name)
            torch.testing.assert_close(value, getattr(expected, name)[rows])


def test_rows_of_a_posterior_are_posteriors():
    posterior = _gaussian().posterior(64).tempered(1.5)
    joined = ImportanceSamples.cat([posterior[2:3], posterior[:1]])
    for part in (posterior[torch.tensor([2, 0])], joined):
        torch.testing.assert_close(part.log_normalizer, posterior.log_normalizer[[2, 0]])
        torch.testing.assert_close(part.gaussian().std, posterior.gaussian().std[[2, 0]])


def test_f_is_evaluated_in_the_dtype_of_the_boxes_and_kept_in_float64():
    g, seen = _gaussian(), []

    def f(boxes: Tensor) -> Tensor:
        seen.append((boxes.dtype, boxes.shape))
        return g(boxes.double()).float()

    posterior = sample_posterior(f, g.boxes.float(), g.labels, g.noise, 32, 3)
    assert seen == [(torch.float32, (4, 32, 7))] * 3
    assert posterior.f.dtype == posterior.samples.dtype == torch.float64


def test_no_boxes_have_no_posterior():
    posterior = _posterior(lambda boxes: boxes.sum(-1), _gaussian(0))
    assert len(posterior) == 0
    assert posterior.gaussian().covariance.shape == (0, 7, 7)
    assert posterior.log_normalizer.shape == (0,)
    assert posterior.sample(5).shape == (0, 5, 7)


def test_gaussian_counts_the_units_squared_as_one_more_sample():
    posterior = _gaussian().posterior(64, 1)
    gaussian = posterior.gaussian(math.pi)
    assert gaussian.yaw_period == math.pi
    torch.testing.assert_close(gaussian.boxes, posterior.coding.decode(posterior.mean_residuals))
    for n, size in enumerate(posterior.effective_sample_size.tolist()):
        total = size * posterior.residual_covariance[n] + torch.eye(7, dtype=torch.float64)
        torch.testing.assert_close(gaussian.density.covariance[n], total / (size + 1))
    one = torch.where(torch.arange(64) == 3, 0.0, -1e4).double().expand(4, -1)
    gaussian = replace(posterior, f=one).gaussian()
    torch.testing.assert_close(gaussian.boxes, posterior.samples[:, 3])
    half = torch.eye(7, dtype=torch.float64).expand(4, 7, 7) / 2
    torch.testing.assert_close(gaussian.density.covariance, half)


@pytest.mark.parametrize(("ratio", "share"), [(1 / 2, 0.06), (1 / 3, 0.004)])
def test_one_gaussian_keeps_the_documented_share_of_its_samples(ratio: float, share: float):
    # E[w]^2 / E[w^2] of N(0, r^2) under N(0, 1) is r sqrt(2 - r^2) in each dimension.
    assert (ratio * math.sqrt(2 - ratio**2)) ** 7 == pytest.approx(share, rel=0.1)


@pytest.mark.parametrize("count", [1, 3])
def test_few_samples_may_carry_all_the_weight(count: int):
    g = _gaussian()

    def f(boxes: Tensor) -> Tensor:
        return torch.where(torch.arange(64) < count, g(boxes), -math.inf)

    posterior = _posterior(f, g)
    assert torch.isfinite(posterior.log_normalizer).all()
    assert (posterior.effective_sample_size <= count + 1e-9).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_f_that_is_not_finite_is_refused_with_its_box(value: float):
    def f(boxes: Tensor) -> Tensor:
        values = boxes.new_zeros(boxes.shape[:2])
        values[1, 3] = value
        return values

    with pytest.raises(ValueError, match=r"f must be below infinity.*f\[1\]"):
        _posterior(f, _gaussian())


def test_f_of_minus_infinity_everywhere_or_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="finite at one"):
        _posterior(lambda boxes: boxes.new_full(boxes.shape[:2], -math.inf), _gaussian())
    with pytest.raises(ValueError, match=r"f\(boxes\) must have shape \(4, 64\)"):
        _posterior(lambda boxes: boxes, _gaussian())


def test_numbers_out_of_range_are_refused():
    posterior = _gaussian().posterior(8, 1)
    for counts, name in (
        ((0, 1), "num_samples"),
        ((2.5, 1), "num_samples"),
        ((1, 0), "num_rounds"),
    ):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            _gaussian().posterior(*counts)  # type: ignore[arg-type]
    for temperature in (0.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="temperature must be positive"):
            posterior.tempered(temperature)
    with pytest.raises(ValueError, match=r"f must have shape \(4,\)"):
        posterior.log_prob(posterior.samples)
    with pytest.raises(ValueError, match="num_samples must be at least 0"):
        posterior.sample(-1)
