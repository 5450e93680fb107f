from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from ebm3d.losses import propel_loss

_V_GT = 0.09
either = pytest.mark.parametrize("joint", [True, False])
one_and_more = pytest.mark.parametrize("num_components", [1, 3])


def _inputs(num_components: int, num_dims: int, rows: int = 3) -> tuple[Tensor, ...]:
    """Target, means and log variances: components that overlap with the target and differ."""
    target = 0.5 * torch.randn(rows, num_dims, dtype=torch.float64)
    means = 0.5 * torch.randn(rows, num_components, num_dims, dtype=torch.float64)
    log_variances = torch.randn(rows, num_components, num_dims, dtype=torch.float64) - 1.5
    return target, means, log_variances


def _densities(
    point: np.ndarray, target: np.ndarray, means: np.ndarray, log_variances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values of P_gt and P_m of one box at points ``(..., D)``."""
    p_gt = stats.norm.pdf(point, target, math.sqrt(_V_GT)).prod(-1)
    components = stats.norm.pdf(point[..., None, :], means, np.exp(log_variances / 2))
    return p_gt, components.prod(-1).mean(-1)


def _integral(values: Callable[[float, float], float], box: list[np.ndarray]) -> float:
    """Integral over the line of a function of P_gt and P_m of one box with D = 1."""
    return integrate.quad(
        lambda t: values(*_densities(np.array([t]), *box)),
        -12,
        12,
        points=sorted({*box[0].tolist(), *box[1].ravel().tolist()}),
        epsabs=1e-13,
        epsrel=1e-13,
        limit=400,
    )[0]


@one_and_more
def test_closed_form_is_the_integral_in_one_dimension(num_components: int):
    inputs = _inputs(num_components, 1)
    for row, loss in enumerate(propel_loss(*inputs, _V_GT).tolist()):
        box = [t[row].numpy() for t in inputs]
        overlap = _integral(lambda p, q: p * q, box)
        norms = _integral(lambda p, q: p * p + q * q, box)
        assert loss == pytest.approx(-math.log(2 * overlap / norms), abs=1e-10)


def test_closed_form_is_the_published_sum_of_densities():
    target, means, log_variances = _inputs(3, 7)
    v_gt = torch.linspace(0.05, 0.3, 7, dtype=torch.float64)
    losses = propel_loss(target, means, log_variances, v_gt).tolist()

    def product(a: np.ndarray, v_a: np.ndarray, b: np.ndarray, v_b: np.ndarray) -> float:
        return float(stats.norm.pdf(a, b, np.sqrt(v_a + v_b)).prod())

    for row in range(3):
        y, mu, v = target[row].numpy(), means[row].numpy(), log_variances[row].exp().numpy()
        gt, size = v_gt.numpy(), 3
        numerator = sum(product(y, gt, mu[i], v[i]) for i in range(size)) * 2 / size
        squares = sum(product(mu[i], v[i], mu[j], v[j]) for i in range(size) for j in range(size))
        denominator = product(y, gt, y, gt) + squares / size**2
        expected = -math.log(numerator) + math.log(denominator)
        assert losses[row] == pytest.approx(expected, rel=1e-12)


@either
@one_and_more
def test_loss_is_zero_where_the_mixture_is_the_gaussian_of_the_target_and_positive_elsewhere(
    num_components: int, joint: bool
):
    target = torch.randn(5, 7, dtype=torch.float64)
    means = target[:, None].repeat(1, num_components, 1)
    log_variances = torch.full_like(means, math.log(_V_GT))
    loss = propel_loss(target, means, log_variances, _V_GT, joint=joint)
    torch.testing.assert_close(loss, torch.zeros_like(loss), atol=1e-14, rtol=0)
    for changed in (means, log_variances):
        for step in (-0.01, 0.01):
            changed[:, 0, 4] += step
            loss = propel_loss(target, means, log_variances, _V_GT, joint=joint)
            changed[:, 0, 4] -= step
            assert bool(((loss if joint else loss[:, 4]) > 1e-8).all())
    assert float(propel_loss(*_inputs(3, 7, rows=2000), _V_GT, joint=joint).min()) > 0


@one_and_more
@pytest.mark.parametrize("distance", [1e3, 1e6])
def test_value_and_gradient_are_finite_far_away_in_float32(num_components: int, distance: float):
    # 1e3 and 1e6 of the target's standard deviations in all seven residuals.
    target = torch.full((2, 7), distance * math.sqrt(_V_GT))
    means = torch.zeros(2, num_components, 7, requires_grad=True)
    log_variances = torch.full((2, num_components, 7), math.log(_V_GT)).requires_grad_()
    loss = propel_loss(target, means, log_variances, _V_GT)
    loss.sum().backward()
    assert float(loss[0].detach()) == pytest.approx(7 * distance**2 / 4, rel=1e-4)
    assert bool(torch.isfinite(means.grad).all() and torch.isfinite(log_variances.grad).all())
    assert float(means.grad.sum(1).max()) < 0


def test_independent_residuals_are_one_dimensional_losses():
    target, means, log_variances = _inputs(3, 4)
    variance = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    apart = [
        propel_loss(target[:, d : d + 1], means[..., d : d + 1], log_variances[..., d : d + 1], v)
        for d, v in enumerate(variance.tolist())
    ]
    loss = propel_loss(target, means, log_variances, variance, joint=False)
    torch.testing.assert_close(loss, torch.stack(apart, dim=1))


@either
@one_and_more
def test_loss_is_differentiable_in_all_arguments(num_components: int, joint: bool):
    variance = torch.tensor([0.1, 0.3], dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (*_inputs(num_components, 2), variance)]
    assert torch.autograd.gradcheck(lambda *args: propel_loss(*args, joint=joint), inputs)


@pytest.mark.parametrize(
    ("name", "shapes", "variance"),
    [
        ("target", ((3,), (3, 1, 7), (3, 1, 7)), 0.1),
        ("means", ((3, 7), (3, 0, 7), (3, 0, 7)), 0.1),
        ("log_variances", ((3, 7), (3, 2, 7), (3, 1, 7)), 0.1),
        ("target_variance", ((3, 7), (3, 1, 7), (3, 1, 7)), torch.ones(3)),
        ("target_variance", ((3, 7), (3, 1, 7), (3, 1, 7)), math.nan),
    ],
)
def test_wrong_input_is_named(
    name: str, shapes: tuple[tuple[int, ...], ...], variance: float | Tensor
):
    with pytest.raises(ValueError, match=f"{name} must"):
        propel_loss(*(torch.zeros(shape) for shape in shapes), variance)
