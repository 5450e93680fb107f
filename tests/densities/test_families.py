"""Each family against scipy, its limits, and what only it does."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, stats
from torch import Tensor

from ebm3d.densities import (
    Density,
    GaussianDensity,
    HistogramDensity,
    HuberDensity,
    IndependentMixtureDensity,
    LaplaceDensity,
    MixtureDensity,
    MultivariateGaussianDensity,
)

_NUM_BOXES, _NUM_RESIDUALS, _NUM_COMPONENTS = 4, 7, 3


def _numbers(*shape: int, spread: float = 1.0) -> Tensor:
    """Seeded by the fixture of all tests."""
    return spread * torch.randn(*shape, dtype=torch.float64)


def _two() -> tuple[Tensor, Tensor]:
    shape = (_NUM_BOXES, _NUM_RESIDUALS)
    return _numbers(*shape), _numbers(*shape, spread=0.7)


def _components() -> tuple[Tensor, Tensor]:
    shape = (_NUM_BOXES, _NUM_COMPONENTS, _NUM_RESIDUALS)
    return _numbers(*shape), _numbers(*shape, spread=0.5)


def _residuals() -> Tensor:
    return _numbers(5, _NUM_BOXES, _NUM_RESIDUALS, spread=2)


def _assert_close(actual: Tensor, expected: NDArray[np.float64] | Tensor, rtol: float = 1e-12):
    torch.testing.assert_close(actual, torch.as_tensor(expected), rtol=rtol, atol=1e-13)


def test_gaussian_is_that_of_scipy():
    location, log_variance = _two()
    twin = stats.norm(location.numpy(), np.exp(log_variance.numpy() / 2))
    density, at = GaussianDensity(location, log_variance), _residuals()
    _assert_close(density.log_prob(at), twin.logpdf(at.numpy()).sum(-1))
    _assert_close(density.cdf(at), twin.cdf(at.numpy()))


def test_multivariate_gaussian_is_that_of_scipy():
    location, factor = _numbers(_NUM_BOXES, _NUM_RESIDUALS), _numbers(_NUM_BOXES, 7, 7, spread=0.3)
    factor = torch.tril(factor, -1) + torch.diag_embed(torch.exp(_numbers(_NUM_BOXES, 7)))
    density, at = MultivariateGaussianDensity(location, factor), _residuals()
    for n in range(_NUM_BOXES):
        covariance = (factor[n] @ factor[n].T).numpy()
        twin = stats.multivariate_normal(location[n].numpy(), covariance)
        _assert_close(density.log_prob(at)[:, n], twin.logpdf(at[:, n].numpy()), rtol=1e-9)
        _assert_close(density.covariance[n], covariance)
        marginal = stats.norm(location[n].numpy(), np.sqrt(np.diag(covariance)))
        _assert_close(density.cdf(at)[:, n], marginal.cdf(at[:, n].numpy()))


def test_multivariate_gaussian_does_not_read_above_the_diagonal():
    location, factor = _numbers(3, 2), torch.eye(2, dtype=torch.float64).repeat(3, 1, 1)
    factor[:, 0, 1] = 5.0
    density, at = MultivariateGaussianDensity(location, factor), _numbers(3, 2)
    _assert_close(density.log_prob(at), GaussianDensity(location, 0 * location).log_prob(at))


def test_laplace_is_that_of_scipy():
    location, log_scale = _two()
    twin = stats.laplace(location.numpy(), np.exp(log_scale.numpy()))
    density, at = LaplaceDensity(location, log_scale), _residuals()
    _assert_close(density.log_prob(at), twin.logpdf(at.numpy()).sum(-1))
    _assert_close(density.cdf(at), twin.cdf(at.numpy()))
    _assert_close(density.variance, twin.var())


def test_joint_mixture_is_the_sum_of_multivariate_gaussians_of_scipy():
    means, log_variances = _components()
    at = _residuals()
    expected = np.zeros(at.shape[:2])
    for n in range(_NUM_BOXES):
        for i in range(_NUM_COMPONENTS):
            twin = stats.multivariate_normal(
                means[n, i].numpy(), np.diag(log_variances[n, i].exp())
            )
            expected[:, n] += twin.pdf(at[:, n].numpy()) / _NUM_COMPONENTS
    _assert_close(MixtureDensity(means, log_variances).log_prob(at), np.log(expected))


def test_weighted_joint_mixture_is_the_weighted_sum_of_gaussians_of_scipy():
    means, log_variances = _components()
    log_weights = torch.randn(means.shape[:2], dtype=torch.float64)
    at = _residuals()
    weights = np.exp(log_weights.numpy())
    weights /= weights.sum(axis=1, keepdims=True)
    expected = np.zeros(at.shape[:2])
    for n in range(_NUM_BOXES):
        for i in range(_NUM_COMPONENTS):
            twin = stats.multivariate_normal(
                means[n, i].numpy(), np.diag(log_variances[n, i].exp())
            )
            expected[:, n] += weights[n, i] * twin.pdf(at[:, n].numpy())
    found = MixtureDensity(means, log_variances, log_weights=log_weights)
    _assert_close(found.log_prob(at), np.log(expected))


def test_weights_that_are_equal_are_those_of_no_weights():
    means, log_variances = _components()
    equal = MixtureDensity(means, log_variances, log_weights=means[..., 0] * 0 + 3)
    plain, at = MixtureDensity(means, log_variances), _residuals()
    for found, expected in (
        (equal.log_prob(at), plain.log_prob(at)),
        (equal.cdf(at), plain.cdf(at)),
        (equal.mean, plain.mean),
        (equal.covariance, plain.covariance),
    ):
        _assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_component_of_no_weight_is_never_drawn(dtype: torch.dtype):
    means = torch.tensor([[[9.0], [1.0], [2.0], [9.0]]], dtype=dtype)
    log_weights = torch.tensor([[-math.inf, 0.0, 1.0, -math.inf]], dtype=dtype)
    density = MixtureDensity(means, torch.full_like(means, -20), log_weights=log_weights)
    assert float(density.sample(100_000).max()) < 3


def test_independent_mixture_is_the_product_of_sums_of_gaussians_of_scipy():
    means, log_variances = _components()
    at = _residuals()
    stds = np.exp(log_variances.numpy() / 2)
    marginal = np.zeros(at.shape)
    for i in range(_NUM_COMPONENTS):
        twin = stats.norm(means[:, i].numpy(), stds[:, i])
        marginal += twin.pdf(at.numpy()) / _NUM_COMPONENTS
    density = IndependentMixtureDensity(means, log_variances)
    _assert_close(density.log_prob(at), np.log(marginal).sum(-1))


def test_mixtures_of_the_same_components_share_their_marginals():
    components, at = _components(), _residuals()
    joint, independent = MixtureDensity(*components), IndependentMixtureDensity(*components)
    _assert_close(joint.cdf(at), independent.cdf(at))
    _assert_close(joint.variance, independent.variance)


@pytest.mark.parametrize("family", [MixtureDensity, IndependentMixtureDensity])
def test_mixture_of_one_component_is_a_gaussian(
    family: type[MixtureDensity] | type[IndependentMixtureDensity],
):
    location, log_variance = _two()
    at, gaussian = _residuals(), GaussianDensity(location, log_variance)
    for point_estimate in ("mean", "mode"):
        mixture = family(location[:, None], log_variance[:, None], point_estimate)
        _assert_close(mixture.log_prob(at), gaussian.log_prob(at))
        _assert_close(mixture.covariance, gaussian.covariance)
        _assert_close(mixture.point, location)


def test_mode_of_a_joint_mixture_is_the_component_mean_of_highest_density():
    means, log_variances = _components()
    density = MixtureDensity(means, log_variances, "mode")
    for n in range(_NUM_BOXES):
        levels = [density[n : n + 1].log_prob(means[n, i][None]).item() for i in range(3)]
        assert torch.equal(density.point[n], means[n, int(np.argmax(levels))])


def test_mode_of_an_independent_mixture_is_chosen_for_each_residual():
    means, log_variances = _components()
    density = IndependentMixtureDensity(means, log_variances, "mode")
    for n in range(_NUM_BOXES):
        for d in range(_NUM_RESIDUALS):
            one = MixtureDensity(
                means[n : n + 1, :, d : d + 1], log_variances[n : n + 1, :, d : d + 1], "mode"
            )
            assert density.point[n, d] == one.point[0, 0]


def _huber_by_quadrature(offset: float, scale: float, beta: float) -> float:
    """Log density of one residual with the normalizer of adaptive quadrature."""

    def unnormalized(r: float) -> float:
        distance = abs(r)
        inside = distance < beta
        loss = distance**2 / (2 * beta) if inside else distance - beta / 2
        return math.exp(-loss / scale)

    inner, _ = integrate.quad(unnormalized, 0, beta, epsabs=0, epsrel=1e-12)
    outer, _ = integrate.quad(unnormalized, beta, beta + 60 * scale, epsabs=0, epsrel=1e-12)
    return math.log(unnormalized(offset)) - math.log(2 * (inner + outer))


@pytest.mark.parametrize("offset", [0.0, 0.05, 0.3, -0.7])
@pytest.mark.parametrize("scale", [0.02, 0.1, 1.5])
@pytest.mark.parametrize("beta", [1 / 9, 0.5])
def test_huber_is_the_normalized_exponential_of_smooth_l1(offset: float, scale: float, beta: float):
    log_scale = torch.tensor([[math.log(scale)]], dtype=torch.float64)
    location = torch.tensor([[0.4]], dtype=torch.float64)
    log_p = HuberDensity(location, log_scale, beta).log_prob(location + offset)
    assert log_p.item() == pytest.approx(_huber_by_quadrature(offset, scale, beta), rel=1e-9)


def test_negative_log_of_huber_is_the_loss_of_torch_up_to_a_constant():
    location, _ = _two()
    at = _numbers(*location.shape, spread=0.3) + location
    log_p = HuberDensity(location, torch.zeros_like(location), 1 / 9).log_prob(at)
    loss = torch.nn.functional.smooth_l1_loss(at, location, beta=1 / 9, reduction="none").sum(-1)
    _assert_close((log_p + loss), (log_p + loss)[0].expand(_NUM_BOXES))


def test_huber_of_short_parabola_is_laplace():
    location, log_scale = _two()
    at, limit = _residuals(), LaplaceDensity(location, log_scale)
    density = HuberDensity(location, log_scale, 1e-9)
    _assert_close(density.log_prob(at), limit.log_prob(at), rtol=1e-6)
    _assert_close(density.variance, limit.variance, rtol=1e-6)
    _assert_close(density.cdf(at), limit.cdf(at), rtol=1e-6)


def test_huber_of_long_parabola_is_gaussian():
    location, log_scale = _two()
    beta = 1e4
    at = _residuals() * 10
    limit = GaussianDensity(location, log_scale + math.log(beta))
    density = HuberDensity(location, log_scale, beta)
    _assert_close(density.log_prob(at), limit.log_prob(at))
    _assert_close(density.variance, limit.variance)
    _assert_close(density.cdf(at), limit.cdf(at))


@pytest.mark.parametrize("log_scale", [-60.0, -15.0, 15.0, 60.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huber_is_finite_at_extreme_scales(log_scale: float, dtype: torch.dtype):
    location = torch.zeros(1, 1, dtype=dtype)
    scale = torch.full((1, 1), log_scale, dtype=dtype, requires_grad=True)
    density = HuberDensity(location, scale, 1 / 9)
    log_p = density.log_prob(location)
    (gradient,) = torch.autograd.grad(log_p.sum(), scale)
    values = (log_p, gradient, density.sample(1000), density.cdf(location))
    assert all(torch.isfinite(value).all() for value in values)


@pytest.mark.parametrize("log_variance", [-120.0, 120.0])
def test_gaussian_is_finite_where_its_precision_overflows_or_vanishes(log_variance: float):
    location = torch.zeros(1, 1)
    density = GaussianDensity(location, torch.full((1, 1), log_variance))
    expected = -0.5 * (math.log(2 * math.pi) + log_variance)
    assert density.log_prob(location).item() == pytest.approx(expected, rel=1e-6)


def _histogram(tail_weight: float = 1e-3) -> HistogramDensity:
    """Levels -1, 0, 1 with masses 0.2, 0.5, 0.3."""
    masses = torch.tensor([[[0.2, 0.5, 0.3]]], dtype=torch.float64)
    return HistogramDensity(masses.log(), (-1.0,), (1.0,), tail_weight)


def test_histogram_is_that_of_scipy_plus_a_normal():
    twin = stats.rv_histogram((np.array([0.2, 0.5, 0.3]), np.array([-1.5, -0.5, 0.5, 1.5])))
    at = np.linspace(-4, 4, 33)[:, None, None] + 1e-3
    density, tau = _histogram(0.1), 0.1
    tail = stats.norm(0, 2)
    expected = np.log((1 - tau) * twin.pdf(at) + tau * tail.pdf(at))[..., 0]
    _assert_close(density.log_prob(torch.from_numpy(at)), expected)
    _assert_close(density.cdf(torch.from_numpy(at)), (1 - tau) * twin.cdf(at) + tau * tail.cdf(at))


def test_point_of_a_histogram_is_the_expected_level():
    assert _histogram().point.item() == pytest.approx(0.1, rel=1e-14)


def test_histogram_that_is_sure_of_a_level_has_the_variance_of_its_bin():
    masses = torch.log_softmax(torch.tensor([[[-800.0, 0.0, -800.0]]], dtype=torch.float64), -1)
    density = HistogramDensity(masses, (-1.0,), (1.0,), 1e-9)
    # The bin's own variance, and the wide Gaussian's of standard deviation 2.
    assert density.variance.item() == pytest.approx(1 / 12 + 1e-9 * 4, rel=1e-8)


def test_level_of_no_mass_has_the_density_of_the_tail():
    masses = torch.tensor([[[0.0, 1.0, 0.0]]], dtype=torch.float64).log()
    density = HistogramDensity(masses, (-1.0,), (1.0,), 1e-3)
    at = torch.tensor([[1.0]], dtype=torch.float64)
    assert density.log_prob(at).item() == pytest.approx(math.log(1e-3) + stats.norm(0, 2).logpdf(1))


def test_histogram_selects_rows_and_keeps_its_range():
    density = HistogramDensity(
        torch.log_softmax(_numbers(4, 1, 3), dim=-1), (-1.0,), (1.0,), tail_weight=0.2
    )
    kept = density[torch.tensor([True, False, True, False])]
    assert torch.equal(kept.log_masses, density.log_masses[::2])
    assert (kept.lower, kept.upper, kept.tail_weight) == ((-1.0,), (1.0,), 0.2)


_TWO = torch.zeros(3, 2)
_THREE = torch.zeros(3, 4, 2)
_BAD_INPUT = [
    (lambda: GaussianDensity(_TWO, _TWO[:2]), r"log_variance must have shape \(3, 2\)"),
    (lambda: GaussianDensity(_TWO[0], _TWO[0]), r"location must have shape \(N, D\)"),
    (lambda: MultivariateGaussianDensity(_THREE, _THREE), r"location must have shape \(N, D\)"),
    (
        lambda: MultivariateGaussianDensity(_TWO, _TWO),
        r"scale_tril must have shape \(3, 2, 2\)",
    ),
    (lambda: LaplaceDensity(_TWO, _TWO[:, :1]), r"log_scale must have shape \(3, 2\)"),
    (lambda: LaplaceDensity(_THREE, _THREE), r"location must have shape \(N, D\)"),
    (lambda: HuberDensity(_TWO, _TWO[:0], 1.0), r"log_scale must have shape \(3, 2\)"),
    (lambda: HuberDensity(_TWO, _TWO, 0.0), "beta must be positive and finite, but got 0.0; take"),
    (lambda: HuberDensity(_TWO, _TWO, math.inf), "beta must be positive and finite"),
    (lambda: HuberDensity(_TWO, _TWO, math.nan), "beta must be positive and finite"),
    (lambda: MixtureDensity(_TWO, _TWO), r"means must have shape \(N, I, D\)"),
    (lambda: MixtureDensity(_THREE, _THREE[:, :1]), r"log_variances must have shape \(3, 4, 2\)"),
    (lambda: MixtureDensity(_THREE[:, :0], _THREE[:, :0]), "at least one component"),
    (
        lambda: MixtureDensity(_THREE, _THREE, log_weights=_TWO[:, :1]),
        r"log_weights must have shape \(3, 4\), one per component",
    ),
    (lambda: MixtureDensity(_THREE, _THREE, "median"), "point_estimate must be one of .*'median'"),
    (lambda: IndependentMixtureDensity(_THREE, _THREE, ""), "point_estimate must be one of"),
    (lambda: HistogramDensity(_TWO, (0.0,), (1.0,)), r"log_masses must have shape \(N, D, L\)"),
    (lambda: HistogramDensity(_THREE[..., :1], (0.0,) * 4, (1.0,) * 4), "at least 2 levels"),
    (lambda: HistogramDensity(_THREE, (0.0,), (1.0,) * 4), "lower must be 4 numbers"),
    (lambda: HistogramDensity(_THREE, (0.0,) * 4, (1.0,)), "upper must be 4 numbers"),
    (
        lambda: HistogramDensity(_THREE, (0.0, 0.0, 1.0, 0.0), (1.0,) * 4),
        "lower must be finite and below upper, but got 1.0 and 1.0 at 2",
    ),
    (lambda: HistogramDensity(_THREE, (0.0,) * 4, (math.inf,) * 4), "lower must be finite"),
    (lambda: HistogramDensity(_THREE, (0.0,) * 4, (1.0,) * 4, 0.0), "tail_weight must be between"),
    (lambda: HistogramDensity(_THREE, (0.0,) * 4, (1.0,) * 4, 1.0), "tail_weight must be between"),
]


@pytest.mark.parametrize(("build", "message"), _BAD_INPUT)
def test_bad_parameters_are_named(build: Callable[[], Density], message: str):
    with pytest.raises(ValueError, match=message):
        build()


def test_multivariate_gaussians_without_a_width_are_refused():
    location, factor = torch.zeros(2, 3), torch.eye(3).repeat(2, 1, 1)
    flat = factor.clone()
    flat[1, 2, 2] = 0
    with pytest.raises(ValueError, match="diagonal of scale_tril must be positive"):
        MultivariateGaussianDensity(location, flat)
    with pytest.raises(ValueError, match=r"scale_tril must be torch\.float32"):
        MultivariateGaussianDensity(location, factor.double())
    with pytest.raises(ValueError, match="num_samples must be at least 0, a whole number"):
        MultivariateGaussianDensity(location, factor).sample(-1)
    unknown = MultivariateGaussianDensity(location, math.nan * factor)  # of boxes that have none
    assert bool(torch.isnan(unknown.log_prob(location)).all())
