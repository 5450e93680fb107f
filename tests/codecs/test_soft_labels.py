from __future__ import annotations

import math

import pytest
import torch

from ebm3d.codecs import SOFT_LABELS, soft_labels
from tests.oracles.label_encodings import SOFT_LABELS as ORACLES

pytestmark = pytest.mark.usefixtures("float64")


def _expected(phi: torch.Tensor) -> torch.Tensor:
    return phi @ torch.arange(phi.shape[-1], dtype=phi.dtype)


@pytest.mark.parametrize("width", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("kind", SOFT_LABELS)
def test_soft_label_is_the_formula_level_by_level(kind: str, width: float):
    labels = torch.cat((8 * torch.rand(10), torch.tensor([0.0, 3.0, 7.5, 8.0])))
    expected = [ORACLES[kind](float(y), 9, width) for y in labels]
    torch.testing.assert_close(soft_labels(labels, 9, kind, width), torch.tensor(expected))


def test_expected_level_of_linear_labels_is_the_label_even_at_the_ends():
    labels = torch.linspace(0, 15, 61)
    torch.testing.assert_close(_expected(soft_labels(labels, 16, "linear")), labels)


@pytest.mark.parametrize(("kind", "bound"), [("laplace", 0.016), ("gaussian", 5e-8)])
def test_expected_level_is_off_by_what_is_stated(kind: str, bound: float):
    on_and_midway = torch.arange(45, 56) / 2
    torch.testing.assert_close(_expected(soft_labels(on_and_midway, 51, kind)), on_and_midway)
    labels = torch.linspace(25, 26, 101)
    error = (_expected(soft_labels(labels, 51, kind)) - labels).abs().max()
    assert bound / 2 < float(error) < bound


@pytest.mark.parametrize("kind", SOFT_LABELS)
def test_soft_labels_become_one_hot_and_are_differentiable(kind: str):
    phi = soft_labels(torch.arange(6.0), 6, kind, width=1e-2)
    torch.testing.assert_close(phi, torch.eye(6))
    labels = torch.tensor([1.3, 4.6], requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: soft_labels(y, 8, kind), (labels,))


def test_an_unknown_kind_and_a_width_that_is_not_positive_are_refused():
    with pytest.raises(ValueError, match="soft_label"):
        soft_labels(torch.zeros(1), 4, "triangular")
    for width in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="width must be positive"):
            soft_labels(torch.zeros(1), 4, "laplace", width)
