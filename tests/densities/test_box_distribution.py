"""Densities of boxes: normalized in meters and radians, periodic in the yaw, widened, correlated.

A statistical test here fails by chance for one seed in 10,000; seeds are fixed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ebm3d.boxes.codings import AnchorCoding, BoxCoding, LocalCoding
from ebm3d.densities import (
    BoxDistribution,
    Density,
    GaussianDensity,
    HistogramDensity,
    LaplaceDensity,
    MixtureDensity,
)
from ebm3d.noise import BoxNoise

_P_VALUE = 1e-4
_REFERENCE = (12.0, -4.0, -1.7, 4.2, 1.8, 1.5, 0.3)
_POINT = (0.05, -0.02, 0.04, 0.1, -0.05, 0.08, -0.1)
_SPREAD = (0.03, 0.04, 0.06, 0.05, 0.06, 0.04, 0.08)

every_coding = pytest.mark.parametrize("kind", ["anchor", "local"])
every_period = pytest.mark.parametrize("period", [2 * math.pi, math.pi])


def _tensor(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def _coding(kind: str, rows: int = 1) -> BoxCoding:
    """References one meter and 0.7 radians apart."""
    steps = torch.arange(rows, dtype=torch.float64)[:, None]
    reference = _tensor(_REFERENCE) + steps * _tensor([1, 1, 0, 0, 0, 0, 0.7])
    if kind == "anchor":
        return AnchorCoding(reference)
    noise_std = _tensor([3.0, 2.0, 1.5, 1.2, 0.8, 1.1, 0.9])
    return LocalCoding(reference, noise_std.expand(rows, 7).clone())


def _gaussian(rows: int = 1, yaw_std: float = 0.08) -> GaussianDensity:
    spread = _tensor([*_SPREAD[:6], yaw_std])
    return GaussianDensity(_tensor(_POINT).repeat(rows, 1), 2 * torch.log(spread).repeat(rows, 1))


def _mixture(rows: int = 1) -> MixtureDensity:
    """Two components, half a spread to each side in every residual."""
    shift = _tensor([-0.5, 0.5])[:, None] * _tensor(_SPREAD)
    means = (_tensor(_POINT) + shift).repeat(rows, 1, 1)
    return MixtureDensity(means, 2 * torch.log(0.8 * _tensor(_SPREAD)).expand_as(means))


def _every_density(rows: int) -> list[Density]:
    gaussian = _gaussian(rows)
    masses = torch.log_softmax(torch.randn(rows, 7, 8, dtype=torch.float64), dim=-1)
    return [
        gaussian,
        LaplaceDensity(gaussian.location, gaussian.log_variance / 2),
        _mixture(rows),
        HistogramDensity(masses, (-0.5,) * 7, (0.5,) * 7, 0.01),
    ]


def _rotated(boxes: Tensor, angle: float | Tensor) -> Tensor:
    return torch.cat((boxes[..., :6], boxes[..., 6:7] + angle, boxes[..., 7:]), dim=-1)


@every_coding
@pytest.mark.parametrize("density", [_gaussian(), _mixture()])
def test_density_of_boxes_integrates_to_one_in_seven_dimensions(
    kind: str, density: Density, generator: torch.Generator
):
    distribution = BoxDistribution(density, _coding(kind))
    # Importance sampling from noise of 1.6 times the spread, whose Jacobian is other code.
    stds = (1.6 * distribution.std[0]).tolist()
    noise = BoxNoise([*stds[:3], 0.1, 0.1, 0.1, stds[6]], (1.0,), axes="world")
    drawn = noise.sample(distribution.boxes, torch.zeros(1).long(), 100_000, generator)
    weights = torch.exp(distribution.log_prob(drawn.boxes) - drawn.log_q)[0, 1:]
    standard_error = weights.std().item() / len(weights) ** 0.5
    assert standard_error < 0.02
    assert abs(weights.mean().item() - 1) < 5 * standard_error


@every_coding
@every_period
def test_one_period_of_the_yaw_integrates_to_the_density_of_the_rest(kind: str, period: float):
    coding = _coding(kind)
    density = _gaussian(yaw_std=0.45 / coding.yaw_unit.item())
    residuals = _tensor(_POINT)[None] + 0.3 * _tensor(_SPREAD)
    box = coding.decode(residuals)
    # 256 equal steps over a period are exact to rounding for smooth functions.
    angles = 0.1 + period / 256 * torch.arange(256, dtype=torch.float64)[:, None]
    grid = _rotated(box.expand(1, 256, 7), angles)
    log_prob = BoxDistribution(density, coding, period).log_prob(grid)
    integral = torch.exp(log_prob).mean().item() * period
    rest = stats.norm(_POINT[:6], _SPREAD[:6]).logpdf(residuals[0, :6].numpy()).sum()
    volume = coding.log_volume(box) - torch.log(coding.yaw_unit)
    assert integral == pytest.approx(math.exp(rest - volume.item()), rel=1e-6)


@every_coding
def test_log_prob_is_the_change_of_variables(kind: str):
    coding, density = _coding(kind), _gaussian()
    residuals = _tensor(_POINT)[None] - 0.7 * _tensor(_SPREAD)
    jacobian = torch.autograd.functional.jacobian(lambda t: coding.decode(t)[0], residuals)[:, 0]
    expected = density.log_prob(residuals) - torch.linalg.slogdet(jacobian).logabsdet
    log_p = BoxDistribution(density, coding).log_prob(coding.decode(residuals))
    torch.testing.assert_close(log_p, expected, rtol=1e-12, atol=0)


@every_coding
@every_period
def test_log_prob_and_cdf_have_the_period_of_the_yaw(kind: str, period: float):
    for density in _every_density(3):
        distribution = BoxDistribution(density, _coding(kind, 3), period)
        boxes = distribution.sample(5)
        log_prob, cdf = distribution.log_prob(boxes), distribution.cdf(boxes)
        for turns in (-2, -1, 1, 3):
            rotated = _rotated(boxes, turns * period)
            torch.testing.assert_close(distribution.log_prob(rotated), log_prob)
            torch.testing.assert_close(distribution.cdf(rotated), cdf)


@every_coding
@every_period
def test_residuals_are_those_of_the_image_nearest_to_the_point_estimate(kind: str, period: float):
    coding = _coding(kind, 3)
    distribution = BoxDistribution(_gaussian(3), coding, period)
    angles = torch.linspace(-9, 9, 37, dtype=torch.float64)[:, None]
    boxes = _rotated(distribution.boxes[:, None].expand(3, 37, 7), angles)
    residuals = distribution.residuals(boxes)
    offset = residuals[..., 6] - distribution.density.point[:, 6:]
    half = period / 2 / coding.yaw_unit[:, None]
    assert bool((offset.abs() <= half * (1 + 1e-12)).all())
    turns = (boxes[..., 6] - coding.decode(residuals)[..., 6]) / period
    torch.testing.assert_close(turns, turns.round())


@every_coding
def test_covariance_is_that_of_many_boxes_of_small_spread(kind: str, generator: torch.Generator):
    for density in (_gaussian(2), _mixture(2)):
        distribution = BoxDistribution(density.rescaled(0.01), _coding(kind, 2))
        count = 40_000
        drawn = distribution.sample(count, generator)
        expected, std = distribution.covariance, distribution.std
        for n in range(2):
            variances = std[n].square()
            # Of normal variables; the mixture's tails are lighter. Second order: 1e-3 of a
            # variance.
            error = ((variances[:, None] * variances + expected[n].square()) / count).sqrt()
            off = (torch.cov(drawn[n].T) - expected[n]).abs()
            assert (off < 5 * error + 1e-3 * std[n][:, None] * std[n]).all()


def test_bottom_sinks_as_the_height_of_an_anchor_grows():
    distribution = BoxDistribution(_gaussian(), _coding("anchor"))
    height = distribution.boxes[0, 5].item()
    expected = -0.5 * (height * _SPREAD[5]) ** 2
    assert distribution.covariance[0, 2, 5].item() == pytest.approx(expected, rel=1e-12)
    in_meters = (_REFERENCE[5] * _SPREAD[2]) ** 2 + (0.5 * height * _SPREAD[5]) ** 2
    assert distribution.std[0, 2].item() == pytest.approx(math.sqrt(in_meters), rel=1e-12)
    assert BoxDistribution(_gaussian(), _coding("local")).covariance[0, 2, 5] == 0


@every_coding
@every_period
def test_samples_follow_the_cdf(kind: str, period: float, generator: torch.Generator):
    for density in _every_density(1):
        distribution = BoxDistribution(density, _coding(kind), period)
        levels = distribution.cdf(distribution.sample(4000, generator))[0].numpy()
        assert min(stats.kstest(levels[:, d], "uniform").pvalue for d in range(7)) > _P_VALUE


@every_coding
def test_squared_mahalanobis_distance_is_the_quadratic_form_of_the_inverse(kind: str):
    distribution = BoxDistribution(_mixture(3), _coding(kind, 3))
    boxes = distribution.sample(4)
    offset = (distribution.residuals(boxes) - distribution.density.mean[:, None]).numpy()
    inverse = np.linalg.inv(distribution.density.covariance.numpy())
    expected = np.einsum("nsi,nij,nsj->ns", offset, inverse, offset)
    np.testing.assert_allclose(distribution.squared_mahalanobis(boxes).numpy(), expected)
    flat = GaussianDensity(torch.zeros(3, 7).double(), torch.full((3, 7), -math.inf).double())
    unknown = BoxDistribution(flat, _coding(kind, 3)).squared_mahalanobis(boxes)
    assert bool(unknown.isnan().all())  # the covariance has no inverse


@every_coding
def test_rescaled_distribution_keeps_the_boxes_and_widens_the_covariance(kind: str):
    distribution = BoxDistribution(_mixture(3), _coding(kind, 3), math.pi)
    widened = distribution.rescaled(torch.tensor(2.0))
    torch.testing.assert_close(widened.boxes, distribution.boxes)
    torch.testing.assert_close(widened.covariance, 4 * distribution.covariance)
    assert widened.yaw_period == math.pi


@every_coding
def test_one_box_per_row_is_one_sample(kind: str):
    for density in _every_density(4):
        distribution = BoxDistribution(density, _coding(kind, 4))
        boxes = distribution.sample(3)
        for function in (
            distribution.log_prob,
            distribution.cdf,
            distribution.squared_mahalanobis,
            distribution.residuals,
        ):
            torch.testing.assert_close(function(boxes[:, 1]), function(boxes)[:, 1])


@every_coding
def test_log_prob_differentiates_in_boxes_and_parameters(kind: str):
    coding, density = _coding(kind, 2), _gaussian(2)
    boxes = BoxDistribution(density, coding).sample(1)

    def log_prob(boxes: Tensor, location: Tensor, log_variance: Tensor) -> Tensor:
        return BoxDistribution(GaussianDensity(location, log_variance), coding).log_prob(boxes)

    leaves = (boxes, density.location.clone(), density.log_variance.clone())
    assert torch.autograd.gradcheck(log_prob, [leaf.requires_grad_() for leaf in leaves])
    coding = AnchorCoding(_coding("anchor").reference.requires_grad_())
    assert not BoxDistribution(_gaussian(), coding).sample(2).requires_grad


@every_coding
@pytest.mark.parametrize(("rows", "count"), [(0, 2), (3, 0)])
def test_no_boxes_or_samples_have_no_values(kind: str, rows: int, count: int):
    for density in _every_density(rows):
        distribution = BoxDistribution(density, _coding(kind, rows))
        drawn = distribution.sample(count)
        assert drawn.shape == distribution.cdf(drawn).shape == (rows, count, 7)
        assert distribution.log_prob(drawn).shape == (rows, count)
        assert distribution.squared_mahalanobis(drawn).shape == (rows, count)
        assert distribution.boxes.shape == distribution.std.shape == (rows, 7)


def test_wrong_parts_are_refused():
    with pytest.raises(ValueError, match="coding must be of 2 references"):
        BoxDistribution(_gaussian(2), _coding("anchor", 3))
    for period in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="yaw_period must be positive"):
            BoxDistribution(_gaussian(), _coding("anchor"), period)


def _moving(period: float = 2 * math.pi) -> tuple[BoxDistribution, BoxDistribution, Tensor]:
    """Densities of boxes with velocities, the same without, and deviations along and across."""
    coding, std, spread = _coding("local", 2), _tensor([1.5, 0.4]), _tensor([0.3, 0.6])
    velocity = _tensor([[6.0, -2.0], [0.5, 3.0]])
    parts = (coding.reference, velocity), (coding.noise_std, std.expand(2, 2))
    moving = LocalCoding(*(torch.cat(part, dim=1) for part in parts))
    seven, points = _gaussian(2), _tensor([[0.1, -0.2]] * 2)
    location = torch.cat((seven.location, points), dim=1)
    log_variance = torch.cat((seven.log_variance, 2 * torch.log(spread).expand(2, 2)), dim=1)
    density = GaussianDensity(location, log_variance)
    with_velocity = BoxDistribution(density, moving, period)
    return with_velocity, BoxDistribution(seven, coding, period), std * spread


@every_period
def test_independent_velocities_are_a_factor_in_meters_per_second(period: float):
    moving, seven, std = _moving(period)
    boxes = _rotated(moving.sample(6), period)
    yaw = seven.coding.reference[:, None, 6]
    offset = boxes[..., 7:] - moving.boxes[:, None, 7:]
    along = yaw.cos() * offset[..., 0] + yaw.sin() * offset[..., 1]
    across = yaw.cos() * offset[..., 1] - yaw.sin() * offset[..., 0]
    factor = stats.norm(0, std.numpy()).logpdf(torch.stack((along, across), dim=-1)).sum(-1)
    expected = seven.log_prob(boxes[..., :7]) + _tensor(factor)
    torch.testing.assert_close(moving.log_prob(boxes), expected)
    torch.testing.assert_close(moving.cdf(boxes)[..., :7], seven.cdf(boxes[..., :7]))


def test_covariance_of_velocities_is_rotated_into_the_lidar_frame():
    moving, seven, std = _moving()
    covariance = moving.covariance
    torch.testing.assert_close(covariance[:, :7, :7], seven.covariance)
    assert bool((covariance[:, :7, 7:] == 0).all())
    for n, yaw in enumerate(seven.coding.reference[:, 6].tolist()):
        rotation = _tensor([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
        expected = rotation @ torch.diag(std.square()) @ rotation.T
        torch.testing.assert_close(covariance[n, 7:, 7:], expected)
        deviations = torch.diagonal(expected).sqrt()
        torch.testing.assert_close(moving.std[n, 7:], deviations)


def test_samples_of_velocities_follow_the_cdf(generator: torch.Generator):
    moving, _, _ = _moving()
    levels = moving.cdf(moving.sample(4000, generator))[0].numpy()
    assert min(stats.kstest(levels[:, d], "uniform").pvalue for d in range(9)) > _P_VALUE
