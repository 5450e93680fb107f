"""What every box regression promises, whatever it represents."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from ebm3d.densities import Density
from ebm3d.regressions import (
    BinnedBoxRegression,
    BoxRegression,
    DirectBoxRegression,
    GaussianBoxRegression,
    LaplaceBoxRegression,
    PROPELBoxRegression,
)
from tests.regressions.examples import CLASSES, EXAMPLES, LEARN_A_SPREAD

# Ranges of the regressions by levels; half of them for the sizes.
_REACH = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 1.5])


@pytest.fixture(params=EXAMPLES, name="name")
def _name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(name="regression")
def _regression(name: str) -> BoxRegression:
    return EXAMPLES[name]().double()


def _inputs(regression: BoxRegression, rows: int = 5) -> tuple[Tensor, Tensor]:
    outputs = torch.randn(rows, regression.num_outputs, dtype=torch.float64)
    return outputs, _REACH * (1.6 * torch.rand(rows, 7, dtype=torch.float64) - 0.8)


def _trained(regression: BoxRegression) -> BoxRegression:
    """The regression after a training step, so that scales it estimates are known."""
    regression.loss(*_inputs(regression))
    return regression.eval()


def test_every_regression_is_an_example():
    assert {type(make()) for make in EXAMPLES.values()} == set(CLASSES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [0, 5])
def test_shapes_and_types_of_loss_and_density(name: str, dtype: torch.dtype, rows: int):
    regression = _trained(EXAMPLES[name]().double()).to(dtype)
    outputs, targets = (t.to(dtype) for t in _inputs(regression, rows))
    outputs.requires_grad_()
    before = outputs.detach().clone(), targets.clone()
    loss = regression.loss(outputs, targets)
    loss.sum().backward()
    assert loss.shape in ((rows, 7), (rows, 1))
    density = regression.density(outputs.detach())
    per_residual = (density.point, density.mean, density.variance, density.cdf(targets))
    assert len(density) == rows
    assert {value.shape for value in per_residual} == {(rows, 7)}
    assert density.log_prob(targets).shape == (rows,)
    assert {v.dtype for v in (loss, *per_residual, density.log_prob(targets))} == {dtype}
    assert bool(torch.isfinite(density.log_prob(targets)).all())
    assert bool((density.variance > 0).all())
    assert torch.equal(outputs, before[0])
    assert torch.equal(targets, before[1])


def test_rows_do_not_know_each_other(regression: BoxRegression):
    outputs, targets = _inputs(_trained(regression))
    loss, density = regression.loss(outputs, targets), regression.density(outputs)
    for row in range(5):
        one = slice(row, row + 1)
        alone = regression.density(outputs[one])
        torch.testing.assert_close(regression.loss(outputs[one], targets[one]), loss[one])
        torch.testing.assert_close(alone.log_prob(targets[one]), density.log_prob(targets)[one])
        torch.testing.assert_close(alone.point, density.point[one])


def test_loss_is_differentiable_in_every_output(regression: BoxRegression):
    outputs, targets = _inputs(regression)
    outputs.requires_grad_()
    regression.loss(outputs, targets).sum().backward()
    assert bool((outputs.grad != 0).any(dim=0).all())
    regression.eval()
    two = outputs.detach()[:2].requires_grad_()
    assert torch.autograd.gradcheck(lambda o: regression.loss(o, targets[:2]), (two,))


@pytest.mark.parametrize("distance", [1e2, 1e6])
@pytest.mark.parametrize("spread", [0.01, 1e3])
def test_loss_and_gradient_are_finite_far_out_of_range(name: str, distance: float, spread: float):
    regression = EXAMPLES[name]()
    targets = torch.full((4, 7), distance)
    targets[::2] *= -1
    outputs = (spread * torch.randn(4, regression.num_outputs)).requires_grad_()
    loss = regression.loss(outputs, targets)
    loss.sum().backward()
    assert bool(torch.isfinite(loss).all())
    assert bool(torch.isfinite(outputs.grad).all())


def test_evaluation_changes_no_state_and_a_checkpoint_restores_it(
    name: str, regression: BoxRegression
):
    outputs, targets = _inputs(_trained(regression))
    before = deepcopy(regression.state_dict())
    loss, log_prob = (
        regression.loss(outputs, targets),
        regression.density(outputs).log_prob(targets),
    )
    restored = EXAMPLES[name]().double().eval()
    restored.load_state_dict(before)
    assert torch.equal(restored.loss(outputs, targets), loss)
    assert torch.equal(restored.density(outputs).log_prob(targets), log_prob)
    after = regression.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_wrong_shapes_are_named(regression: BoxRegression):
    outputs, targets = _inputs(regression)
    with pytest.raises(ValueError, match="outputs must have shape"):
        regression.loss(outputs[:, 1:], targets)
    with pytest.raises(ValueError, match="outputs must have shape"):
        regression.density(outputs[0])
    for wrong in (targets[:, :6], targets[:3]):
        with pytest.raises(ValueError, match=r"targets must have shape \(5, 7\)"):
            regression.loss(outputs, wrong)


def _fit(regression: BoxRegression, targets: Tensor) -> Density:
    """The density for all targets after 300 steps from a stock initialization."""
    # Steps of more than a standard deviation would throw PROPEL's components out of reach.
    rate = 0.01 if getattr(regression, "num_components", 1) > 1 else 0.1
    outputs = nn.Parameter(0.01 * torch.randn(1, regression.num_outputs, dtype=torch.float64))
    optimizer = torch.optim.Adam([outputs, *regression.parameters()], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    for _ in range(300):
        optimizer.zero_grad()
        regression.loss(outputs.expand(len(targets), -1), targets).mean(0).sum().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return regression.eval().density(outputs.detach())


def test_a_constant_target_is_learned(name: str, regression: BoxRegression):
    targets = _REACH * torch.tensor([[0.15, -0.09, 0.06, 0.04, -0.18, 0.12, -0.1]]).double()
    point = _fit(regression, targets).point
    # Decoders of whole levels are off by up to half a level, of 63 (unary: 64) in the range.
    rounding = 1 / 63 if name in ("bel-ce", "bel-counted") else 0
    assert bool(((point - targets).abs() < _REACH * rounding + 0.01).all())


@pytest.mark.parametrize("name", LEARN_A_SPREAD)
def test_mean_and_spread_of_gaussian_targets_are_learned(name: str):
    # Soft labels and the Gaussian around PROPEL's targets widen what is learned by up to a tenth;
    # a Laplace density has sqrt(2) the mean absolute residual, 13 % more than a Gaussian.
    regression = EXAMPLES[name]().double()
    mean = _REACH * torch.tensor([0.2, -0.1, 0.0, 0.1, -0.2, 0.3, -0.15]).double()
    targets = mean + 0.2 * _REACH * torch.randn(256, 7, dtype=torch.float64)
    density = _fit(regression, targets)
    std = targets.std(dim=0)
    assert bool(((density.mean[0] - targets.mean(0)).abs() < 0.2 * std).all())
    assert bool(((density.variance[0].sqrt() / std - 1).abs() < 0.25).all())


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_weight_out_of_range_is_refused(name: str, value: float):
    with pytest.raises(ValueError, match="loss_weight must be at least 0 and finite"):
        type(EXAMPLES[name]())(loss_weight=value)


@pytest.mark.parametrize(
    ("make", "constant"),
    [
        (DirectBoxRegression, "beta"),
        (GaussianBoxRegression, "max_log_variance"),
        (LaplaceBoxRegression, "max_log_scale"),
        (PROPELBoxRegression, "max_log_variance"),
        (PROPELBoxRegression, "target_std"),
        (BinnedBoxRegression, "width"),
    ],
)
@pytest.mark.parametrize("value", [0.0, math.nan])
def test_constant_that_is_not_positive_and_finite_is_refused(
    make: type[BoxRegression], constant: str, value: float
):
    with pytest.raises(ValueError, match=f"{constant} must be positive and finite"):
        make(**{constant: value})
