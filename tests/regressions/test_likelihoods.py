"""Gaussian and Laplace regression, and the clamp of their spreads."""

from __future__ import annotations

import math

import pytest
import torch

from ebm3d.regressions import GaussianBoxRegression, LaplaceBoxRegression
from ebm3d.regressions.outputs import clamp_inward

_BOTH = pytest.mark.parametrize("kind", [GaussianBoxRegression, LaplaceBoxRegression])


def _std(kind: type, log_spread: torch.Tensor) -> torch.Tensor:
    if kind is GaussianBoxRegression:
        return torch.exp(log_spread / 2)
    return math.sqrt(2) * torch.exp(log_spread)


@_BOTH
def test_loss_is_minus_the_log_density(kind: type):
    outputs = 4 * torch.randn(6, 14, dtype=torch.float64)
    targets = torch.randn(6, 7, dtype=torch.float64)
    log_prob = kind().density(outputs).log_prob(targets)
    torch.testing.assert_close(kind().loss(outputs, targets).sum(1), -log_prob)


@_BOTH
def test_outputs_are_locations_then_bounded_logarithms_of_spreads(kind: type):
    outputs = torch.cat((torch.arange(7.0), torch.linspace(-1, 1, 7)))[None].double()
    outputs[0, 7], outputs[0, 13] = -1e9, 1e9
    regression = kind(2.0)  # the bound
    density = regression.density(outputs)
    torch.testing.assert_close(density.point, outputs[:, :7])
    expected = _std(kind, outputs[:, 7:].clamp(-2, 2))
    torch.testing.assert_close(density.variance.sqrt(), expected)


@pytest.mark.parametrize(
    ("value", "clamped", "passed"),
    # Which slopes of the loss pass, of -3 and 3: descent must not lead further out.
    [(-5.0, -2.0, (-3, 0)), (-2.0, -2.0, (-3, 3)), (0.3, 0.3, (-3, 3)), (5.0, 2.0, (0, 3))],
)
def test_gradients_of_the_clamp_lead_inward(
    value: float, clamped: float, passed: tuple[float, float]
):
    for slope, expected in zip((-3, 3), passed, strict=True):
        values = torch.tensor([value], requires_grad=True)
        result = clamp_inward(values, 2.0)
        (slope * result).sum().backward()
        assert result.tolist() == [pytest.approx(clamped)]
        assert values.grad.tolist() == [expected]
