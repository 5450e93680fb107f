"""What normalizes exp f: log densities and uncertainties of an energy whose normalizer is known."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.densities import BoxDistribution, GaussianDensity
from ebm3d.energy import LogDensity, NormalizedEnergy, energy_distribution
from ebm3d.energy.uncertainty import METHODS
from ebm3d.noise import BoxNoise
from tests.energy.gaussian_energy import CONSTANT, MOVING_NOISE, NOISE, STD, GaussianEnergy

METRIC_NOISE = BoxNoise([0.25, 0.12, 0.08, 0.2, 0.1, 0.1, 0.04], axes="world", sizes="metric")
every_method = pytest.mark.parametrize("method", METHODS)


class _Criterion:
    """A training method that learned a wrong normalizer, of the detected box."""

    is_density = True

    def log_normalizer(self, f: Any, boxes: Tensor, noise_std: Tensor) -> Tensor:
        """The first coordinate and the first standard deviation."""
        return boxes[:, 0] + noise_std[:, 0]


def _near(f: GaussianEnergy) -> Tensor:
    """Boxes beside the modes."""
    coding = LocalCoding(f.boxes, f.coding.noise_std)
    return coding.decode(0.2 * torch.randn_like(f.boxes))


def _normalized(f: Any, boxes: Tensor | None = None) -> NormalizedEnergy:
    return NormalizedEnergy(f, f.boxes if boxes is None else boxes, f.noise)


def _log_density(f: Any, boxes: Tensor, *options: Any) -> Tensor:
    return LogDensity(*options)(_normalized(f, boxes), f(boxes), f.boxes, _Criterion())


def test_normalizers_of_a_density_times_a_constant_are_the_constant():
    normalized = _normalized(GaussianEnergy(3))
    expected = torch.full((3,), CONSTANT, dtype=torch.float64)
    torch.testing.assert_close(normalized.laplace.log_normalizer, expected)
    samples = normalized.posterior(2048, 4)
    # Five standard errors; the last round keeps most samples of a Gaussian.
    torch.testing.assert_close(samples.log_normalizer, expected, atol=5 / 1000**0.5, rtol=0)


def test_what_is_asked_for_twice_is_computed_once():
    f = GaussianEnergy(2)
    normalized = _normalized(f)
    assert f.num_calls == 0
    assert normalized.laplace is normalized.laplace
    calls = f.num_calls
    assert normalized.posterior(16, 2) is normalized.posterior(16, 2)
    assert calls > 0
    assert f.num_calls - calls == 2
    assert normalized.posterior(16, 3) is not normalized.posterior(16, 2)


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        # Five standard errors; the last of four rounds keeps most samples of a Gaussian.
        (("importance", 2048, 4), 5 / 1000**0.5),
        # At the mode f is quadratic in the residuals; beside it nearly so.
        (("laplace",), 0.02),
    ],
    ids=["importance", "laplace"],
)
@pytest.mark.parametrize(
    "noise", [NOISE, METRIC_NOISE, MOVING_NOISE], ids=["log", "metric", "moving"]
)
def test_log_density_of_a_gaussian_energy_is_that_of_the_gaussian(
    options: Any, tolerance: float, noise: BoxNoise
):
    f = GaussianEnergy(4, noise)
    boxes = _near(f)
    log_p = _log_density(f, boxes, *options)
    torch.testing.assert_close(log_p, f.log_prob(boxes), atol=tolerance, rtol=0)


def test_learned_normalizer_is_asked_for_at_the_detected_box():
    f = GaussianEnergy(4, METRIC_NOISE)  # of other deviations at the refined box
    boxes = _near(f)
    b = f.boxes[:, 0] + METRIC_NOISE.noise_std(f.boxes, f.labels)[:, 0]
    expected = f.log_prob(boxes) + CONSTANT - b
    torch.testing.assert_close(_log_density(f, boxes, "learned"), expected, atol=1e-12, rtol=0)


def test_box_whose_f_is_not_finite_has_no_log_density():
    f = GaussianEnergy(2)
    value = torch.tensor([torch.nan, torch.inf], dtype=torch.float64)
    log_p = LogDensity("learned")(_normalized(f), value, f.boxes, _Criterion())
    assert bool(torch.isnan(log_p).all())


@pytest.mark.parametrize("options", [("exact",), ("importance", 0), ("importance", 8, 0)], ids=str)
def test_options_are_checked(options: Any):
    with pytest.raises(ValueError, match=r"log_density\."):
        LogDensity(*options)


def test_training_method_whose_f_cannot_be_normalized_so_is_refused():
    with pytest.raises(ValueError, match="makes f a log density"):
        LogDensity().check(SimpleNamespace(is_density=False))
    with pytest.raises(ValueError, match="SNLLoss"):
        LogDensity("learned").check(SimpleNamespace(is_density=True))
    LogDensity("learned").check(_Criterion())


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [("laplace", 1e-6), ("importance", 5 / math.sqrt(2 * 150))],  # five errors of a spread
)
@pytest.mark.parametrize("noise", [NOISE, MOVING_NOISE], ids=["seven", "nine"])
def test_uncertainty_of_a_gaussian_energy_is_that_of_the_gaussian(
    method: str, tolerance: float, noise: BoxNoise
):
    f = GaussianEnergy(3, noise)
    log_variance = torch.full_like(f.boxes, 2 * math.log(STD))
    density = GaussianDensity(torch.zeros_like(f.boxes), log_variance)
    expected = BoxDistribution(density, f.coding, math.pi)
    std = energy_distribution(method, _normalized(f)).std
    torch.testing.assert_close(std, expected.std, rtol=tolerance, atol=0)


@every_method
def test_point_estimates_are_the_boxes_and_the_period_is_pi(method: str):
    f = GaussianEnergy(3)
    boxes = _near(f)
    distribution = energy_distribution(method, _normalized(f, boxes))
    torch.testing.assert_close(distribution.boxes, boxes)
    assert distribution.yaw_period == math.pi


def test_no_boxes_have_no_densities():
    f = GaussianEnergy(0)
    for method in METHODS:
        assert len(energy_distribution(method, _normalized(f))) == 0
    for method in ("importance", "laplace", "learned"):
        assert _log_density(f, f.boxes, method).shape == (0,)
