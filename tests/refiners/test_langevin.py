from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm3d.refiners import langevin

_CURVATURE = torch.tensor([0.5, 2.0, 4.0], dtype=torch.float64)
_MEAN = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)


def _quadratic(y: Tensor) -> Tensor:
    return -0.5 * (_CURVATURE * (y - _MEAN).square()).sum(-1)


@pytest.mark.parametrize("noise_scale", [1.0, 0.5])
def test_variance_on_a_quadratic_is_that_of_the_discrete_chain(noise_scale: float):
    # y' - mu = a (y - mu) + gamma lambda eps with a = 1 - lambda^2 k / 2: the stationary variance
    # is gamma^2 lambda^2 / (1 - a^2); after T steps from mu it lacks the part a^(2 T).
    num, steps, step_size = 20_000, 40, 0.6
    start = _MEAN.expand(num, 3)
    found = langevin(_quadratic, start, step_size, steps, noise_scale)
    a = 1 - step_size**2 * _CURVATURE / 2
    variance = (noise_scale * step_size) ** 2 * (1 - a ** (2 * steps)) / (1 - a**2)
    stated = noise_scale**2 / (_CURVATURE * (1 - step_size**2 * _CURVATURE / 4))
    torch.testing.assert_close(variance, stated * (1 - a ** (2 * steps)))
    # Standard errors of the variance and the mean of n normal numbers.
    assert bool(((found.var(dim=0) / variance - 1).abs() < 5 * math.sqrt(2 / num)).all())
    assert bool(((found.mean(dim=0) - _MEAN).abs() < 5 * (variance / num).sqrt()).all())


def test_small_steps_reach_the_variance_of_the_density():
    num = 20_000
    # 1D, k = 4: a step of 0.1 widens the variance by 1 / (1 - 0.01), below the standard error.
    start = 0.5 * torch.randn(num, 1, dtype=torch.float64)
    found = langevin(lambda y: -2 * y.square().sum(-1), start, 0.1, 50)
    assert abs(float(found.var()) / 0.25 - 1) < 5 * math.sqrt(2 / num)


def test_a_step_is_half_the_squared_step_size_times_the_gradient_and_noise():
    start = torch.randn(4, 3, dtype=torch.float64)
    found = langevin(_quadratic, start, 0.3, 1, generator=torch.Generator().manual_seed(5))
    noise = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    expected = start - 0.045 * _CURVATURE * (start - _MEAN) + 0.3 * noise
    torch.testing.assert_close(found, expected)


def test_without_noise_it_is_gradient_ascent():
    start = torch.randn(4, 3, dtype=torch.float64)
    found = langevin(_quadratic, start, 0.5, 6, noise_scale=0.0)
    expected = _MEAN + (1 - 0.125 * _CURVATURE) ** 6 * (start - _MEAN)
    torch.testing.assert_close(found, expected)


def test_samples_of_a_mixture_have_its_moments():
    # 0.3 N(-1, 0.25) + 0.7 N(1, 0.25): chains that start as the mixture stay so.
    def f(y: Tensor) -> Tensor:
        parts = [math.log(w) - 2 * (y[..., 0] - m).square() for w, m in ((0.3, -1), (0.7, 1))]
        return torch.logsumexp(torch.stack(parts), dim=0)

    num = 20_000
    side = torch.where(torch.rand(num, dtype=torch.float64) < 0.3, -1.0, 1.0)
    start = (side + 0.5 * torch.randn(num, dtype=torch.float64))[:, None]
    found = langevin(f, start, 0.1, 100)
    variance = 0.25 + 1 - 0.4**2
    assert abs(float(found.mean()) - 0.4) < 5 * math.sqrt(variance / num)


def test_samples_carry_no_graph_and_the_start_is_left_as_it_was():
    start = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    before = start.detach().clone()
    with torch.no_grad():
        found = langevin(_quadratic, start, 0.1, 3)
    assert not found.requires_grad
    assert torch.equal(start.detach(), before)
    assert not langevin(_quadratic, start, 0.1, 0).requires_grad


def test_parameters_of_f_get_no_gradient():
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    langevin(lambda y: -(weight * y.square()).sum(-1), torch.zeros(2, 3).double(), 0.1, 2)
    assert weight.grad is None


def test_shapes_are_kept_and_no_points_stay_none():
    assert langevin(_quadratic, torch.zeros(2, 5, 3).double(), 0.1, 2).shape == (2, 5, 3)
    assert langevin(_quadratic, torch.zeros(0, 3).double(), 0.1, 2).shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 0.0}, "step_size must be positive"),
        ({"step_size": math.inf}, "step_size must be positive and finite"),
        ({"num_steps": -1}, "num_steps must be at least 0"),
        ({"noise_scale": -1.0}, "noise_scale must be at least 0"),
        ({"f": lambda y: y}, r"f\(y\) must have shape \(2,\)"),
        ({"f": lambda y: y.detach().sum(-1)}, "f must be differentiable in y"),
    ],
)
def test_wrong_inputs_are_refused(options: dict[str, Any], message: str):
    arguments: dict[str, Any] = {
        "f": _quadratic,
        "start": torch.zeros(2, 3).double(),
        "step_size": 0.1,
        "num_steps": 2,
    }
    with pytest.raises(ValueError, match=message):
        langevin(**{**arguments, **options})
