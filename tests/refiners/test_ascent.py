"""Laws of both ascents."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ebm3d.boxes import local_offsets, wrap_to_pi
from ebm3d.refiners import GradientAscent, QuasiNewtonAscent
from tests.refiners.hills import (
    CURVATURE,
    MODE,
    MOVING_MODE,
    MOVING_SCALE,
    SCALE,
    quadratic,
    rugged,
    starts,
)

both = pytest.mark.parametrize("kind", [GradientAscent, QuasiNewtonAscent])
both_axes = pytest.mark.parametrize("axes", ["box", "world"])
with_and_without_velocity = pytest.mark.parametrize("columns", [7, 9])


@both
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    step_size=st.floats(1e-4, 10.0),
    axes=st.sampled_from(["box", "world"]),
    limit=st.none() | st.floats(0.1, 5.0),
)
def test_f_never_falls(kind: Any, seed: int, step_size: float, axes: str, limit: float | None):
    generator = torch.Generator().manual_seed(seed)
    start = MODE + torch.randn(5, 7, dtype=torch.float64, generator=generator)
    start[:, 3:6] = start[:, 3:6].abs() + 0.1
    options = {"step_scale": SCALE, "axes": axes, "max_step": limit, "max_displacement": limit}
    result = kind(6, step_size, **options)(rugged, start)
    assert bool((result.f_final >= result.f_initial).all())
    torch.testing.assert_close(result.f_initial, rugged(start))
    torch.testing.assert_close(result.f_final, rugged(result.boxes), atol=1e-9, rtol=1e-9)
    assert bool((result.boxes[:, 3:6] > 0).all())


@both
@with_and_without_velocity
def test_each_box_is_refined_alone(kind: Any, columns: int):
    start = starts(columns=columns)
    ascent = kind(6, 0.02, axes="box", step_scale=MOVING_SCALE[:columns])
    together = ascent(rugged, start)
    for row in range(8):
        alone = ascent(rugged, start[row : row + 1])
        torch.testing.assert_close(alone.boxes[0], together.boxes[row])
        torch.testing.assert_close(alone.f_final[0], together.f_final[row])


@both
def test_t_steps_take_t_plus_one_evaluations_and_t_gradients(kind: Any):
    evaluations = []

    def counting(boxes: Tensor) -> Tensor:
        evaluations.append(boxes.requires_grad)
        return rugged(boxes)

    kind(7)(counting, starts())
    assert evaluations == [True] * 7 + [False]


@both
def test_refining_works_without_gradients_around_it_and_leaves_none_behind(kind: Any):
    weight = torch.ones(7, dtype=torch.float64, requires_grad=True)
    start = starts().requires_grad_()
    before = start.detach().clone()
    with torch.no_grad():
        result = kind(3, 0.1)(lambda b: quadratic(b * weight), start)
    assert weight.grad is None
    assert start.grad is None
    assert not any(t.requires_grad for t in (result.boxes, result.f_initial, result.f_final))
    assert torch.equal(start, before)
    assert bool((result.f_final > result.f_initial).all())


@both
def test_no_steps_return_the_boxes_bit_by_bit_with_wrapped_yaw_and_no_boxes_none(kind: Any):
    far = starts(2)
    far[:, 6] += 2 * math.pi
    torch.testing.assert_close(kind(0)(quadratic, far).boxes[:, 6], wrap_to_pi(far[:, 6]))
    start = starts().float()
    result = kind(0)(quadratic, start)
    assert torch.equal(result.boxes, start)
    assert torch.equal(result.f_initial, result.f_final)
    torch.testing.assert_close(result.f_initial, quadratic(start))
    none = kind()(lambda boxes: boxes.sum(dim=1), torch.zeros(0, 7))
    assert none.boxes.shape == (0, 7)
    assert none.f_initial.shape == none.f_final.shape == none.num_accepted.shape == (0,)


def _beyond_ten(value: float) -> Callable[[Tensor], Tensor]:
    def f(boxes: Tensor) -> Tensor:
        return torch.where(boxes[:, 0] > 10, torch.full_like(boxes[:, 0], value), boxes[:, 0])

    return f


_INVALID: dict[str, Callable[[Tensor], Tensor]] = {
    "NaN in half of the space": _beyond_ten(math.nan),
    "infinite in half of the space": _beyond_ten(math.inf),
    "NaN": lambda boxes: boxes.sum(dim=1) * math.nan,
    "minus infinity": lambda boxes: boxes.sum(dim=1) * 0 - math.inf,
    "infinite slope": lambda boxes: (
        torch.sqrt((boxes[:, 0] - boxes[:, 0].detach()).abs()) + 0 * boxes.sum(dim=1)
    ),
    "cliff": lambda boxes: 1e38 * boxes.sum(dim=1),
    "steeper cliff": lambda boxes: 1e38 * boxes.square().sum(dim=1),
}


@both
@pytest.mark.parametrize("limit", [None, 3.0])
@pytest.mark.parametrize("f", _INVALID.values(), ids=_INVALID)
def test_invalid_f_never_yields_an_invalid_box(kind: Any, f: Any, limit: float | None):
    start = starts().float()
    start[:, 0] = 9.95
    result = kind(8, 0.02, max_step=limit, max_displacement=limit)(f, start)
    assert bool(torch.isfinite(result.boxes).all())
    assert bool((result.boxes[:, 3:6] > 0).all())
    moved = (result.boxes != start).any(dim=1)
    assert bool(torch.isfinite(result.f_final[moved]).all())


@both
def test_sizes_never_fall_below_the_smallest_allowed(kind: Any):
    options = {"max_step": None, "max_displacement": None, "min_size": 0.3}
    result = kind(60, 0.7, **options)(lambda boxes: -boxes[:, 3:6].sum(dim=1), starts())
    assert bool((result.boxes[:, 3:6] >= 0.3).all())
    assert bool((result.boxes[:, 3:6].amin(dim=1) < 0.4).all())


def _displacement(start: Tensor, boxes: Tensor, axes: str) -> Tensor:
    """From the start along and across, or along x and y."""
    if axes == "box":
        return local_offsets(start, boxes)
    moved = boxes - start
    moved[:, 6] = wrap_to_pi(moved[:, 6])
    return moved


@both
@both_axes
@with_and_without_velocity
def test_one_step_is_at_most_max_step_in_units_of_the_scale(kind: Any, axes: str, columns: int):
    start, scale = starts(columns=columns), MOVING_SCALE[:columns]
    options = {"step_scale": scale, "axes": axes, "max_step": 0.5, "max_displacement": None}
    result = kind(1, 1e3, **options)(lambda b: b.sum(dim=1), start)
    limit = 0.5 * torch.tensor(scale, dtype=torch.float64)
    moved = _displacement(start, result.boxes, axes)
    torch.testing.assert_close(moved.abs(), limit.expand(8, columns))


@both
@both_axes
@with_and_without_velocity
def test_displacement_is_at_most_max_displacement_in_units_of_the_scale(
    kind: Any, axes: str, columns: int
):
    start, scale = starts(columns=columns), MOVING_SCALE[:columns]
    start[:, 6] = math.pi - 0.01  # the yaw crosses pi
    ascent = kind(50, 1.0, step_scale=scale, axes=axes, max_displacement=2.0)
    slope = torch.ones(columns, dtype=torch.float64)
    slope[6] = 0
    result = ascent(lambda b: 100 * (b @ slope + torch.sin(b[:, 6] + 1.7)), start)
    moved = _displacement(start, result.boxes, axes)
    limit = 2 * torch.tensor(scale, dtype=torch.float64)
    assert bool((moved.abs() <= limit + 1e-9).all())
    torch.testing.assert_close(moved[:, 2:6], limit[2:6].expand(8, 4))


@both
@both_axes
def test_velocities_of_a_quadratic_are_climbed_to_their_maximum(kind: Any, axes: str):
    ascent = kind(60, 1.0, step_scale=MOVING_SCALE, axes=axes, max_displacement=50.0)
    result = ascent(quadratic, starts(columns=9))
    torch.testing.assert_close(result.boxes[:, 7:], MOVING_MODE[7:].expand(8, 2), atol=1e-3, rtol=0)


@both
def test_what_f_does_not_see_stays_bit_by_bit_and_the_rest_moves_as_without(kind: Any):
    start = starts(columns=9)
    options = {"axes": "box", "max_displacement": 2.0}
    moving = kind(5, 0.2, step_scale=MOVING_SCALE, **options)
    result = moving(lambda boxes: rugged(boxes[:, :7]), start)
    expected = kind(5, 0.2, step_scale=SCALE, **options)(rugged, start[:, :7])
    assert torch.equal(result.boxes[:, 7:], start[:, 7:])
    torch.testing.assert_close(result.boxes[:, :7], expected.boxes)
    assert torch.equal(result.num_accepted, expected.num_accepted)


@both
@pytest.mark.parametrize("columns", [7, 9])
def test_scale_of_other_columns_than_the_boxes_is_refused(kind: Any, columns: int):
    ascent = kind(step_scale=MOVING_SCALE[: 16 - columns])
    with pytest.raises(ValueError, match=rf"^step_scale must have shape \({columns},\)"):
        ascent(quadratic, starts(columns=columns))


@both
def test_class_picks_the_row_of_the_scale(kind: Any):
    start, rows = starts(2), [[0.5] * 7, [0.1] * 7]
    ascent = kind(1, 0.5, step_scale=rows, axes="world")
    result = ascent(quadratic, start, torch.tensor([1, 0]))
    factor = 1 - 0.5 * CURVATURE * torch.tensor([[0.01], [0.25]], dtype=torch.float64)
    torch.testing.assert_close(result.boxes, MODE + factor * (start - MODE))
    with pytest.raises(ValueError, match="labels must be given"):
        ascent(quadratic, start)


@both
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_steps", -1),
        ("step_size", 0.0),
        ("step_size", "0.1"),
        ("step_decay", 1.0),
        ("axes", "camera"),
        ("step_scale", (1.0,) * 6),
        ("step_scale", (1.0,) * 8),
        ("step_scale", "box"),
        ("max_step", 0.0),
        ("max_displacement", "3"),
        ("min_size", math.inf),
    ],
)
def test_constants_out_of_range_are_refused(kind: Any, name: str, value: Any):
    with pytest.raises(ValueError, match=name):
        kind(**{name: value})


@both
def test_invalid_boxes_and_values_are_refused(kind: Any):
    boxes = starts()
    with pytest.raises(ValueError, match=r"f\(boxes\) must have shape"):
        kind()(lambda b: None, boxes)
    with pytest.raises(ValueError, match="f must be differentiable in boxes"):
        kind()(lambda b: b.detach().sum(dim=1), boxes)
    with pytest.raises(ValueError, match="floating-point type"):
        kind()(quadratic, boxes.long())
    boxes[5, 2] = math.nan
    with pytest.raises(ValueError, match=r"boxes\[5\]"):
        kind()(quadratic, boxes)
