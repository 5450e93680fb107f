from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm3d.refiners import GradientAscent, QuasiNewtonAscent
from tests.refiners.hills import MODE, MOVING_MODE, SCALE, rugged, starts


def _bowl(condition: float, size: int) -> Tensor:
    """A precision of largest eigenvalue 3, no axis of which is a coordinate's."""
    generator = torch.Generator().manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))
    levels = 3.0 * torch.logspace(-math.log10(condition), 0, size, dtype=torch.float64)
    return basis @ torch.diag(levels) @ basis.T


def _quadratic(boxes: Tensor, condition: float = 10.0) -> Tensor:
    """-1/2 (y - mode)' P (y - mode)."""
    size = boxes.shape[1]
    offset = boxes - MOVING_MODE[:size].to(boxes)
    return -0.5 * torch.einsum("ni,ij,nj->n", offset, _bowl(condition, size).to(boxes), offset)


def _round(boxes: Tensor) -> Tensor:
    """A quadratic on which the first seven steps are far enough from dependent.

    The eighth step's error is rounding, amplified by how nearly dependent the seven steps are. Of
    20,000 starts in float64 the worst is 7e-6 off here, and 3e-4 at a condition of ten.
    """
    return _quadratic(boxes, condition=5.0)


def _unlimited(num_steps: int, **options: Any) -> QuasiNewtonAscent:
    return QuasiNewtonAscent(num_steps, max_step=None, max_displacement=None, **options)


@pytest.mark.parametrize("scale", [None, (1.0, 0.8, 0.7, 1.0, 0.9, 0.6, 0.8)])
def test_eighth_step_on_a_quadratic_is_exact(scale: tuple[float, ...] | None):
    result = _unlimited(8, step_size=0.3, step_scale=scale)(_round, starts())
    torch.testing.assert_close(result.boxes, MODE.expand(8, 7), atol=1e-4, rtol=0)


def test_tenth_step_on_a_quadratic_of_nine_dimensions_is_exact():
    result = _unlimited(10, step_size=0.3)(_round, starts(columns=9))
    torch.testing.assert_close(result.boxes, MOVING_MODE.expand(8, 9), atol=1e-3, rtol=0)


def test_first_step_is_that_of_gradient_ascent():
    start = starts()
    options = {"step_scale": SCALE, "axes": "box", "max_step": 0.5, "max_displacement": 2.0}
    mine = QuasiNewtonAscent(1, 0.2, **options)(rugged, start)
    plain = GradientAscent(1, 0.2, **options)(rugged, start)
    torch.testing.assert_close(mine.boxes, plain.boxes)


def test_curvature_is_learned_from_a_refused_step():
    # In one dimension the secant of a parabola is its curvature: a step ten times too long is
    # refused, halved by alpha, and the one after the next success is exact.
    def parabola(boxes: Tensor) -> Tensor:
        return -0.5 * (boxes[:, 0] - 10.0).square()

    start = starts()
    result = _unlimited(3, step_size=20.0)(parabola, start)
    expected = torch.cat((torch.full((8, 1), 10.0, dtype=torch.float64), start[:, 1:]), dim=1)
    torch.testing.assert_close(result.boxes, expected)
    assert result.num_accepted.tolist() == [2] * 8


def _beyond_ten(boxes: Tensor, value: float, gradient: float) -> Tensor:
    """A slope of one below ten; beyond, a value with a gradient."""
    x = boxes[:, 0]
    return torch.where(x > 10, value + gradient * x, x)


@pytest.mark.parametrize(
    ("value", "gradient"), [(-math.inf, 1.0), (math.nan, 0.0), (math.nan, -3.0)]
)
def test_refused_steps_get_shorter_where_nothing_is_learned(value: float, gradient: float):
    # The slope does not change, or is unknown. Refused: 1, 1/2, 1/4, 1/8; accepted: 1/16; twice as
    # far again, refused; 1/16 is too far, too.
    start = starts(1)
    start[:, 0] = 9.9
    for num_steps, expected in ((4, 9.9), (5, 9.9625), (7, 9.9625), (8, 9.99375)):
        ascent = _unlimited(num_steps, step_size=1.0, axes="world")
        result = ascent(lambda boxes: _beyond_ten(boxes, value, gradient), start)
        assert float(result.boxes[0, 0]) == pytest.approx(expected)


def test_box_whose_gradient_is_nan_learns_nothing_from_it():
    # A parabola along x; the slope across is NaN at the start, where it counts as none.
    start = starts(1)
    peak = start[:, 0] + 4
    seen: list[Tensor] = []

    def ridge(boxes: Tensor) -> Tensor:
        across = boxes[:, 1]
        if not seen:
            across.register_hook(lambda slope: slope * math.nan)
        seen.append(boxes.detach().clone())
        return 0.5 * across - 0.5 * (boxes[:, 0] - peak).square()

    _unlimited(2, step_size=0.5, axes="world")(ridge, start)
    steps = torch.cat(seen)[:, :2].diff(dim=0)
    torch.testing.assert_close(steps, torch.tensor([[2.0, 0], [1, 0.25]], dtype=torch.float64))


def test_where_the_learned_direction_does_not_climb_the_step_is_that_of_gradient_ascent():
    # A saddle that rises along x: after the first step B is the inverse of minus the Hessian there,
    # which is negative, so that B g points down, to the saddle.
    step_size, rise = 0.3, 1.7
    slopes = torch.tensor([rise, -0.4, 0, 0, 0, 0, 0], dtype=torch.float64)
    seen: list[Tensor] = []

    def saddle(boxes: Tensor) -> Tensor:
        seen.append(boxes.detach().clone())
        return 0.5 * ((boxes - MODE).square() * slopes).sum(dim=1)

    start = (MODE + torch.tensor([0.5, 0.01, 0, 0, 0, 0, 0], dtype=torch.float64))[None]
    _unlimited(2, step_size=step_size, axes="world")(saddle, start)
    assert len(seen) == 3
    for before, after in itertools.pairwise(seen):
        gradient = slopes * (before - MODE)
        torch.testing.assert_close(after, before + step_size * gradient)
