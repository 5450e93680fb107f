from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.losses import (
    dsm_loss,
    gradient_of,
    score_matching_loss,
    sliced_score_matching_loss,
)

both = pytest.mark.parametrize("loss", [score_matching_loss, sliced_score_matching_loss])


def _network(dimensions: int = 7) -> Callable[[Tensor], Tensor]:
    """A smooth f of D dimensions, float64."""
    layers = torch.nn.Sequential(
        torch.nn.Linear(dimensions, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)
    ).double()
    return lambda points: layers(points)[..., 0]


def _points(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_loss_is_the_trace_of_the_hessian_and_half_the_squared_gradient():
    f, points = _network(), _points(4, 7)
    loss = score_matching_loss(f, points)
    for i, point in enumerate(points):
        hessian = torch.autograd.functional.hessian(f, point)
        gradient = torch.autograd.functional.jacobian(f, point)
        expected = torch.trace(hessian) + 0.5 * gradient.square().sum()
        torch.testing.assert_close(loss[i].detach(), expected)
        torch.testing.assert_close(gradient_of(f, points)[i].detach(), gradient)


def test_sliced_loss_is_unbiased_and_several_slices_are_averaged():
    f, points, num = _network(), _points(1, 7), 8
    repeated = points.expand(4000, 7)
    with torch.no_grad():
        one = sliced_score_matching_loss(f, repeated)
        many = sliced_score_matching_loss(f, repeated, num)
        expected = score_matching_loss(f, points)[0]
    assert float(one.std()) > 1e-3
    assert abs(float(one.mean() - expected)) < 5 * float(one.std()) / 4000**0.5
    # The standard error of a standard deviation of n values is its size over sqrt(2 n), about.
    assert float(one.std() / many.std()) == pytest.approx(num**0.5, rel=5 / (2000**0.5))


def _quadratic(precision: Tensor, mean: Tensor) -> Callable[[Tensor], Tensor]:
    def f(points: Tensor) -> Tensor:
        offset = points - mean
        return -0.5 * torch.einsum("...i,ij,...j->...", offset, precision, offset)

    return f


@pytest.mark.parametrize("kind", ["exact", "sliced"])
def test_score_matching_recovers_mean_and_precision_of_a_gaussian(kind: str):
    # The mean loss of a quadratic f is least at the samples' mean and inverse covariance, exactly.
    points = _points(200, 3) @ torch.tensor([[1.0, 0.5, 0], [0, 0.7, 0.2], [0, 0, 0.4]]).double()
    points = points + torch.tensor([2.0, -1, 0.5])
    offset = points - points.mean(dim=0)
    precision = torch.linalg.inv(offset.T @ offset / len(points)).requires_grad_()
    mean = points.mean(dim=0).requires_grad_()
    f = _quadratic(precision, mean)
    exact = kind == "exact"
    loss = score_matching_loss(f, points) if exact else sliced_score_matching_loss(f, points, 500)
    slope, of_mean = torch.autograd.grad(loss.mean(), (precision, mean))
    # Diagonal entries are exact for directions of +1 and -1. The Hessian is the same at every
    # point: the others are means of 100,000 signs.
    exact_part = slope if exact else slope.diagonal()
    for part in (of_mean, exact_part):
        torch.testing.assert_close(part, torch.zeros_like(part), atol=1e-11, rtol=0)
    assert float(slope.abs().max()) < 5 / 100_000**0.5


def test_denoising_recovers_the_precision_of_the_smoothed_gaussian():
    # y ~ N(2, 0.09), noise of variance 0.16: expectations by Gauss-Hermite quadrature, exact here.
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    root, mass = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
    true = (2 + 0.3 * root)[:, None, None]
    perturbed = true + 0.4 * root[None, :, None]
    mean = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    precision = torch.tensor([[1 / (0.09 + 0.16)]], dtype=torch.float64, requires_grad=True)
    gradient = gradient_of(_quadratic(precision, mean), perturbed)
    loss = mass[:, None] * mass * dsm_loss(gradient, perturbed - true, 0.16)
    for slope in torch.autograd.grad(loss.sum(), (precision, mean)):
        torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-13, rtol=0)
    # What is left is the variance of noise / variance given the perturbed value.
    assert float(loss.sum().detach()) == pytest.approx(0.09 / (0.09 + 0.16) / 0.16, rel=1e-12)


@both
def test_parameters_get_the_gradient_of_finite_differences(loss: Any):
    points, weight = _points(2, 3), _points(3, 4)
    if loss is sliced_score_matching_loss:
        loss = partial(loss, num_slices=2)

    def of_weight(weight: Tensor) -> Tensor:
        torch.manual_seed(3)
        return loss(lambda y: torch.tanh(y @ weight).square().sum(-1), points)

    assert torch.autograd.gradcheck(of_weight, weight.requires_grad_())


@both
def test_linear_f_has_no_trace(loss: Any):
    weight = _points(3).requires_grad_()
    expected = (0.5 * weight.square().sum()).expand(4)
    torch.testing.assert_close(loss(lambda y: y @ weight, _points(4, 3)), expected)


@pytest.mark.parametrize("loss", [score_matching_loss, gradient_of])
def test_losses_without_a_graph_have_the_same_value_and_points_get_no_gradient(loss: Any):
    f, points = _network(), _points(2, 7).requires_grad_()
    with torch.no_grad():
        value = loss(f, points)
    assert not value.requires_grad
    graph = loss(f, points)
    torch.testing.assert_close(value, graph.detach())
    graph.sum().backward()
    assert points.grad is None


@both
def test_leading_axes_are_kept_and_no_points_cost_nothing(loss: Any):
    f = _network()
    for lead in ((), (2, 3), (0,)):
        points = _points(*lead, 7)
        assert loss(f, points).shape == lead
        assert gradient_of(f, points).shape == points.shape


def test_wrong_inputs_are_refused():
    points = _points(2, 3)
    with pytest.raises(ValueError, match=r"f\(points\) must have shape \(2,\)"):
        score_matching_loss(lambda y: y, points)
    with pytest.raises(ValueError, match="f must be differentiable"):
        gradient_of(lambda y: y.detach().sum(-1), points)
    with pytest.raises(ValueError, match="num_slices"):
        sliced_score_matching_loss(_network(3), points, 0)
    with pytest.raises(ValueError, match="gradient must have shape"):
        dsm_loss(points[:1], points, 1.0)
    with pytest.raises(RuntimeError, match="expand"):
        dsm_loss(points, points, points[0, :2])
    with pytest.raises(ValueError, match="variance"):
        dsm_loss(points, points, 0.0)
    with pytest.raises(ValueError, match="points must be of a floating-point type"):
        score_matching_loss(lambda y: y.sum(-1), points.long())
