from __future__ import annotations

from collections.abc import Callable

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


class _Network(torch.nn.Module):
    """A smooth f of D dimensions, float64."""

    def __init__(self, dimensions: int = 7) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(dimensions, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)
        ).double()

    def forward(self, points: Tensor) -> Tensor:
        values: Tensor = self.layers(points)[..., 0]
        return values


def _points(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_loss_is_the_trace_of_the_hessian_and_half_the_squared_gradient():
    f, points = _Network(), _points(4, 7)
    found = score_matching_loss(f, points)
    for i, point in enumerate(points):
        hessian = torch.autograd.functional.hessian(f, point)
        gradient = torch.autograd.functional.jacobian(f, point)
        expected = torch.trace(hessian) + 0.5 * gradient.square().sum()
        torch.testing.assert_close(found[i].detach(), expected)


def test_sliced_loss_of_one_dimension_is_the_exact_one():
    f, points = _Network(1), _points(5, 1)
    torch.testing.assert_close(
        sliced_score_matching_loss(f, points), score_matching_loss(f, points)
    )


def test_sliced_loss_is_unbiased():
    f, points, num = _Network(), _points(1, 7), 4000
    repeated = points.expand(num, 7)
    with torch.no_grad():
        found = sliced_score_matching_loss(f, repeated)
        expected = score_matching_loss(f, points)[0]
    assert float(found.std()) > 1e-3
    assert abs(float(found.mean() - expected)) < 5 * float(found.std()) / num**0.5


def test_several_slices_are_averaged():
    f, points, num = _Network(), _points(1, 7).expand(4000, 7), 8
    with torch.no_grad():
        one = sliced_score_matching_loss(f, points)
        many = sliced_score_matching_loss(f, points, num)
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
    if kind == "exact":
        gradients = torch.autograd.grad(score_matching_loss(f, points).mean(), (precision, mean))
        for gradient in gradients:
            torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-11, rtol=0)
        return
    # The Hessian is the same at every point: slices of the whole set estimate one trace.
    loss = sliced_score_matching_loss(f, points, 500).mean()
    gradient, of_mean = torch.autograd.grad(loss, (precision, mean))
    torch.testing.assert_close(of_mean, torch.zeros_like(of_mean), atol=1e-11, rtol=0)
    # Diagonal entries are exact for directions of +1 and -1; others are means of 100,000 signs.
    torch.testing.assert_close(
        gradient.diagonal(), torch.zeros(3, dtype=torch.float64), atol=1e-11, rtol=0
    )
    assert float(gradient.abs().max()) < 5 / 100_000**0.5


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
    for found in torch.autograd.grad(loss.sum(), (precision, mean)):
        torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-13, rtol=0)
    # What is left is the variance of noise / variance given the perturbed value.
    assert float(loss.sum().detach()) == pytest.approx(0.09 / (0.09 + 0.16) / 0.16, rel=1e-12)


def test_denoising_loss_is_the_sum_of_squares_in_each_dimension():
    gradient, residual = _points(2, 3, 7)
    variance = torch.rand(3, 7, dtype=torch.float64) + 0.1
    for i in range(3):
        expected = sum(
            float(gradient[i, d] + residual[i, d] / variance[i, d]) ** 2 for d in range(7)
        )
        assert float(dsm_loss(gradient, residual, variance)[i]) == pytest.approx(expected)


@pytest.mark.parametrize(
    "loss", [score_matching_loss, lambda f, y: sliced_score_matching_loss(f, y, 2, _coins())]
)
def test_parameters_get_the_gradient_of_finite_differences(
    loss: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor],
):
    points, weight = _points(2, 3), _points(3, 4)

    def of_weight(weight: Tensor) -> Tensor:
        return loss(lambda y: torch.tanh(y @ weight).square().sum(-1), points)

    assert torch.autograd.gradcheck(of_weight, weight.requires_grad_())


def _coins() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_linear_f_has_no_trace():
    weight = _points(3).requires_grad_()
    for loss in (score_matching_loss, sliced_score_matching_loss):
        found = loss(lambda y: y @ weight, _points(4, 3))
        torch.testing.assert_close(found, (0.5 * weight.square().sum()).expand(4))


def test_losses_without_a_graph_have_the_same_value():
    f, points = _Network(), _points(2, 7)
    for loss in (score_matching_loss, gradient_of):
        with torch.no_grad():
            found = loss(f, points)
        assert not found.requires_grad
        torch.testing.assert_close(found, loss(f, points).detach())


def test_points_get_no_gradient():
    points = _points(2, 7).requires_grad_()
    score_matching_loss(_Network(), points).sum().backward()
    assert points.grad is None


def test_leading_axes_are_kept_and_no_points_cost_nothing():
    f = _Network()
    for lead in ((), (2, 3), (0,)):
        points = _points(*lead, 7)
        assert score_matching_loss(f, points).shape == lead
        assert sliced_score_matching_loss(f, points).shape == lead
        assert gradient_of(f, points).shape == points.shape


def test_wrong_inputs_are_refused():
    points = _points(2, 3)
    with pytest.raises(ValueError, match=r"f\(points\) must have shape \(2,\)"):
        score_matching_loss(lambda y: y, points)
    with pytest.raises(ValueError, match="f must be differentiable"):
        gradient_of(lambda y: y.detach().sum(-1), points)
    with pytest.raises(ValueError, match="num_slices must be at least 1"):
        sliced_score_matching_loss(_Network(3), points, 0)
    with pytest.raises(ValueError, match=r"gradient must have shape \(2, 3\) like residual"):
        dsm_loss(points[:1], points, 1.0)
    with pytest.raises(ValueError, match=r"variance must have shape one that broadcasts"):
        dsm_loss(points, points, points[0, :2])
    with pytest.raises(ValueError, match="variance must be positive and finite"):
        dsm_loss(points, points, 0.0)
    with pytest.raises(ValueError, match=r"floating-point type, .* pass points\.float\(\)"):
        score_matching_loss(lambda y: y.sum(-1), points.long())
    with pytest.raises(ValueError, match=r"points must have shape \(\.\.\., D\)"):
        gradient_of(lambda y: y, points[0, 0])
