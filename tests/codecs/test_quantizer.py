from __future__ import annotations

import math

import pytest
import torch

from ebm3d.codecs import Quantizer
from tests.oracles import label_encodings as oracle

pytestmark = pytest.mark.usefixtures("float64")

_LOWER, _UPPER = (-1.0, -0.5, 0.25), (1.0, 0.75, 3.0)


def test_label_is_the_formula_residual_by_residual():
    residuals = torch.cat((2 * torch.randn(40, 3), torch.tensor((_LOWER, _UPPER))))
    labels = Quantizer(_LOWER, _UPPER, 17).labels(residuals)
    expected = [
        [oracle.label(float(t), a, b, 17) for t, a, b in zip(row, _LOWER, _UPPER, strict=True)]
        for row in residuals
    ]
    torch.testing.assert_close(labels, torch.tensor(expected))


def test_residuals_of_labels_are_the_residuals_inside_the_range():
    quantizer = Quantizer(_LOWER, _UPPER, 9)
    residuals = torch.lerp(torch.tensor(_LOWER), torch.tensor(_UPPER), torch.rand(5, 6, 3))
    torch.testing.assert_close(quantizer.residuals(quantizer.labels(residuals)), residuals)
    assert quantizer.labels(torch.zeros(0, 3)).shape == (0, 3)
    assert torch.autograd.gradcheck(quantizer.labels, (residuals.requires_grad_(),))


@pytest.mark.parametrize(
    ("lower", "upper", "num_levels", "message"),
    [
        ((0.0, 0.0), (1.0,), 4, "upper"),
        ((0.0, 1.0), (1.0, 1.0), 4, r"upper\[1\]"),
        ((0.0,), (math.nan,), 4, r"upper\[0\]"),
        ((-math.inf,), (1.0,), 4, r"upper\[0\]"),
        ((0.0,), (1.0,), 1, "num_levels"),
    ],
)
def test_a_range_without_levels_is_refused(
    lower: tuple[float, ...], upper: tuple[float, ...], num_levels: int, message: str
):
    with pytest.raises(ValueError, match=message):
        Quantizer(lower, upper, num_levels)


def test_residuals_of_another_width_are_refused():
    quantizer = Quantizer(_LOWER, _UPPER, 9)
    with pytest.raises(ValueError, match="residuals must have shape"):
        quantizer.labels(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="labels must have shape"):
        quantizer.residuals(torch.zeros(4, 2))
