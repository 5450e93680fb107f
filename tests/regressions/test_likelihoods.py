"""Gaussian and Laplace regression: the loss is the likelihood of the density."""

from __future__ import annotations

import math

import pytest
import torch

from ebm3d.regressions import GaussianBoxRegression, LaplaceBoxRegression

_BOTH = pytest.mark.parametrize("kind", [GaussianBoxRegression, LaplaceBoxRegression])


@_BOTH
def test_loss_is_minus_the_log_density(kind: type):
    outputs = 4 * torch.randn(6, 14, dtype=torch.float64)
    targets = torch.randn(6, 7, dtype=torch.float64)
    log_prob = kind().density(outputs).log_prob(targets)
    torch.testing.assert_close(kind().loss(outputs, targets).sum(1), -log_prob)


@_BOTH
def test_outputs_are_locations_then_logarithms_of_spreads(kind: type):
    outputs = torch.zeros(1, 14, dtype=torch.float64)
    outputs[0, :7] = torch.arange(7)
    outputs[0, 7:] = torch.linspace(-1, 1, 7)
    density = kind().density(outputs)
    spread = outputs[:, 7:]
    variance = spread.exp() if kind is GaussianBoxRegression else 2 * (2 * spread).exp()
    torch.testing.assert_close(density.point, outputs[:, :7])
    torch.testing.assert_close(density.variance, variance)


@pytest.mark.parametrize(
    ("regression", "std"),
    [
        (GaussianBoxRegression(max_log_variance=4.0), math.exp(2)),
        (LaplaceBoxRegression(max_log_scale=2.0), math.sqrt(2) * math.exp(2)),
    ],
)
def test_spread_is_bounded(regression: torch.nn.Module, std: float):
    outputs = torch.full((1, 14), 1e9)
    outputs[0, 7] = -1e9
    spread = regression.density(outputs).variance[0].sqrt()
    expected = torch.full((7,), std)
    if isinstance(regression, GaussianBoxRegression):
        expected[0] = math.exp(-2)
    else:
        expected[0] = math.sqrt(2) * math.exp(-2)
    torch.testing.assert_close(spread, expected)


@_BOTH
@pytest.mark.parametrize("start", [-30.0, 30.0])
def test_a_spread_out_of_bounds_finds_its_way_back(kind: type, start: float):
    outputs = torch.zeros(2, 14, dtype=torch.float64)
    outputs[:, 7:] = start
    outputs.requires_grad_()
    targets = torch.tensor([[-0.5], [0.5]], dtype=torch.float64).expand(2, 7)
    optimizer = torch.optim.Adam([outputs], lr=0.3, betas=(0.9, 0.9))
    for _ in range(300):
        optimizer.zero_grad()
        # A location that does not move: only the spread can answer.
        loss = kind().loss(torch.cat((0 * outputs[:, :7], outputs[:, 7:]), dim=1), targets)
        loss.sum().backward()
        optimizer.step()
    best = math.log(0.25) if kind is GaussianBoxRegression else math.log(0.5)
    torch.testing.assert_close(
        outputs.detach()[:, 7:], torch.full((2, 7), best).double(), atol=0.05, rtol=0
    )
