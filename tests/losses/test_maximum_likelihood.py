from __future__ import annotations

import pytest
import torch

from ebm3d.losses import mcmc_loss


def test_loss_is_the_mean_of_the_samples_less_the_true_value():
    f = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, -3.0]])
    expected = torch.tensor([2.5, -2.0])
    torch.testing.assert_close(mcmc_loss(torch.tensor([0.5, 1.0]), f), expected)


def test_expected_gradient_with_exact_samples_is_that_of_the_likelihood():
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    for start in (p.log() + 2.5, torch.tensor([0.3, -1.0, 2.0, 0.0], dtype=torch.float64)):
        table = start.clone().requires_grad_()
        model = torch.softmax(start, dim=0)
        loss = sum(
            p[true] * model[sample] * mcmc_loss(table[true], table[[sample]])
            for true in range(4)
            for sample in range(4)
        )
        (found,) = torch.autograd.grad(loss, table)
        likelihood = torch.logsumexp(table, dim=0) - (p * table).sum()
        (expected,) = torch.autograd.grad(likelihood, table)
        torch.testing.assert_close(found, expected, atol=1e-14, rtol=0)
        assert bool((found.abs() < 1e-14).all()) == bool((start - p.log()).std() < 1e-12)


def test_loss_is_finite_at_extreme_values():
    loss = mcmc_loss(torch.tensor([1e4]), torch.tensor([[-1e4, 1e4]]))
    torch.testing.assert_close(loss, torch.tensor([-1e4]))


def test_no_boxes_cost_nothing():
    assert mcmc_loss(torch.zeros(0), torch.zeros(0, 3)).shape == (0,)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"f_true must have shape \(2,\)"):
        mcmc_loss(torch.zeros(2, 1), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="M >= 1"):
        mcmc_loss(torch.zeros(2), torch.zeros(2, 0))
