from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm3d.refiners import langevin, laplace_approximation, sample_boxes
from tests.refiners.gaussians import known_gaussian

_CURVATURE = torch.tensor([0.5, 2.0, 4.0], dtype=torch.float64)
_MEAN = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)


def _quadratic(y: Tensor) -> Tensor:
    return -0.5 * (_CURVATURE * (y - _MEAN).square()).sum(-1)


@pytest.mark.parametrize("noise_scale", [1.0, 0.5])
def test_variance_on_a_quadratic_is_that_of_the_discrete_chain(noise_scale: float):
    # y' - mu = a (y - mu) + gamma lambda eps with a = 1 - lambda^2 k / 2: the stationary variance
    # is gamma^2 lambda^2 / (1 - a^2); after T steps from mu it lacks the part a^(2 T).
    num, steps, step_size = 20_000, 40, 0.6
    samples = langevin(_quadratic, _MEAN.expand(num, 3), step_size, steps, noise_scale)
    a = 1 - step_size**2 * _CURVATURE / 2
    stationary = noise_scale**2 / (_CURVATURE * (1 - step_size**2 * _CURVATURE / 4))
    variance = stationary * (1 - a ** (2 * steps))
    # Standard errors of the variance and the mean of n normal numbers.
    assert bool(((samples.var(dim=0) / variance - 1).abs() < 5 * math.sqrt(2 / num)).all())
    assert bool(((samples.mean(dim=0) - _MEAN).abs() < 5 * (variance / num).sqrt()).all())


def test_a_step_is_half_the_squared_step_size_times_the_gradient_and_noise():
    start = torch.randn(4, 3, dtype=torch.float64)
    moved = langevin(_quadratic, start, 0.3, 1, generator=torch.Generator().manual_seed(5))
    noise = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    expected = start - 0.045 * _CURVATURE * (start - _MEAN) + 0.3 * noise
    torch.testing.assert_close(moved, expected)


def test_samples_have_no_graph_and_neither_start_nor_parameters_are_touched():
    start = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    before = start.detach().clone()
    with torch.no_grad():
        for num_steps in (0, 3):
            samples = langevin(lambda y: -(weight * y.square()).sum(-1), start, 0.1, num_steps)
            assert not samples.requires_grad
    assert torch.equal(start.detach(), before)
    assert start.grad is weight.grad is None
    assert langevin(_quadratic, torch.zeros(0, 3).double(), 0.1, 2).shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 0.0}, "step_size"),
        ({"step_size": math.inf}, "step_size"),
        ({"num_steps": -1}, "num_steps"),
        ({"noise_scale": -1.0}, "noise_scale"),
        ({"f": lambda y: y}, r"f\(y\) must have shape \(2,\)"),
        ({"f": lambda y: y.detach().sum(-1)}, "f must be differentiable in y"),
        ({"start": torch.tensor(1.0)}, "y must have shape"),
    ],
)
def test_wrong_inputs_are_refused(options: dict[str, Any], message: str):
    start = torch.zeros(2, 3).double()
    arguments = {"f": _quadratic, "start": start, "step_size": 0.1, "num_steps": 2}
    with pytest.raises(ValueError, match=message):
        langevin(**{**arguments, **options})


def test_boxes_from_a_wrong_gaussian_reach_the_density_of_f():
    # The start is twice as wide as the density and off by half a unit; the law of the chain on a
    # quadratic is exact: variance 1 / (1 - step^2 k / 4) in coordinates where the curvature is k.
    g, chains = known_gaussian(2), 4000
    right = laplace_approximation(g, g.boxes, g.noise_std)
    wrong = replace(right, mean=right.mean + 0.5, scale_tril=2 * right.scale_tril)
    step, curvature = 0.25, 4.0
    boxes = sample_boxes(g, wrong, chains, 80, step, torch.Generator().manual_seed(5))
    assert boxes.shape == (2, chains, 7)
    residuals = g.coding.encode(boxes)
    expected = g.covariance / (1 - step**2 * curvature / 4)
    variance = expected.diagonal(dim1=1, dim2=2)
    assert bool(((residuals.mean(1) - g.mean).abs() <= 5 * (variance / chains).sqrt()).all())
    offset = residuals - residuals.mean(1, keepdim=True)
    covariance = torch.einsum("nki,nkj->nij", offset, offset) / (chains - 1)
    products = variance[:, :, None] * variance[:, None] + expected.square()
    assert bool(((covariance - expected).abs() <= 5 * (products / chains).sqrt()).all())


@pytest.mark.parametrize("columns", [7, 9])
def test_no_steps_draw_boxes_from_the_approximation(columns: int):
    g = known_gaussian(2, columns)
    laplace = laplace_approximation(g, g.boxes, g.noise_std)
    first, second = (torch.Generator().manual_seed(5) for _ in range(2))
    boxes = sample_boxes(g, laplace, 3, 0, generator=first)
    normal = torch.randn(2, 3, columns, dtype=torch.float64, generator=second)
    roots = torch.linalg.cholesky(g.covariance)
    expected = g.coding.decode(g.mean[:, None] + torch.einsum("nij,nkj->nki", roots, normal))
    torch.testing.assert_close(boxes, expected, rtol=1e-6, atol=1e-6)
    assert not boxes.requires_grad


def test_no_boxes_have_no_samples_and_no_chains_are_refused():
    g = known_gaussian(0)
    laplace = laplace_approximation(lambda b: b.sum(-1), g.boxes, g.noise_std)
    assert sample_boxes(lambda b: b.sum(-1), laplace, 4).shape == (0, 4, 7)
    with pytest.raises(ValueError, match="num_samples"):
        sample_boxes(g, laplace, 0)
