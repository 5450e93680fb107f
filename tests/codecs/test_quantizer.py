from __future__ import annotations

import math

import pytest
import torch

from ebm3d.codecs import Quantizer
from tests.oracles import label_encodings as oracle

pytestmark = pytest.mark.usefixtures("float64")

_LOWER, _UPPER = (-1.0, -0.5, 0.25), (1.0, 0.75, 3.0)


def test_label_is_the_formula_residual_by_residual():
    residuals = 2 * torch.randn(40, 3)
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


def test_ends_of_the_range_are_the_first_and_the_last_level():
    quantizer = Quantizer(_LOWER, _UPPER, 9)
    labels = quantizer.labels(torch.tensor((_LOWER, _UPPER)))
    torch.testing.assert_close(labels, torch.tensor([[0.0] * 3, [8.0] * 3]))


@pytest.mark.parametrize("far", [1e6, 1e30, math.inf])
def test_residuals_beyond_the_range_saturate(far: float):
    labels = Quantizer(_LOWER, _UPPER, 9).labels(torch.tensor([[far, -far, far]]))
    assert labels.tolist() == [[8.0, 0.0, 8.0]]


def test_saturated_are_those_beyond_the_range_and_no_others():
    quantizer = Quantizer(_LOWER, _UPPER, 9)
    residuals = torch.tensor([_LOWER, _UPPER, (-1.01, 0.76, 0.24), (0.0, 0.0, 1.0)])
    expected = [[False] * 3, [False] * 3, [True] * 3, [False] * 3]
    assert quantizer.saturated(residuals).tolist() == expected


def test_labels_are_differentiable_inside_the_range():
    quantizer = Quantizer(_LOWER, _UPPER, 9)
    residuals = torch.tensor([[0.1, 0.2, 1.0]], requires_grad=True)
    assert torch.autograd.gradcheck(quantizer.labels, (residuals,))


def test_ranges_are_no_part_of_a_checkpoint():
    assert not Quantizer(_LOWER, _UPPER, 9).state_dict()


def test_no_residuals_have_no_labels():
    assert Quantizer(_LOWER, _UPPER, 9).labels(torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("lower", "upper", "num_levels", "message"),
    [
        ((0.0, 0.0), (1.0,), 4, "upper must be 2 numbers like lower"),
        ((0.0, 1.0), (1.0, 1.0), 4, r"upper\[1\] must be above lower = 1"),
        ((0.0,), (math.nan,), 4, r"upper\[0\] must be above"),
        ((-math.inf,), (1.0,), 4, r"upper\[0\] must be above lower = -inf, both finite"),
        ((0.0,), (1.0,), 1, "num_levels must be at least 2"),
    ],
)
def test_a_range_without_levels_is_refused(
    lower: tuple[float, ...], upper: tuple[float, ...], num_levels: int, message: str
):
    with pytest.raises(ValueError, match=message):
        Quantizer(lower, upper, num_levels)


def test_residuals_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"residuals must have shape \(..., 3\)"):
        Quantizer(_LOWER, _UPPER, 9).labels(torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"labels must have shape \(..., 3\)"):
        Quantizer(_LOWER, _UPPER, 9).residuals(torch.zeros(4, 2))
