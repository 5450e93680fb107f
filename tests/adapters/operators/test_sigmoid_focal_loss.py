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
def test_losses_match_forty_digits(rng, gamma, dtype, tolerance):
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
def test_gradients_are_those_of_finite_differences(rng, gamma, weight):
    logits, target = rows(rng, torch.float64)
    logits = (logits / 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, target, gamma, weight), logits)


def test_rows_are_weighted_by_their_class_and_rows_of_none_by_one():
    logits, target = torch.zeros(3, 2, dtype=torch.float64), torch.tensor([0, 1, 2])
    weighted = focal_loss(logits, target, weight=(3.0, 5.0))
    expected = focal_loss(logits, target) * torch.tensor([[3.0], [5.0], [1.0]])
    torch.testing.assert_close(weighted, expected, rtol=1e-14, atol=0.0)


def test_half_precision_and_no_rows():
    logits = torch.tensor([[1.0, -2.0]])
    half = focal_loss(logits.half(), torch.tensor([0]))
    torch.testing.assert_close(half, focal_loss(logits, torch.tensor([0])).half())
    assert focal_loss(logits[:0], torch.zeros(0, dtype=torch.long)).shape == (0, 2)
