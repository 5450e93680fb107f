"""Likelihoods of an energy: ML-IS, KLD-IS, SNL, ML-MCMC, and the loss of a proposal."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from ebm3d.losses import (
    kldis_loss,
    log_normalizer,
    mcmc_loss,
    mlis_loss,
    proposal_loss,
    snl_loss,
)
from tests.losses.discrete import P, Q, expectation, largest_slope

# f = 3.7 + log N(y; 0.3, 0.8), so that log Z = 3.7; q = N(0, 1.3).
_LOG_Z, _MEAN, _STD, _WIDTH = 3.7, 0.3, 0.8, 1.3


def _drawn(*shape: int) -> tuple[Tensor, Tensor]:
    """f and log q of samples of q."""
    y = _WIDTH * torch.randn(*shape, dtype=torch.float64).numpy()
    f = _LOG_Z + stats.norm.logpdf(y, _MEAN, _STD)
    return torch.from_numpy(f), torch.from_numpy(stats.norm.logpdf(y, 0, _WIDTH))


def _weight_variance() -> float:
    """Variance of w = p / q under q, by quadrature."""

    def integrand(y: float) -> float:
        return float(stats.norm.pdf(y, _MEAN, _STD) ** 2 / stats.norm.pdf(y, 0, _WIDTH))

    return integrate.quad(integrand, -8, 8)[0] - 1


def _inputs() -> tuple[Tensor, ...]:
    """f of a true value, f, log q and log p of five samples, and b."""
    true, b = torch.randn(2, 3, dtype=torch.float64)
    f, log_q, log_p = torch.randn(3, 3, 5, dtype=torch.float64)
    return true, f, log_q - 2, log_p - 2, b


def test_normalizer_is_the_known_one_within_its_standard_error():
    num = 100_000
    error = float(log_normalizer(*_drawn(num))) - _LOG_Z
    assert abs(error) < 5 * math.sqrt(_weight_variance() / num)


def test_mean_log_normalizer_falls_short_by_half_the_variance_over_the_samples():
    repeats, num = 100_000, 50
    variance = _weight_variance()
    error = log_normalizer(*_drawn(repeats, num)).mean() - _LOG_Z
    bias = -variance / (2 * num)
    # The next term of the expansion is of the order of variance^2 / M^2.
    tolerance = 5 * math.sqrt(variance / num / repeats) + variance**2 / num**2
    assert abs(float(error) - bias) < tolerance < abs(bias)


def test_losses_are_the_published_sums_of_densities():
    tensors = _inputs()
    true, f, log_q, log_p, b = (t.numpy() for t in tensors)
    ratio, weight = np.exp(f) / np.exp(log_q), np.exp(log_p) / np.exp(log_q)
    log_z = np.log(ratio.mean(axis=1))
    snl = -(true - b - ratio.mean(axis=1) * np.exp(-b) + 1)
    t_true, t_f, t_log_q, t_log_p, t_b = tensors
    for loss, expected in (
        (log_normalizer(t_f, t_log_q), log_z),
        (mlis_loss(t_true, t_f, t_log_q), log_z - true),
        (kldis_loss(t_f, t_log_q, t_log_p), log_z - (f * weight).mean(axis=1)),
        (snl_loss(t_true, t_f, t_log_q, t_b), snl),
        (mcmc_loss(t_true, t_f), f.mean(axis=1) - true),
        (proposal_loss(t_f, t_log_q), log_z),
    ):
        np.testing.assert_allclose(loss, expected, rtol=1e-12)


# Uniform noise whose M = 4 samples are each of the values once makes both normalizers exact.
_UNIFORM = torch.full((4,), math.log(0.25), dtype=torch.float64)


def _expected_mlis(f: Tensor) -> Tensor:
    return (P * mlis_loss(f, f.expand(4, 4), _UNIFORM.expand(4, 4))).sum()


def _expected_kldis(f: Tensor) -> Tensor:
    return kldis_loss(f, _UNIFORM, P.log())


@pytest.mark.parametrize("expected", [_expected_mlis, _expected_kldis])
def test_expected_gradient_vanishes_at_the_true_log_density_where_the_loss_is_the_entropy(
    expected: Callable[[Tensor], Tensor],
):
    assert largest_slope(expected, P.log() + 2.5) < 1e-14
    assert largest_slope(expected, torch.zeros_like(P)) > 0.05
    entropy = -(P * P.log()).sum()
    torch.testing.assert_close(expected(P.log() + 2.5), entropy)


@pytest.mark.parametrize("start", [P.log() + 2.5, torch.tensor([0.3, -1, 2, 0]).double()])
def test_expected_gradient_of_ml_mcmc_is_that_of_the_likelihood(start: Tensor):
    model, table = torch.softmax(start, dim=0), start.clone().requires_grad_()
    loss = expectation(lambda i, j: mcmc_loss(table[i], table[[j]]), q=model)
    likelihood = torch.logsumexp(table, dim=0) - (P * table).sum()
    gradient, expected = (torch.autograd.grad(value, table)[0] for value in (loss, likelihood))
    torch.testing.assert_close(gradient, expected, atol=1e-14, rtol=0)


def test_snl_is_nowhere_below_the_importance_sampled_likelihood_and_touches_it():
    true, f, log_q, _, _ = _inputs()
    best, likelihood = log_normalizer(f, log_q), mlis_loss(true, f, log_q)
    torch.testing.assert_close(snl_loss(true, f, log_q, best), likelihood)
    for shift in (-30.0, -1.0, 0.1, 40.0):
        assert bool((snl_loss(true, f, log_q, best + shift) > likelihood).all())


def test_expected_gradient_of_snl_of_one_sample_vanishes_at_the_true_log_density():
    f = (P.log() + 2.5).requires_grad_()
    b = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    loss = expectation(lambda i, j: snl_loss(f[i], f[[j]], Q.log()[[j]], b))
    for gradient in torch.autograd.grad(loss, (f, b)):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-14, rtol=0)


def test_exponential_of_snl_goes_on_as_its_tangent_beyond_five_nats():
    true = torch.zeros(2, dtype=torch.float64)
    f = torch.tensor([[5.0], [8.0]], dtype=torch.float64, requires_grad=True)
    loss = snl_loss(true, f, torch.zeros_like(f), torch.zeros_like(true))
    (slope,) = torch.autograd.grad(loss.sum(), f)
    expected = torch.tensor([math.exp(5) - 1, 4 * math.exp(5) - 1], dtype=torch.float64)
    torch.testing.assert_close(loss.detach(), expected)
    torch.testing.assert_close(slope, torch.full_like(slope, math.exp(5)))


def test_losses_are_finite_at_extreme_values():
    f = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    log_q, log_p = torch.tensor([[-1e3, -5.0, 30.0]]), torch.tensor([[-1e3, -2e3, 31.0]])
    true = f[:, 0]
    for loss in (
        mlis_loss(true, f, log_q),
        kldis_loss(f, log_q, log_p),
        snl_loss(true, f, log_q, torch.zeros(1)),
        mcmc_loss(true, f),
    ):
        (gradient,) = torch.autograd.grad(loss.sum(), f, retain_graph=True)
        assert bool(torch.isfinite(loss).all() & torch.isfinite(gradient).all())


def _proposal_gradient(logits: Tensor) -> Tensor:
    """Expected over all pairs (M = 2) of samples of q = softmax(logits), the samples held fixed."""
    leaf = logits.clone().requires_grad_()
    log_q, f = torch.log_softmax(leaf, dim=0), (P.log() + 1.7).requires_grad_()
    q = log_q.detach().exp()
    loss = expectation(lambda i, j: proposal_loss(f[[i, j]], log_q[[i, j]]), q, q)
    gradient, of_f = torch.autograd.grad(loss, (leaf, f), allow_unused=True)
    assert of_f is None
    return gradient


def test_expected_gradient_of_a_proposal_vanishes_at_the_density_and_points_there_elsewhere():
    there = _proposal_gradient(P.log())
    torch.testing.assert_close(there, torch.zeros_like(P), atol=1e-14, rtol=0)
    # A value that is likelier under p than under q gains: its gradient is negative.
    elsewhere = _proposal_gradient(torch.zeros_like(P))
    assert bool((elsewhere * (P - 0.25) < 0).all())
