from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ebm3d.losses import l1_loss, l2_loss, smooth_l1_loss

_BETAS = [1e-3, 1 / 9, 1.0]


def _residuals() -> torch.Tensor:
    return torch.cat((torch.randn(50), torch.tensor([0.0, 1e6, -1e6]))).double()


@pytest.mark.parametrize("beta", _BETAS)
def test_smooth_l1_is_that_of_torch(beta: float):
    residual = _residuals()
    expected = functional.smooth_l1_loss(
        residual, torch.zeros_like(residual), beta=beta, reduction="none"
    )
    assert torch.equal(smooth_l1_loss(residual, beta), expected)


def test_smooth_l1_and_its_slope_are_continuous_where_it_turns_linear():
    beta, step = 0.25, 1e-9
    residual = torch.tensor([beta - step, beta + step], dtype=torch.float64, requires_grad=True)
    loss = smooth_l1_loss(residual, beta)
    (slope,) = torch.autograd.grad(loss.sum(), residual)
    assert float((loss[1] - loss[0]).detach()) == pytest.approx(2 * step, rel=1e-6)
    torch.testing.assert_close(slope, torch.ones(2, dtype=torch.float64))


def test_l1_is_the_absolute_value():
    assert torch.equal(l1_loss(torch.tensor([-2.0, 0.0, 3.0])), torch.tensor([2.0, 0.0, 3.0]))


def test_l2_is_half_the_square():
    assert torch.equal(l2_loss(torch.tensor([-2.0, 0.0, 3.0])), torch.tensor([2.0, 0.0, 4.5]))


@pytest.mark.parametrize("loss", [l1_loss, l2_loss, lambda r: smooth_l1_loss(r, 0.3)])
def test_losses_are_differentiable_away_from_their_kinks(loss: object):
    residual = torch.tensor([-2.0, -0.2, 0.1, 0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (residual,))


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
def test_a_beta_that_is_not_positive_is_refused(beta: float):
    with pytest.raises(ValueError, match="beta must be positive"):
        smooth_l1_loss(torch.zeros(1), beta)
