"""What f may give a sampler of its posterior, and what it may not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ebm3d.energy import ImportanceSamples, sample_posterior
from ebm3d.noise import BoxNoise

_BOXES = torch.tensor([[10.0, 2, -1, 4, 2, 1.5, 0.3], [20, -3, -1, 4, 2, 1.5, 3.0]]).double()


def _posterior(f: Callable[[Tensor], Tensor]) -> ImportanceSamples:
    labels = torch.zeros(2, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    return sample_posterior(f, _BOXES, labels, BoxNoise([0.1] * 7), 64, generator=generator)


def _only(count: int) -> Callable[[Tensor], Tensor]:
    """Minus infinity but at the first samples."""

    def f(boxes: Tensor) -> Tensor:
        values = -50 * (boxes - _BOXES[:, None]).square().sum(-1)
        values[:, count:] = -math.inf
        return values

    return f


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_f_that_is_no_number_at_one_sample_is_refused_with_its_box(value: float):
    def f(boxes: Tensor) -> Tensor:
        values = torch.zeros(boxes.shape[:2], dtype=boxes.dtype)
        values[1, 3] = value
        return values

    with pytest.raises(ValueError, match=r"f must be below infinity.*f\[1\].*NaN"):
        _posterior(f)


def test_f_of_minus_infinity_everywhere_is_refused():
    with pytest.raises(ValueError, match="finite at one"):
        _posterior(_only(0))


@pytest.mark.parametrize("count", [1, 3])
def test_few_samples_may_carry_all_the_weight(count: int):
    posterior = _posterior(_only(count))
    assert torch.isfinite(posterior.log_normalizer).all()
    assert (posterior.effective_sample_size <= count + 1e-9).all()


def test_f_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"f\(boxes\) must have shape \(2, 64\)"):
        _posterior(lambda boxes: boxes)


@pytest.mark.parametrize(("ratio", "share"), [(1 / 2, 0.06), (1 / 3, 0.004)])
def test_one_gaussian_keeps_the_documented_share_of_its_samples(ratio: float, share: float):
    # E[w]^2 / E[w^2] of N(0, r^2) under N(0, 1) is r sqrt(2 - r^2) in each dimension.
    assert (ratio * math.sqrt(2 - ratio**2)) ** 7 == pytest.approx(share, rel=0.1)
