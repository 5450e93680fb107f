from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from ebm3d.losses import gaussian_nll


def _inputs() -> tuple[torch.Tensor, torch.Tensor]:
    residual = torch.randn(6, 7, dtype=torch.float64)
    return residual, torch.linspace(-4, 3, 42, dtype=torch.float64).view(6, 7)


def test_loss_is_minus_the_log_of_the_normal_density():
    residual, log_variance = _inputs()
    expected = -stats.norm.logpdf(residual.numpy(), scale=np.exp(log_variance.numpy() / 2))
    np.testing.assert_allclose(gaussian_nll(residual, log_variance), expected, rtol=1e-13)


@pytest.mark.parametrize("log_variance", [-3.0, 0.0, 2.0])
def test_density_integrates_to_one(log_variance: float):
    def density(r: float) -> float:
        pair = torch.tensor([[r], [log_variance]], dtype=torch.float64)
        return math.exp(-gaussian_nll(*pair).item())

    assert integrate.quad(density, -40, 40, points=[-1, 0, 1])[0] == pytest.approx(1, abs=1e-8)


def test_loss_is_differentiable_twice_in_both_arguments():
    residual, log_variance = (t.requires_grad_() for t in _inputs())
    assert torch.autograd.gradcheck(gaussian_nll, (residual, log_variance))
    assert torch.autograd.gradgradcheck(gaussian_nll, (residual, log_variance))


def test_mean_loss_is_least_where_the_variance_is_that_of_the_residuals():
    residual = torch.randn(1000, dtype=torch.float64)
    log_variance = residual.square().mean().log().requires_grad_()
    (gradient,) = torch.autograd.grad(
        gaussian_nll(residual, log_variance.expand(1000)).mean(), log_variance
    )
    assert abs(float(gradient)) < 1e-14


def test_no_boxes_cost_nothing():
    assert gaussian_nll(torch.zeros(0, 7), torch.zeros(0, 7)).shape == (0, 7)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"log_variance must have shape \(2, 7\) like residual"):
        gaussian_nll(torch.zeros(2, 7), torch.zeros(2, 1))
