from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from ebm3d.energy.posterior import adapted_gaussian, flattening


def _effective_size(log_w: Tensor, power: float) -> float:
    weights = np.exp(power * (log_w - log_w.max()).numpy())
    return float(weights.sum() ** 2 / (weights**2).sum())


@pytest.mark.parametrize("spread", [10.0, 30.0, 1000.0])
def test_power_is_where_the_effective_size_crosses_the_target(spread: float):
    log_w = spread * torch.randn(6, 64, dtype=torch.float64) - 500
    beta = flattening(log_w, 8.0)[:, 0]
    expected = [brentq(lambda b, w=w: _effective_size(w, b) - 8, 1e-9, 1) for w in log_w]
    below = torch.tensor(expected, dtype=torch.float64) - beta
    assert bool(((below >= -1e-12) & (below < 2**-20 + 1e-12)).all())


def test_even_weights_are_not_changed():
    log_w = 0.1 * torch.randn(3, 64, dtype=torch.float64)
    torch.testing.assert_close(flattening(log_w, 8.0), log_w.new_full((3, 1), 1 - 2**-20))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_of_no_weight_keep_none(dtype: torch.dtype):
    log_w = torch.full((1, 64), -math.inf, dtype=dtype)
    log_w[0, :10] = 40 * torch.randn(10, dtype=dtype)
    alone = flattening(log_w[:, :10], 8.0)
    torch.testing.assert_close(flattening(log_w, 8.0), alone)
    residuals = torch.randn(1, 64, 7, dtype=dtype)
    gaussian = adapted_gaussian(log_w, residuals)
    beyond = adapted_gaussian(log_w, torch.cat((residuals[:, :10], 9 + residuals[:, 10:]), dim=1))
    assert bool(torch.isfinite(gaussian.scale_tril).all())
    torch.testing.assert_close(gaussian.location, beyond.location)
    torch.testing.assert_close(gaussian.scale_tril, beyond.scale_tril)


def test_moments_are_those_of_the_flattened_weights_a_little_wider():
    log_w = 20 * torch.randn(3, 64, dtype=torch.float64)
    residuals = torch.randn(3, 64, 7, dtype=torch.float64)
    gaussian = adapted_gaussian(log_w, residuals)
    for row in range(3):
        power = float(flattening(log_w, 8.0)[row])
        weights = np.exp(power * (log_w[row] - log_w[row].max()).numpy())
        mean = np.average(residuals[row].numpy(), axis=0, weights=weights)
        covariance = np.cov(residuals[row].numpy().T, aweights=weights, ddof=0)
        np.testing.assert_allclose(gaussian.mean[row], mean, rtol=1e-10)
        expected = 1.44 * covariance + 1e-4 * np.eye(7)
        np.testing.assert_allclose(gaussian.covariance[row], expected, rtol=1e-9, atol=1e-12)
