from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ebm3d.refiners import GradientAscent
from tests.refiners.hills import CURVATURE, MODE, SCALE, quadratic, starts


@pytest.mark.parametrize("growth", [1.0, 2.0])
def test_quadratic_contracts_by_one_minus_step_times_curvature_a_step(growth: float):
    start = starts()
    result = GradientAscent(3, step_size=0.05, step_growth=growth)(quadratic, start)
    factor = math.prod(1 - 0.05 * growth**t * CURVATURE for t in range(3))
    torch.testing.assert_close(result.boxes, MODE + factor * (start - MODE))
    assert result.num_accepted.tolist() == [3] * 8


@pytest.mark.parametrize("axes", ["box", "world"])
@pytest.mark.parametrize("limit", [None, 1e3])
def test_each_axis_contracts_by_the_square_of_its_scale(axes: str, limit: float | None):
    start = starts()
    options = {"step_scale": SCALE, "max_step": limit, "max_displacement": limit}
    ascent = GradientAscent(4, 0.5, axes=axes, **options)
    factor = 1 - 0.5 * CURVATURE * torch.tensor(SCALE, dtype=torch.float64).square()
    error = start - MODE
    yaw = start[:, 6] if axes == "box" else torch.zeros(8, dtype=torch.float64)
    cos, sin = torch.cos(yaw), torch.sin(yaw)
    along = factor[0] ** 4 * (cos * error[:, 0] + sin * error[:, 1])
    across = factor[1] ** 4 * (cos * error[:, 1] - sin * error[:, 0])
    expected = MODE + factor**4 * error
    expected[:, 0] = MODE[0] + cos * along - sin * across
    expected[:, 1] = MODE[1] + sin * along + cos * across
    torch.testing.assert_close(ascent(quadratic, start).boxes, expected)


def test_step_shrinks_after_a_failure_and_the_box_stays():
    # |1 - step * k| = 2, then 0.5: refused once, accepted with half the step from the same place.
    start = starts()
    result = GradientAscent(num_steps=2, step_size=1.0)(quadratic, start)
    torch.testing.assert_close(result.boxes, MODE - 0.5 * (start - MODE))
    assert result.num_accepted.tolist() == [1] * 8


def test_step_of_equal_f_is_accepted_and_one_to_no_f_is_not():
    start = starts(2)
    level = GradientAscent(num_steps=3)(lambda boxes: 0.0 * boxes.sum(dim=1), start)
    assert level.num_accepted.tolist() == [3, 3]
    undefined = GradientAscent(num_steps=3)(lambda boxes: math.nan * boxes.sum(dim=1), start)
    assert torch.equal(undefined.boxes, start)
    assert undefined.num_accepted.tolist() == [0, 0]


def test_box_at_minus_infinity_may_climb_out():
    def wall(boxes: Tensor) -> Tensor:
        # The slope points out of the forbidden half space, where f is defined again.
        return boxes[:, 0] + torch.where(boxes[:, 0] > 0, 0.0, -math.inf)

    start = starts(1)
    start[:, 0] = -0.05
    result = GradientAscent(num_steps=1, step_size=0.1)(wall, start)
    assert float(result.boxes[0, 0]) == pytest.approx(0.05)
    assert float(result.f_initial) == -math.inf


def test_steps_that_do_not_grow_are_refused():
    with pytest.raises(ValueError, match="step_growth"):
        GradientAscent(step_growth=0.9)
