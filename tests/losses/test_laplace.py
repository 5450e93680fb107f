from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from ebm3d.losses import laplace_nll


def _inputs() -> tuple[torch.Tensor, torch.Tensor]:
    residual = torch.randn(6, 7, dtype=torch.float64)
    return residual, torch.linspace(-3, 2, 42, dtype=torch.float64).view(6, 7)


def test_loss_is_minus_the_log_of_the_laplace_density():
    residual, log_scale = _inputs()
    expected = -stats.laplace.logpdf(residual.numpy(), scale=np.exp(log_scale.numpy()))
    np.testing.assert_allclose(laplace_nll(residual, log_scale), expected, rtol=1e-13)


@pytest.mark.parametrize("log_scale", [-2.0, 0.0, 1.0])
def test_density_integrates_to_one(log_scale: float):
    def density(r: float) -> float:
        pair = torch.tensor([[r], [log_scale]], dtype=torch.float64)
        return math.exp(-laplace_nll(*pair).item())

    assert integrate.quad(density, -60, 60, points=[-1, 0, 1])[0] == pytest.approx(1, abs=1e-8)


def test_loss_is_differentiable_in_both_arguments():
    residual, log_scale = (t.requires_grad_() for t in _inputs())
    assert torch.autograd.gradcheck(laplace_nll, (residual, log_scale))


def test_gradient_at_the_kink_is_zero():
    residual = torch.zeros(1, requires_grad=True)
    laplace_nll(residual, torch.zeros(1)).sum().backward()
    assert torch.equal(residual.grad, torch.zeros(1))


def test_mean_loss_is_least_where_the_scale_is_the_mean_absolute_residual():
    residual = torch.randn(1000, dtype=torch.float64)
    log_scale = residual.abs().mean().log().requires_grad_()
    (gradient,) = torch.autograd.grad(
        laplace_nll(residual, log_scale.expand(1000)).mean(), log_scale
    )
    assert abs(float(gradient)) < 1e-14


def test_no_boxes_cost_nothing():
    assert laplace_nll(torch.zeros(0, 7), torch.zeros(0, 7)).shape == (0, 7)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"log_scale must have shape \(2, 7\) like residual"):
        laplace_nll(torch.zeros(2, 7), torch.zeros(2, 1))
