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
    LaplaceDensity,
    MixtureDensity,
    MultivariateGaussianDensity,
    triangular_root,
)

_N, _S, _D, _I = 4, 5, 7, 3


def _numbers(*shape: int, spread: float = 1.0) -> Tensor:
    """Seeded by the fixture of all tests."""
    return spread * torch.randn(*shape, dtype=torch.float64)


def _two() -> tuple[Tensor, Tensor]:
    return _numbers(_N, _D), _numbers(_N, _D, spread=0.7)


def _components() -> tuple[Tensor, Tensor]:
    return _numbers(_N, _I, _D), _numbers(_N, _I, _D, spread=0.5)


def _residuals() -> Tensor:
    return _numbers(_N, _S, _D, spread=2)


def _assert_close(actual: Tensor, expected: NDArray[np.float64] | Tensor, rtol: float = 1e-12):
    torch.testing.assert_close(actual, torch.as_tensor(expected), rtol=rtol, atol=1e-13)


@pytest.mark.parametrize(
    ("family", "twin_of"),
    [
        (GaussianDensity, lambda location, log: stats.norm(location, np.exp(log / 2))),
        (LaplaceDensity, lambda location, log: stats.laplace(location, np.exp(log))),
    ],
)
def test_gaussian_and_laplace_are_those_of_scipy(
    family: type[GaussianDensity] | type[LaplaceDensity], twin_of: Callable[..., object]
):
    location, log_spread = _two()
    twin = twin_of(location[:, None].numpy(), log_spread[:, None].numpy())
    density, at = family(location, log_spread), _residuals()
    _assert_close(density.log_prob(at), twin.logpdf(at.numpy()).sum(-1))
    _assert_close(density.cdf(at), twin.cdf(at.numpy()))
    _assert_close(density.variance, twin.var()[:, 0])


def test_multivariate_gaussian_is_that_of_scipy():
    location, factor = _numbers(_N, _D), _numbers(_N, _D, _D, spread=0.3)
    # What lies above the diagonal is not read.
    factor = factor + torch.diag_embed(
        torch.exp(_numbers(_N, _D)) - torch.diagonal(factor, 0, 1, 2)
    )
    density, at = MultivariateGaussianDensity(location, factor), _residuals()
    for n in range(_N):
        covariance = (torch.tril(factor[n]) @ torch.tril(factor[n]).T).numpy()
        twin = stats.multivariate_normal(location[n].numpy(), covariance)
        _assert_close(density.log_prob(at)[n], twin.logpdf(at[n].numpy()), rtol=1e-9)
        _assert_close(density.covariance[n], covariance)
        marginal = stats.norm(location[n].numpy(), np.sqrt(np.diag(covariance)))
        _assert_close(density.cdf(at)[n], marginal.cdf(at[n].numpy()))


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_mixture_is_the_weighted_sum_of_gaussians_of_scipy(joint: bool, weighted: bool):
    means, log_variances = _components()
    log_weights = _numbers(_N, _I) if weighted else None
    weights = np.ones((_N, _I)) if log_weights is None else np.exp(log_weights.numpy())
    weights /= weights.sum(axis=1, keepdims=True)
    at = _residuals()
    twin = stats.norm(means[:, None], np.exp(log_variances[:, None] / 2))  # (N, 1, I, D)
    components = twin.pdf(at[:, :, None].numpy())
    if joint:
        expected = np.log(np.einsum("ni,nsi->ns", weights, components.prod(-1)))
    else:
        expected = np.log(np.einsum("ni,nsid->nsd", weights, components)).sum(-1)
    mixture = MixtureDensity(means, log_variances, log_weights=log_weights, joint=joint)
    _assert_close(mixture.log_prob(at), expected)
    below = np.einsum("ni,nsid->nsd", weights, twin.cdf(at[:, :, None].numpy()))
    _assert_close(mixture.cdf(at), below)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_component_of_no_weight_is_never_drawn(joint: bool, dtype: torch.dtype):
    means = torch.tensor([[[9.0], [1.0], [2.0], [9.0]]], dtype=dtype)
    log_weights = torch.tensor([[-math.inf, 0.0, 1.0, -math.inf]], dtype=dtype)
    narrow = torch.full_like(means, -20)
    density = MixtureDensity(means, narrow, log_weights=log_weights, joint=joint)
    assert float(density.sample(100_000).max()) < 3


def test_mode_is_the_component_mean_of_highest_density():
    means, log_variances = _components()
    joint = MixtureDensity(means, log_variances, "mode")
    independent = MixtureDensity(means, log_variances, "mode", joint=False)
    for n in range(_N):
        levels = [joint[n : n + 1].log_prob(means[n, i][None]).item() for i in range(_I)]
        assert torch.equal(joint.point[n], means[n, int(np.argmax(levels))])
        for d in range(_D):  # chosen for each residual
            column = means[n : n + 1, :, d : d + 1], log_variances[n : n + 1, :, d : d + 1]
            assert independent.point[n, d] == MixtureDensity(*column, "mode").point[0, 0]


def _huber_by_quadrature(offset: float, scale: float, beta: float) -> float:
    """Log density of one residual with the normalizer of adaptive quadrature."""

    def unnormalized(r: float) -> float:
        loss = r**2 / (2 * beta) if abs(r) < beta else abs(r) - beta / 2
        return math.exp(-loss / scale)

    inner, _ = integrate.quad(unnormalized, 0, beta, epsabs=0, epsrel=1e-12)
    outer, _ = integrate.quad(unnormalized, beta, beta + 60 * scale, epsabs=0, epsrel=1e-12)
    return math.log(unnormalized(offset)) - math.log(2 * (inner + outer))


@pytest.mark.parametrize("scale", [0.02, 0.1, 1.5])
@pytest.mark.parametrize("beta", [1 / 9, 0.5])
def test_huber_is_the_normalized_exponential_of_smooth_l1(scale: float, beta: float):
    log_scale, location = torch.tensor([[[math.log(scale)]], [[0.4]]], dtype=torch.float64)
    density = HuberDensity(location, log_scale, beta)
    for offset in (0.0, 0.05, 0.3, -0.7):
        expected = _huber_by_quadrature(offset, scale, beta)
        assert density.log_prob(location + offset).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("beta", "limit", "rtol"),
    [
        (1e-9, LaplaceDensity, 1e-6),
        (1e4, lambda location, log: GaussianDensity(location, log + math.log(1e4)), 1e-12),
    ],
)
def test_huber_of_short_and_long_parabola_is_laplace_and_gaussian(
    beta: float, limit: Callable[[Tensor, Tensor], Density], rtol: float
):
    location, log_scale = _two()
    at, density = _residuals(), HuberDensity(location, log_scale, beta)
    at = at if beta < 1 else 10 * at
    _assert_close(density.log_prob(at), limit(location, log_scale).log_prob(at), rtol)
    _assert_close(density.variance, limit(location, log_scale).variance, rtol)
    _assert_close(density.cdf(at), limit(location, log_scale).cdf(at), rtol)


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


def _histogram(masses: list[float], tail_weight: float) -> HistogramDensity:
    """Levels -1, 0, 1."""
    log_masses = torch.tensor([[masses]], dtype=torch.float64).log()
    return HistogramDensity(log_masses, (-1.0,), (1.0,), tail_weight)


def test_histogram_is_that_of_scipy_plus_a_normal():
    twin = stats.rv_histogram((np.array([0.2, 0.5, 0.3]), np.array([-1.5, -0.5, 0.5, 1.5])))
    at = np.linspace(-4, 4, 33)[None, :, None] + 1e-3
    density, tail, tau = _histogram([0.2, 0.5, 0.3], 0.1), stats.norm(0, 2), 0.1
    expected = np.log((1 - tau) * twin.pdf(at) + tau * tail.pdf(at))[..., 0]
    _assert_close(density.log_prob(torch.from_numpy(at)), expected)
    _assert_close(density.cdf(torch.from_numpy(at)), (1 - tau) * twin.cdf(at) + tau * tail.cdf(at))
    assert density.point.item() == pytest.approx(0.1, rel=1e-14)  # the expected level


def test_level_of_no_mass_has_the_density_of_the_tail():
    density = _histogram([0.0, 1.0, 0.0], 1e-3)
    at = torch.tensor([[1.0]], dtype=torch.float64)
    assert density.log_prob(at).item() == pytest.approx(math.log(1e-3) + stats.norm(0, 2).logpdf(1))
    # The variance of the bin and of the wide Gaussian of standard deviation 2.
    variance = (1 - 1e-3) / 12 + 1e-3 * 4
    assert density.variance.item() == pytest.approx(variance, rel=1e-12)


_TWO = torch.zeros(3, 2)
_THREE = torch.zeros(3, 4, 2)
_ROOT = torch.eye(2).repeat(3, 1, 1)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: GaussianDensity(_TWO, _TWO[:2]), "log_variance"),
        (lambda: MultivariateGaussianDensity(_THREE, _THREE), "location"),
        (lambda: MultivariateGaussianDensity(_TWO, _TWO), "scale_tril"),
        (lambda: MultivariateGaussianDensity(_TWO.half(), _ROOT), "location"),
        (lambda: MultivariateGaussianDensity(_TWO, _ROOT.double()), "scale_tril"),
        (lambda: MultivariateGaussianDensity(_TWO, torch.zeros(3, 2, 2)), "diagonal of scale_tril"),
        (lambda: LaplaceDensity(_TWO, _TWO[:, :1]), "log_scale"),
        (lambda: HuberDensity(_TWO, _TWO, 0.0), "beta"),
        (lambda: MixtureDensity(_TWO, _TWO), "means"),
        (lambda: MixtureDensity(_THREE, _THREE[:, :1]), "log_variances"),
        (lambda: MixtureDensity(_THREE[:, :0], _THREE[:, :0]), "at least one component"),
        (lambda: MixtureDensity(_THREE, _THREE, log_weights=_TWO[:, :1]), "log_weights"),
        (lambda: MixtureDensity(_THREE, _THREE, "median"), "point_estimate"),
        (lambda: HistogramDensity(_TWO, (0.0,), (1.0,)), "log_masses"),
        (lambda: HistogramDensity(_THREE[..., :1], (0.0,) * 4, (1.0,) * 4), "at least 2 levels"),
        (lambda: HistogramDensity(_THREE, (0.0,), (1.0,) * 4), "lower"),
        (lambda: HistogramDensity(_THREE, (0.0,) * 4, (1.0,)), "upper"),
    ],
)
def test_wrong_parameters_are_named(build: Callable[[], Density], name: str):
    with pytest.raises(ValueError, match=name):
        build()


def test_triangular_root_is_a_cholesky_factor_that_keeps_the_digits():
    root = _numbers(_N, 3, 3)
    torch.testing.assert_close(triangular_root(root), torch.linalg.cholesky(root @ root.mT))
    tiny = torch.diag(torch.tensor([1.0, 1e-12], dtype=torch.float64)) @ root[0, :2, :2]
    _assert_close(triangular_root(tiny)[1, 1] / 1e-12, triangular_root(root[0, :2, :2])[1, 1], 1e-9)


def test_a_multivariate_gaussian_of_nan_is_a_box_without_density():
    unknown = MultivariateGaussianDensity(_TWO, torch.full((3, 2, 2), math.nan))
    assert bool(torch.isnan(unknown.log_prob(_TWO)).all())
