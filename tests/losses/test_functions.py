"""What every loss of tensors has in common: derivatives, leading axes, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm3d import losses

# Arguments as numbers of samples: () is a number per element, M one per sample.
_FUNCTIONS: dict[str, dict[str, tuple[int, ...]]] = {
    "confidence_loss": {"f": (5,), "targets": (5,)},
    "gaussian_nll": {"residual": (7,), "log_variance": (7,)},
    "kldis_loss": {"f": (5,), "log_q": (5,), "log_p": (5,)},
    "laplace_nll": {"residual": (7,), "log_scale": (7,)},
    "log_normalizer": {"f": (5,), "log_q": (5,)},
    "mcmc_loss": {"f_true": (), "f_samples": (5,)},
    "mlis_loss": {"f_true": (), "f": (5,), "log_q": (5,)},
    "nce_loss": {"f": (5,), "log_q": (5,)},
    "snl_loss": {"f_true": (), "f": (5,), "log_q": (5,), "log_normalizer": ()},
    "bit_cross_entropy": {"logits": (5,), "bits": (5,)},
    "soft_cross_entropy": {"scores": (5,), "soft_labels": (5,)},
}
_PER_ELEMENT = {"gaussian_nll", "laplace_nll"}
every_function = pytest.mark.parametrize("name", _FUNCTIONS)


def _inputs(name: str, *lead: int) -> dict[str, Tensor]:
    shapes = _FUNCTIONS[name].items()
    return {key: torch.rand((*lead, *shape), dtype=torch.float64) for key, shape in shapes}


def _loss(name: str) -> Callable[..., Tensor]:
    return getattr(losses, name)


@every_function
def test_derivatives_are_those_of_finite_differences(name: str):
    leaves = [value.requires_grad_() for value in _inputs(name, 2).values()]
    assert torch.autograd.gradcheck(_loss(name), leaves)
    if name != "laplace_nll":
        assert torch.autograd.gradgradcheck(_loss(name), leaves)


@every_function
@pytest.mark.parametrize("lead", [(), (2, 3), (0,)])
def test_leading_axes_are_kept_and_no_boxes_cost_nothing(name: str, lead: tuple[int, ...]):
    expected = (*lead, 7) if name in _PER_ELEMENT else lead
    assert _loss(name)(**_inputs(name, *lead)).shape == expected


@every_function
def test_shapes_that_do_not_fit_are_refused(name: str):
    inputs = _inputs(name, 2)
    refused: list[dict[str, Any]] = [
        {**inputs, key: torch.zeros(2, 4, 1)} for key in inputs if key != "f_samples"
    ]
    if "f_true" in inputs or name in ("nce_loss", "log_normalizer"):
        no_samples = {k: v[:, :0] if v.ndim == 2 else v for k, v in inputs.items()}
        refused.append(no_samples)
    for wrong in refused:
        with pytest.raises(ValueError, match="must have shape"):
            _loss(name)(**wrong)


def test_distance_penalty_has_gradients_also_of_equal_codes():
    labels = 8 * torch.rand(5, 2, dtype=torch.float64)
    codes = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: losses.code_distance_penalty(z, labels), (codes,))
    equal = torch.zeros(5, 2, 3, dtype=torch.float64, requires_grad=True)
    losses.code_distance_penalty(equal, labels).sum().backward()
    assert bool(torch.isfinite(equal.grad).all())
    with pytest.raises(ValueError, match="labels"):
        losses.code_distance_penalty(codes, labels[:, :1])
    with pytest.raises(ValueError, match="kind"):
        losses.code_smoothness_penalty(codes, "l2")
