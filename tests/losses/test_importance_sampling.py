from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from ebm3d.losses import kldis_loss, log_normalizer, mlis_loss

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


def _inputs() -> tuple[Tensor, Tensor, Tensor]:
    f = torch.randn(3, 5, dtype=torch.float64)
    return f, torch.randn(3, 5, dtype=torch.float64) - 2, torch.randn(3, 5, dtype=torch.float64) - 2


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


def test_normalizer_is_the_mean_of_the_weights():
    f, log_q, _ = _inputs()
    expected = np.log((np.exp(f.numpy()) / np.exp(log_q.numpy())).mean(axis=1))
    np.testing.assert_allclose(log_normalizer(f, log_q), expected, rtol=1e-12)


def test_mlis_is_the_normalizer_less_f_of_the_true_value():
    f, log_q, _ = _inputs()
    true = torch.randn(3, dtype=torch.float64)
    torch.testing.assert_close(mlis_loss(true, f, log_q), log_normalizer(f, log_q) - true)


def test_kldis_is_the_published_sum_of_densities():
    f, log_q, log_p = (t.numpy() for t in _inputs())
    weights = np.exp(log_p) / np.exp(log_q)
    expected = np.log((np.exp(f) / np.exp(log_q)).mean(axis=1)) - (f * weights).mean(axis=1)
    np.testing.assert_allclose(kldis_loss(*_inputs_of(f, log_q, log_p)), expected, rtol=1e-12)


def _inputs_of(*arrays: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(array) for array in arrays]


# A discrete world of four values with the probabilities p. Uniform noise whose M = 4 samples are
# each of them once makes both normalizers exact, and expectations are sums.
_P = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
_UNIFORM = torch.full((4,), math.log(0.25), dtype=torch.float64)


def _expected_mlis(table: Tensor) -> Tensor:
    true = mlis_loss(table, table.expand(4, 4), _UNIFORM.expand(4, 4))
    return (_P * true).sum()


def _expected_kldis(table: Tensor) -> Tensor:
    return kldis_loss(table, _UNIFORM, _P.log())


@pytest.mark.parametrize("expected", [_expected_mlis, _expected_kldis])
def test_expected_gradient_vanishes_at_the_true_log_density_and_nowhere_else(
    expected: Callable[[Tensor], Tensor],
):
    for start, is_true in ((_P.log() + 2.5, True), (torch.zeros_like(_P), False)):
        table = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(expected(table), table)
        assert (float(gradient.abs().max()) < 1e-14) == is_true


@pytest.mark.parametrize("expected", [_expected_mlis, _expected_kldis])
def test_expected_loss_at_the_true_log_density_is_the_entropy(
    expected: Callable[[Tensor], Tensor],
):
    entropy = -(_P * _P.log()).sum()
    torch.testing.assert_close(expected(_P.log() + 2.5), entropy)


def test_losses_are_finite_at_extreme_values():
    f = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    log_q, log_p = torch.tensor([[-1e3, -5.0, 30.0]]), torch.tensor([[-1e3, -2e3, 31.0]])
    for loss in (mlis_loss(f[:, 0], f, log_q), kldis_loss(f, log_q, log_p)):
        (gradient,) = torch.autograd.grad(loss.sum(), f)
        assert bool(torch.isfinite(loss).all() & torch.isfinite(gradient).all())


def test_losses_are_differentiable_twice_in_all_arguments():
    tensors = [t.requires_grad_() for t in _inputs()]
    true = torch.randn(3, dtype=torch.float64, requires_grad=True)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(mlis_loss, (true, *tensors[:2]))
        assert check(kldis_loss, tuple(tensors))


def test_leading_axes_are_kept_and_no_boxes_cost_nothing():
    for lead in ((), (2, 3), (0,)):
        f = torch.zeros(*lead, 4)
        assert log_normalizer(f, f).shape == mlis_loss(f[..., 0], f, f).shape == lead
        assert kldis_loss(f, f, f).shape == lead


def test_shapes_that_do_not_fit_are_refused():
    f = torch.zeros(2, 4)
    with pytest.raises(ValueError, match=r"log_q must have shape \(2, 4\) like f"):
        log_normalizer(f, f[:, 1:])
    with pytest.raises(ValueError, match="M >= 1"):
        log_normalizer(f[:, :0], f[:, :0])
    with pytest.raises(ValueError, match=r"f_true must have shape \(2,\)"):
        mlis_loss(f, f, f)
    with pytest.raises(ValueError, match=r"log_p must have shape \(2, 4\) like f"):
        kldis_loss(f, f, f[:1])
