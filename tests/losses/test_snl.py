from __future__ import annotations

import math

import pytest
import torch
from scipy import optimize, stats
from torch import Tensor

from ebm3d.losses import log_normalizer, mlis_loss, snl_loss


def _inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    true, b = torch.randn(2, 3, dtype=torch.float64)
    return true, *torch.randn(2, 3, 5, dtype=torch.float64), b


def test_loss_is_the_published_one():
    true, f, log_q, b = _inputs()
    for i in range(3):
        ratios = [math.exp(f[i, m] - b[i]) / math.exp(log_q[i, m]) for m in range(5)]
        expected = -(float(true[i] - b[i]) - sum(ratios) / 5 + 1)
        assert float(snl_loss(true, f, log_q, b)[i]) == pytest.approx(expected, rel=1e-12)


def test_minimum_over_the_normalizer_is_the_known_one_and_the_likelihood():
    # f = 3.7 + log N(y; 0.3, 0.8), q = N(0, 1.3), one true value.
    num = 100_000
    y = 1.3 * torch.randn(num, dtype=torch.float64)
    f = torch.from_numpy(3.7 + stats.norm.logpdf(y, 0.3, 0.8))
    log_q = torch.from_numpy(stats.norm.logpdf(y, 0, 1.3))
    true = torch.tensor(3.7 + stats.norm.logpdf(-0.4, 0.3, 0.8))
    found = optimize.minimize_scalar(
        lambda b: float(snl_loss(true, f, log_q, torch.tensor(b, dtype=torch.float64))), (0.0, 1.0)
    )
    error = float((f - log_q).exp().std()) / math.exp(3.7) / math.sqrt(num)
    assert abs(found.x - 3.7) < 5 * error < 0.02
    assert abs(found.fun + stats.norm.logpdf(-0.4, 0.3, 0.8)) < 5 * error


def test_loss_is_nowhere_below_the_importance_sampled_likelihood_and_touches_it():
    true, f, log_q, _ = _inputs()
    best = log_normalizer(f, log_q)
    likelihood = mlis_loss(true, f, log_q)
    torch.testing.assert_close(snl_loss(true, f, log_q, best), likelihood)
    for shift in (-30.0, -1.0, 0.1, 40.0):
        assert bool((snl_loss(true, f, log_q, best + shift) > likelihood).all())


def test_expected_gradient_of_one_sample_vanishes_at_the_true_log_density():
    # Four values, true distribution p, noise q, M = 1, f = log p + c, b = c; exact for any M.
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    q = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    table = (p.log() + 2.5).requires_grad_()
    b = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    expected = sum(
        p[true] * q[noise] * snl_loss(table[true], table[[noise]], q.log()[[noise]], b)
        for true in range(4)
        for noise in range(4)
    )
    for gradient in torch.autograd.grad(expected, (table, b)):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-14, rtol=0)


def test_exponential_goes_on_as_its_tangent_beyond_five_nats():
    true = torch.zeros(2, dtype=torch.float64)
    f = torch.tensor([[5.0], [8.0]], dtype=torch.float64, requires_grad=True)
    loss = snl_loss(true, f, torch.zeros_like(f), torch.zeros_like(true))
    (slope,) = torch.autograd.grad(loss.sum(), f)
    expected = torch.tensor([math.exp(5) - 1, 4 * math.exp(5) - 1], dtype=torch.float64)
    torch.testing.assert_close(loss.detach(), expected)
    torch.testing.assert_close(slope, torch.full_like(slope, math.exp(5)))


def test_loss_is_finite_at_extreme_values():
    f = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    b = torch.zeros(1, requires_grad=True)
    loss = snl_loss(f[:, 0], f, torch.tensor([[-1e3, -5.0, 30.0]]), b)
    assert bool(torch.isfinite(loss).all())
    for gradient in torch.autograd.grad(loss.sum(), (f, b)):
        assert bool(torch.isfinite(gradient).all())


def test_loss_is_differentiable_in_all_arguments():
    tensors = tuple(t.requires_grad_() for t in _inputs())
    assert torch.autograd.gradcheck(snl_loss, tensors)


def test_leading_axes_are_kept_and_no_boxes_cost_nothing():
    for lead in ((), (2, 3), (0,)):
        f, b = torch.zeros(*lead, 4), torch.zeros(lead)
        assert snl_loss(b, f, f, b).shape == lead


def test_shapes_that_do_not_fit_are_refused():
    f, one = torch.zeros(2, 4), torch.zeros(2)
    with pytest.raises(ValueError, match=r"f_true must have shape \(2,\)"):
        snl_loss(f, f, f, one)
    with pytest.raises(ValueError, match=r"log_normalizer must have shape \(2,\)"):
        snl_loss(one, f, f, torch.zeros(()))
