"""The focal loss against 40 digits, and its gradient."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.adapters.operators.calls import ops

GAMMA, ALPHA = 2.0, 0.3


def focal_loss(logits: Tensor, target: Tensor, gamma: float = GAMMA, weight: Any = ()) -> Tensor:
    """Loss of each logit."""
    factors = torch.tensor(weight, dtype=logits.dtype) if weight else None
    return ops.sigmoid_focal_loss(logits, target, gamma, ALPHA, factors, "none")


def slow_loss(logit: float, is_class: bool, gamma: float) -> float:
    """The loss in 40 digits."""
    with mpmath.workdps(40):
        probability = 1 / (1 + mpmath.exp(-mpmath.mpf(logit)))
        truth = probability if is_class else 1 - probability
        factor = ALPHA if is_class else 1 - ALPHA
        return float(-factor * (1 - truth) ** gamma * mpmath.log(truth))


def rows(rng: np.random.Generator, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logits (20, 3) up to 40 and classes, 3 for none."""
    logits = torch.from_numpy(rng.normal(size=(20, 3)) * 10).to(dtype)
    return logits, torch.from_numpy(rng.integers(0, 4, 20))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_losses_match_forty_digits(
    rng: np.random.Generator, gamma: float, dtype: torch.dtype, tolerance: float
) -> None:
    logits, target = rows(rng, dtype)
    losses = focal_loss(logits, target, gamma)
    assert losses.dtype == dtype
    expected = [
        [slow_loss(logit, int(label) == c, gamma) for c, logit in enumerate(row)]
        for row, label in zip(logits.tolist(), target, strict=True)
    ]
    np.testing.assert_allclose(losses, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("weight", [(), (0.5, 2.0, 1.0)])
@pytest.mark.parametrize("gamma", [1.5, 2.0])
def test_gradients_are_those_of_finite_differences(
    rng: np.random.Generator, gamma: float, weight: tuple[float, ...]
) -> None:
    logits, target = rows(rng, torch.float64)
    logits = (logits / 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, target, gamma, weight), logits)


def test_gradients_in_float32_are_those_in_float64(rng: np.random.Generator) -> None:
    logits, target = rows(rng, torch.float64)
    single = logits.float().requires_grad_()
    double = single.detach().double().requires_grad_()
    for values in (single, double):
        focal_loss(values, target).sum().backward()
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-6, atol=1e-6)


def test_losses_stay_exact_where_a_probability_rounds_to_one() -> None:
    """mmcv takes the logarithm of a rounded probability: 0.7 times 87.3 here, -log(FLT_MIN)."""
    losses = focal_loss(torch.tensor([[30.0, -30.0]]), torch.tensor([2]))
    assert losses[0, 0].item() == pytest.approx((1.0 - ALPHA) * 30.0, rel=1e-6)
    assert losses[0, 1].item() == pytest.approx(0.0, abs=1e-12)


def test_rows_are_weighted_by_their_class_and_rows_of_none_by_one() -> None:
    logits, target = torch.zeros(3, 2, dtype=torch.float64), torch.tensor([0, 1, 2])
    weighted = focal_loss(logits, target, weight=(3.0, 5.0))
    expected = focal_loss(logits, target) * torch.tensor([[3.0], [5.0], [1.0]])
    torch.testing.assert_close(weighted, expected, rtol=1e-14, atol=0.0)


def test_half_precision_and_no_rows() -> None:
    logits = torch.tensor([[1.0, -2.0]])
    half = focal_loss(logits.half(), torch.tensor([0]))
    torch.testing.assert_close(half, focal_loss(logits, torch.tensor([0])).half())
    assert focal_loss(logits[:0], torch.zeros(0, dtype=torch.long)).shape == (0, 2)
