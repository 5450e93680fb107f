from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ebm3d.boxes import local_offsets, wrap_to_pi
from ebm3d.refiners import GradientAscent, QuasiNewtonAscent

_MODE = torch.tensor([10.0, -2.0, -1.5, 4.0, 1.8, 1.6, 0.4], dtype=torch.float64)
_SCALE = (0.5, 0.2, 0.1, 0.3, 0.15, 0.25, 0.4)


def _bowl(condition: float = 10.0) -> Tensor:
    """A precision of largest eigenvalue 3, no axis of which is a coordinate's."""
    generator = torch.Generator().manual_seed(1)
    turned, _ = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64, generator=generator))
    levels = 3.0 * torch.logspace(-math.log10(condition), 0, 7, dtype=torch.float64)
    return turned @ torch.diag(levels) @ turned.T


def _quadratic(boxes: Tensor, condition: float = 10.0) -> Tensor:
    """-1/2 (y - mode)' P (y - mode)."""
    offset = boxes - _MODE.to(boxes)
    return -0.5 * torch.einsum("ni,ij,nj->n", offset, _bowl(condition).to(boxes), offset)


def _round(boxes: Tensor) -> Tensor:
    """A quadratic on which the first seven steps are far enough from dependent.

    The eighth step's error is rounding, amplified by how nearly dependent the seven steps are. Of
    20,000 starts in float64 the worst is 7e-6 off here, and 3e-4 at a condition of ten.
    """
    return _quadratic(boxes, condition=5.0)


def _rugged(boxes: Tensor) -> Tensor:
    """Many maxima, steep, of period 2 pi in the yaw."""
    return torch.sin(40 * boxes).sum(dim=1) + 5 * torch.cos(boxes[:, 0]) * torch.cos(boxes[:, 6])


def _starts(count: int = 8) -> Tensor:
    return _MODE + 0.3 * torch.randn(count, 7, dtype=torch.float64)


def _unlimited(num_steps: int, **options: Any) -> QuasiNewtonAscent:
    return QuasiNewtonAscent(num_steps, max_step=None, max_displacement=None, **options)


@pytest.mark.parametrize("step_size", [0.25, 0.3])
def test_eighth_step_on_a_quadratic_is_exact(step_size: float):
    result = _unlimited(8, step_size=step_size)(_round, _starts())
    torch.testing.assert_close(result.boxes, _MODE.expand(8, 7), atol=1e-4, rtol=0)


def test_eighth_step_is_exact_in_any_units_and_axes():
    scale = (1.0, 0.8, 0.7, 1.0, 0.9, 0.6, 0.8)
    result = _unlimited(8, step_size=0.3, step_scale=scale)(_round, _starts())
    torch.testing.assert_close(result.boxes, _MODE.expand(8, 7), atol=1e-4, rtol=0)


def test_seventh_step_is_not_exact_and_gradient_ascent_is_far_from_it():
    result = _unlimited(7, step_size=0.3)(_quadratic, _starts())
    plain = GradientAscent(8, 0.3)(_quadratic, _starts())
    assert float((result.boxes - _MODE).abs().max()) > 1e-3
    assert float((plain.boxes - _MODE).abs().max()) > 0.1


def test_first_step_is_that_of_gradient_ascent():
    start = _starts()
    options = {"step_scale": _SCALE, "axes": "box", "max_step": 0.5, "max_displacement": 2.0}
    mine = QuasiNewtonAscent(1, 0.2, **options)(_rugged, start)
    plain = GradientAscent(1, 0.2, **options)(_rugged, start)
    torch.testing.assert_close(mine.boxes, plain.boxes)


def test_refused_step_teaches_the_curvature_along_it():
    # In one dimension the secant of a parabola is its curvature: a step ten times too long is
    # refused, halved by alpha, and the one after the next success is exact.
    def parabola(boxes: Tensor) -> Tensor:
        return -0.5 * (boxes[:, 0] - 10.0).square()

    start = _starts()
    result = _unlimited(3, step_size=20.0)(parabola, start)
    expected = torch.cat((torch.full((8, 1), 10.0, dtype=torch.float64), start[:, 1:]), dim=1)
    torch.testing.assert_close(result.boxes, expected)
    assert result.num_accepted.tolist() == [2] * 8


def test_refused_steps_get_shorter_where_they_teach_nothing():
    def wall(boxes: Tensor) -> Tensor:
        # The slope is one everywhere: its change says nothing, f does.
        return boxes[:, 0] + torch.where(boxes[:, 0] < 10, 0.0, -math.inf)

    start = _starts(1)
    start[:, 0] = 9.9
    options = {"step_size": 1.0, "axes": "world"}
    # Refused: 1, 1/2, 1/4, 1/8; accepted: 1/16; twice as far again, refused; 1/16 is too far, too.
    for num_steps, expected in ((4, 9.9), (5, 9.9625), (7, 9.9625), (8, 9.99375)):
        result = _unlimited(num_steps, **options)(wall, start)
        assert float(result.boxes[0, 0]) == pytest.approx(expected)


def _undefined_beyond(boxes: Tensor, gradient: float) -> Tensor:
    """A slope of one below ten; beyond, f is NaN, with a gradient that is none of f."""
    x = boxes[:, 0]
    beyond = math.nan * torch.ones_like(x) + gradient * x
    return torch.where(x > 10, beyond, x)


@pytest.mark.parametrize("gradient", [0.0, -3.0])
def test_refused_step_to_where_f_is_no_number_teaches_nothing(gradient: float):
    # As behind the wall: 1, 1/2, 1/4, 1/8 are refused, 1/16 is not. A curvature learned from a
    # gradient that is none would shorten the steps once more.
    start = _starts(1)
    start[:, 0] = 9.9
    for num_steps, expected in ((4, 9.9), (5, 9.9625), (7, 9.9625), (8, 9.99375)):
        ascent = _unlimited(num_steps, step_size=1.0, axes="world")
        result = ascent(lambda boxes: _undefined_beyond(boxes, gradient), start)
        assert float(result.boxes[0, 0]) == pytest.approx(expected)


def test_box_whose_own_gradient_is_no_number_learns_nothing_from_it():
    # A parabola along x; the slope across is told as NaN at the start, where it counts as none.
    start = _starts(1)
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
    # A saddle that rises along x: the first step teaches B the inverse of minus the Hessian there,
    # which is negative, so that B g points down, to the saddle.
    step_size, rise = 0.3, 1.7
    slopes = torch.tensor([rise, -0.4, 0, 0, 0, 0, 0], dtype=torch.float64)
    center = _MODE
    seen: list[Tensor] = []

    def saddle(boxes: Tensor) -> Tensor:
        seen.append(boxes.detach().clone())
        return 0.5 * ((boxes - center).square() * slopes).sum(dim=1)

    start = (center + torch.tensor([0.5, 0.01, 0, 0, 0, 0, 0], dtype=torch.float64))[None]
    _unlimited(2, step_size=step_size, axes="world")(saddle, start)
    assert len(seen) == 3
    for before, after in itertools.pairwise(seen):
        gradient = slopes * (before - center)
        torch.testing.assert_close(after, before + step_size * gradient)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    step_size=st.floats(1e-4, 10.0),
    axes=st.sampled_from(["box", "world"]),
    limit=st.none() | st.floats(0.1, 5.0),
)
def test_f_never_falls(seed: int, step_size: float, axes: str, limit: float | None):
    start = _MODE + torch.randn(
        5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    start[:, 3:6] = start[:, 3:6].abs() + 0.1
    ascent = QuasiNewtonAscent(6, step_size, 0.5, _SCALE, axes, limit, limit)
    result = ascent(_rugged, start)
    assert bool((result.f_final >= result.f_initial).all())
    torch.testing.assert_close(result.f_final, _rugged(result.boxes), atol=1e-9, rtol=1e-9)
    assert bool((result.boxes[:, 3:6] > 0).all())


def test_each_box_is_refined_alone():
    start = _starts()
    ascent = QuasiNewtonAscent(6, step_scale=_SCALE)
    together = ascent(_rugged, start)
    for row in range(8):
        alone = ascent(_rugged, start[row : row + 1])
        torch.testing.assert_close(alone.boxes[0], together.boxes[row])


def test_t_steps_take_t_plus_one_evaluations_and_t_gradients():
    evaluations = []

    def counting(boxes: Tensor) -> Tensor:
        evaluations.append(boxes.requires_grad)
        return _rugged(boxes)

    QuasiNewtonAscent(7)(counting, _starts())
    assert evaluations == [True] * 7 + [False]


@pytest.mark.parametrize("axes", ["box", "world"])
def test_whole_way_is_at_most_max_displacement_in_units_of_the_scale(axes: str):
    start = _starts()
    start[:, 6] = math.pi - 0.01  # the way crosses the seam of the yaw
    ascent = QuasiNewtonAscent(50, 1.0, step_scale=_SCALE, axes=axes, max_displacement=2.0)
    result = ascent(lambda b: 100 * (b[:, :6].sum(dim=1) + torch.sin(b[:, 6] + 1.7)), start)
    yaw = wrap_to_pi(result.boxes[:, 6:] - start[:, 6:])
    shift = torch.cat((result.boxes[:, :6] - start[:, :6], yaw), dim=1)
    moved = local_offsets(start, result.boxes) if axes == "box" else shift
    limit = 2 * torch.tensor(_SCALE, dtype=torch.float64)
    assert bool((moved.abs() <= limit + 1e-9).all())
    torch.testing.assert_close(moved[:, 2:6], limit[2:6].expand(8, 4))


def _nowhere(boxes: Tensor) -> Tensor:
    return boxes.sum(dim=1) * math.nan


def _undefined_right_of_ten(boxes: Tensor) -> Tensor:
    return torch.where(boxes[:, 0] > 10, torch.full_like(boxes[:, 0], math.nan), boxes[:, 0])


def _cliff(boxes: Tensor) -> Tensor:
    return 1e38 * boxes.square().sum(dim=1)


@pytest.mark.parametrize("f", [_nowhere, _undefined_right_of_ten, _cliff])
@pytest.mark.parametrize("limit", [None, 3.0])
def test_unsound_f_never_yields_an_unsound_box(f: Any, limit: float | None):
    start = _starts().float()
    start[:, 0] = 9.95
    ascent = QuasiNewtonAscent(8, 0.02, max_step=limit, max_displacement=limit)
    result = ascent(f, start)
    assert bool(torch.isfinite(result.boxes).all())
    assert bool((result.boxes[:, 3:6] > 0).all())


def test_ascent_within_the_limits_of_another_is_that_made_with_them():
    limits = {"step_scale": _SCALE, "axes": "box", "max_step": 0.3, "max_displacement": 0.7}
    plain = GradientAscent(5, 0.2, 0.6, 1.2)
    boxes = _starts()
    found = plain.within_limits_of(QuasiNewtonAscent(3, **limits))(_rugged, boxes).boxes
    expected = GradientAscent(5, 0.2, 0.6, 1.2, **limits)(_rugged, boxes).boxes
    assert torch.equal(found, expected)
    assert not torch.equal(plain(_rugged, boxes).boxes, expected)


def test_no_boxes_are_refined_to_no_boxes_and_no_steps_return_the_boxes():
    none = QuasiNewtonAscent()(lambda boxes: boxes.sum(dim=1), torch.zeros(0, 7))
    assert none.boxes.shape == (0, 7)
    start = _starts().float()
    assert torch.equal(QuasiNewtonAscent(0)(_quadratic, start).boxes, start)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype):
    result = QuasiNewtonAscent(3, step_scale=_SCALE)(_quadratic, _starts().to(dtype))
    assert result.boxes.dtype == result.f_final.dtype == dtype


def test_class_picks_the_row_of_the_scale():
    start, rows = _starts(2), [[0.5] * 7, [0.1] * 7]
    labels = torch.tensor([1, 0])
    result = QuasiNewtonAscent(1, 0.3, step_scale=rows, axes="world")(_quadratic, start, labels)
    gradient = -(start - _MODE) @ _bowl()
    expected = start + 0.3 * torch.tensor([[0.01], [0.25]], dtype=torch.float64) * gradient
    torch.testing.assert_close(result.boxes, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": -1}, "num_steps"),
        ({"step_size": 0.0}, "step_size"),
        ({"step_size": math.nan}, "step_size"),
        ({"step_decay": 1.0}, "step_decay"),
        ({"axes": "camera"}, "axes"),
        ({"step_scale": (1.0,) * 6}, "step_scale"),
        ({"max_step": 0.0}, "max_step"),
        ({"num_steps": 2.5}, "num_steps must be at least 0, a whole number"),
        ({"step_size": "0.1"}, "step_size"),
        ({"step_decay": None}, "step_decay"),
        ({"step_scale": "box"}, "step_scale"),
        ({"max_displacement": "3"}, "max_displacement must be positive, or None"),
        ({"min_size": math.inf}, "min_size must be positive and finite"),
    ],
)
def test_constants_out_of_range_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        QuasiNewtonAscent(**options)


def test_boxes_of_whole_numbers_are_refused():
    boxes = torch.ones(2, 7, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"floating-point type, .* pass boxes\.float\(\)"):
        QuasiNewtonAscent()(lambda b: b.sum(dim=1), boxes)


def test_f_that_gives_no_tensor_is_refused():
    with pytest.raises(ValueError, match=r"f\(boxes\) must have shape .* but got NoneType"):
        QuasiNewtonAscent()(lambda b: None, torch.ones(2, 7))
