"""Losses of residuals: Gaussian, Laplace, smooth L1, L1, L2."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from ebm3d.losses import gaussian_nll, l1_loss, l2_loss, laplace_nll, smooth_l1_loss

Loss = Callable[[Tensor, Tensor], Tensor]
# The loss, the density by scipy, scipy's scale from the loss's second argument.
_LIKELIHOODS: list[tuple[Loss, Any, Callable[[Any], Any]]] = [
    (gaussian_nll, stats.norm, lambda log_variance: np.exp(log_variance / 2)),
    (laplace_nll, stats.laplace, np.exp),
]
both = pytest.mark.parametrize(
    ("loss", "density", "scale_of"), _LIKELIHOODS, ids=["gaussian", "laplace"]
)


@both
def test_loss_is_minus_the_log_of_the_density(loss: Loss, density: Any, scale_of: Any):
    residual = torch.randn(6, 7, dtype=torch.float64)
    log_scale = torch.linspace(-4, 3, 42, dtype=torch.float64).view(6, 7)
    expected = -density.logpdf(residual.numpy(), scale=scale_of(log_scale.numpy()))
    np.testing.assert_allclose(loss(residual, log_scale), expected, rtol=1e-13)


def test_gradient_of_the_laplace_loss_at_the_kink_is_zero():
    residual = torch.zeros(1, requires_grad=True)
    laplace_nll(residual, torch.zeros(1)).sum().backward()
    assert torch.equal(residual.grad, torch.zeros(1))


def test_l1_and_l2_are_the_absolute_value_and_half_the_square():
    residual = torch.tensor([-2.0, 0.0, 3.0])
    assert torch.equal(l1_loss(residual), torch.tensor([2.0, 0.0, 3.0]))
    assert torch.equal(l2_loss(residual), torch.tensor([2.0, 0.0, 4.5]))


@pytest.mark.parametrize("beta", [1e-3, 1 / 9, 1.0])
def test_smooth_l1_is_quadratic_up_to_beta_and_linear_beyond(beta: float):
    residual = torch.cat((torch.randn(50), torch.tensor([0.0, 1e6, -1e6]))).double()
    size = residual.abs()
    expected = torch.where(size < beta, size**2 / (2 * beta), size - beta / 2)
    torch.testing.assert_close(smooth_l1_loss(residual, beta), expected)
    (slope,) = torch.autograd.grad(smooth_l1_loss(residual.requires_grad_(), beta).sum(), residual)
    torch.testing.assert_close(slope, functional.hardtanh(residual.detach() / beta))


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan, math.inf])
def test_a_beta_that_is_not_positive_is_refused(beta: float):
    with pytest.raises(ValueError, match="beta"):
        smooth_l1_loss(torch.zeros(1), beta)
