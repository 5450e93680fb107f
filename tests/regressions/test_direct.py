from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize
from torch import Tensor, nn
from torch.nn import functional

from ebm3d.regressions import DirectBoxRegression
from ebm3d.regressions.direct import huber_scale

_KINDS = ["smooth_l1", "l1", "l2"]
_BETA = 0.3


def _rho(kind: str, r: float) -> float:
    """The loss of one residual, written out."""
    if kind == "l1":
        return abs(r)
    if kind == "l2":
        return r * r / 2
    return r * r / (2 * _BETA) if abs(r) < _BETA else abs(r) - _BETA / 2


def _moments(kind: str, scale: float) -> tuple[float, float]:
    """Integrals of exp(-rho / s) and of rho exp(-rho / s), by quadrature over a half line."""
    reach = 60 * (scale + math.sqrt(scale))

    def half(weight: bool) -> float:
        def value(r: float) -> float:
            rho = _rho(kind, r)
            return (rho if weight else 1) * math.exp(-rho / scale)

        points = [p for p in (_BETA, scale, math.sqrt(scale)) if p < reach]
        return integrate.quad(value, 0, reach, points=points, limit=200)[0]

    return 2 * half(False), 2 * half(True)


def _seen(kind: str, *batches: Tensor, momentum: float = 0.01) -> DirectBoxRegression:
    """A regression that has seen batches of residuals while training."""
    regression = DirectBoxRegression(kind, beta=_BETA, momentum=momentum).double()
    for residuals in batches:
        regression.loss(residuals, torch.zeros_like(residuals))
    return regression.eval()


def _residuals(rows: int = 400) -> Tensor:
    return torch.linspace(0.05, 2, 7, dtype=torch.float64) * torch.randn(rows, 7).double()


def test_sine_of_the_difference_is_the_hosts_pair_of_sines():
    outputs, targets = torch.randn(2, 9, 7).unbind()
    pair = [torch.cat((t[:, :6], torch.zeros(9, 1)), dim=1) for t in (outputs, targets)]
    pair[0][:, 6] = torch.sin(outputs[:, 6]) * torch.cos(targets[:, 6])
    pair[1][:, 6] = torch.cos(outputs[:, 6]) * torch.sin(targets[:, 6])
    expected = functional.smooth_l1_loss(*pair, beta=1 / 9, reduction="none")
    loss = DirectBoxRegression(sin_difference=True).loss(outputs, targets)
    assert torch.equal(loss, expected)


@pytest.mark.parametrize("kind", _KINDS)
def test_density_is_unknown_until_a_target_was_seen(kind: str):
    outputs = torch.randn(4, 7)
    regression = DirectBoxRegression(kind)
    assert torch.equal(regression.density(outputs).point, outputs)
    assert bool(regression.density(outputs).log_prob(outputs).isnan().all())
    assert bool(regression.density(outputs).variance.isnan().all())
    regression.loss(outputs[:0], outputs[:0])
    assert bool(regression.scales.isnan().all())


@pytest.mark.parametrize("kind", _KINDS)
def test_density_is_the_exponential_of_the_loss(kind: str):
    regression = _seen(kind, _residuals())
    at = torch.linspace(-1, 1, 7, dtype=torch.float64)
    got = float(regression.density(torch.zeros(1, 7).double()).log_prob(at[None]))
    expected = sum(
        -_rho(kind, r) / s - math.log(_moments(kind, s)[0])
        for r, s in zip(at.tolist(), regression.scales.tolist(), strict=True)
    )
    assert got == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", _KINDS)
def test_scale_has_the_greatest_likelihood_for_the_residuals(kind: str):
    residuals = _residuals()
    scales = _seen(kind, residuals).scales.numpy()
    for scale, column in zip(scales, residuals.T.tolist(), strict=True):
        mean_loss = np.mean([_rho(kind, r) for r in column])

        def cost(log_scale: float, mean_loss: float = mean_loss) -> float:
            s = math.exp(log_scale)
            return mean_loss / s + math.log(_moments(kind, s)[0])

        middle = math.log(scale)
        best = optimize.minimize_scalar(cost, bounds=(middle - 1, middle + 1), method="bounded")
        assert best.x == pytest.approx(middle, abs=1e-4)


@pytest.mark.parametrize("ratio", [1e-4, 0.05, 0.2, 0.4, 0.6, 1.0, 3.0, 30.0, 1e3])
def test_huber_scale_makes_the_expected_loss_the_mean_loss(ratio: float):
    mean_loss = ratio * _BETA
    scale = float(huber_scale(torch.tensor(mean_loss, dtype=torch.float64), _BETA))
    mass, weighted = _moments("smooth_l1", scale)
    assert weighted / mass == pytest.approx(mean_loss, rel=1e-8)


def test_scales_are_decaying_means_over_targets():
    batches = [_residuals(rows) for rows in (10, 40, 3)]
    weights = [0.8**2, 0.8, 1.0]
    total = sum(w * b.abs().sum(0) for w, b in zip(weights, batches, strict=True))
    count = sum(w * len(b) for w, b in zip(weights, batches, strict=True))
    torch.testing.assert_close(_seen("l1", *batches, momentum=0.2).scales, total / count)
    first, batch = _seen("l1", batches[0]), batches[0].requires_grad_()
    without_targets = _seen("l1", batch, batch[:0])
    torch.testing.assert_close(without_targets.scales, first.scales)
    assert not without_targets.scales.requires_grad


def test_a_checkpoint_without_scales_is_complete_and_resets_them():
    model = nn.Sequential(nn.Linear(2, 7), DirectBoxRegression())
    model[1].loss(torch.ones(3, 7), torch.zeros(3, 7))
    stock = nn.Sequential(nn.Linear(2, 7)).state_dict()
    before = dict(stock)
    assert model.load_state_dict(stock).missing_keys == []
    assert stock.keys() == before.keys()
    assert bool(model[1].scales.isnan().all())
    assert model.load_state_dict({}, strict=False).missing_keys == ["0.weight", "0.bias"]


@pytest.mark.parametrize(
    "arguments", [dict(kind="huber"), dict(beta=0.0), dict(momentum=0.0), dict(momentum=1.5)]
)
def test_wrong_settings_are_named(arguments: dict[str, object]):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        DirectBoxRegression(**arguments)
