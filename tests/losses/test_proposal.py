from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.losses import proposal_loss


def test_value_is_the_log_normalizer_of_the_energy():
    # exp f = e^3.7 N(0.3, 0.8); proposal N(0, 1.3).
    num = 100_000
    proposal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.3)
    y = proposal.sample((num,))
    f = 3.7 + torch.distributions.Normal(torch.full_like(y, 0.3), 0.8).log_prob(y)
    log_q = proposal.log_prob(y)
    error = float((f - log_q).exp().std()) / math.exp(3.7) / math.sqrt(num)
    assert abs(float(proposal_loss(f, log_q)) - 3.7) < 5 * error < 0.02


def _expected_gradient(logits: Tensor, p: Tensor) -> Tensor:
    """Over all pairs (M = 2) of samples of q = softmax(logits), the samples held fixed."""
    log_q = torch.log_softmax(logits, dim=0)
    f, q = p.log() + 1.7, log_q.detach().exp()
    loss = sum(
        q[i] * q[j] * proposal_loss(f[[i, j]], log_q[[i, j]]) for i in range(4) for j in range(4)
    )
    (gradient,) = torch.autograd.grad(loss, logits)
    return gradient


def test_expected_gradient_vanishes_where_the_proposal_is_the_density_and_nowhere_else():
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    there = _expected_gradient(p.log().requires_grad_(), p)
    torch.testing.assert_close(there, torch.zeros_like(p), atol=1e-14, rtol=0)
    elsewhere = _expected_gradient(torch.zeros(4, dtype=torch.float64, requires_grad=True), p)
    # A value that is likelier under p than under q gains: its gradient is negative.
    assert bool((elsewhere * (p - 0.25) < 0).all())


def test_gradient_is_that_of_the_weighted_cross_entropy():
    f, log_q = torch.randn(2, 3, 6, dtype=torch.float64)
    log_q.requires_grad_()
    (gradient,) = torch.autograd.grad(proposal_loss(f, log_q).sum(), log_q)
    torch.testing.assert_close(gradient, -torch.softmax(f - log_q.detach(), dim=1))


def test_no_gradient_reaches_the_energy():
    f = torch.randn(2, 4, requires_grad=True)
    proposal_loss(f, torch.randn(2, 4, requires_grad=True)).sum().backward()
    assert f.grad is None
