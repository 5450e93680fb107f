from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ebm3d.boxes import local_offsets, wrap_to_pi
from ebm3d.refiners import GradientAscent

_CURVATURE = 3.0
_MODE = torch.tensor([10.0, -2.0, -1.5, 4.0, 1.8, 1.6, 0.4], dtype=torch.float64)
_SCALE = (0.5, 0.2, 0.1, 0.3, 0.15, 0.25, 0.4)


def _quadratic(boxes: Tensor) -> Tensor:
    """-k / 2 |y - mode|^2."""
    return -0.5 * _CURVATURE * (boxes - _MODE.to(boxes)).square().sum(dim=1)


def _rugged(boxes: Tensor) -> Tensor:
    """Many maxima, steep, of period 2 pi in the yaw."""
    return torch.sin(40 * boxes).sum(dim=1) + 5 * torch.cos(boxes[:, 0]) * torch.cos(boxes[:, 6])


def _starts(count: int = 8) -> Tensor:
    return _MODE + 0.3 * torch.randn(count, 7, dtype=torch.float64)


def test_quadratic_contracts_by_one_minus_step_times_curvature_a_step():
    start = _starts()
    result = GradientAscent(num_steps=6, step_size=0.1)(_quadratic, start)
    expected = _MODE + (1 - 0.1 * _CURVATURE) ** 6 * (start - _MODE)
    torch.testing.assert_close(result.boxes, expected)
    assert result.num_accepted.tolist() == [6] * 8


@pytest.mark.parametrize("limit", [None, 1e3])
def test_step_scale_contracts_each_dimension_by_its_own_square(limit: float | None):
    start = _starts()
    ascent = GradientAscent(
        num_steps=4, step_size=0.5, step_scale=_SCALE, max_step=limit, max_displacement=limit
    )
    factor = 1 - 0.5 * _CURVATURE * torch.tensor(_SCALE, dtype=torch.float64).square()
    expected = _MODE + factor**4 * (start - _MODE)
    torch.testing.assert_close(ascent(_quadratic, start).boxes, expected)


@pytest.mark.parametrize("limit", [None, 1e3])
def test_box_axes_contract_along_and_across_by_their_own_squares(limit: float | None):
    start = _starts()
    ascent = GradientAscent(
        num_steps=4, step_size=0.5, step_scale=_SCALE, axes="box", max_displacement=limit
    )
    factor = 1 - 0.5 * _CURVATURE * torch.tensor(_SCALE, dtype=torch.float64).square()
    error = start - _MODE
    cos, sin = torch.cos(start[:, 6]), torch.sin(start[:, 6])
    along = factor[0] ** 4 * (cos * error[:, 0] + sin * error[:, 1])
    across = factor[1] ** 4 * (cos * error[:, 1] - sin * error[:, 0])
    expected = _MODE + factor**4 * error
    expected[:, 0] = _MODE[0] + cos * along - sin * across
    expected[:, 1] = _MODE[1] + sin * along + cos * across
    torch.testing.assert_close(ascent(_quadratic, start).boxes, expected)


def test_step_grows_after_a_success():
    start = _starts()
    result = GradientAscent(num_steps=3, step_size=0.05, step_growth=2.0)(_quadratic, start)
    factor = math.prod(1 - 0.05 * 2**t * _CURVATURE for t in range(3))
    torch.testing.assert_close(result.boxes, _MODE + factor * (start - _MODE))


def test_step_shrinks_after_a_failure_and_the_box_stays():
    # |1 - step * k| = 2, then 0.5: refused once, accepted with half the step from the same place.
    start = _starts()
    result = GradientAscent(num_steps=2, step_size=1.0)(_quadratic, start)
    torch.testing.assert_close(result.boxes, _MODE - 0.5 * (start - _MODE))
    assert result.num_accepted.tolist() == [1] * 8


def test_step_of_equal_f_is_accepted():
    def level(boxes: Tensor) -> Tensor:
        return 0.0 * boxes.sum(dim=1)

    result = GradientAscent(num_steps=3)(level, _starts(2))
    assert result.num_accepted.tolist() == [3, 3]


def test_many_steps_reach_the_mode():
    result = GradientAscent(num_steps=100, step_size=0.2)(_quadratic, _starts())
    torch.testing.assert_close(result.boxes, _MODE.expand(8, 7))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    step_size=st.floats(1e-4, 10.0),
    axes=st.sampled_from(["box", "world"]),
    growth=st.floats(1.0, 3.0),
    limit=st.none() | st.floats(0.1, 5.0),
)
def test_ascent_never_lowers_f(
    seed: int, step_size: float, axes: str, growth: float, limit: float | None
):
    start = _MODE + torch.randn(
        5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    start[:, 3:6] = start[:, 3:6].abs() + 0.1
    ascent = GradientAscent(5, step_size, 0.5, growth, _SCALE, axes, limit, limit)
    result = ascent(_rugged, start)
    assert bool((result.f_final >= result.f_initial).all())
    torch.testing.assert_close(result.f_initial, _rugged(start))
    torch.testing.assert_close(result.f_final, _rugged(result.boxes), atol=1e-9, rtol=1e-9)
    assert bool((result.boxes[:, 3:6] > 0).all())


def test_no_steps_return_the_boxes_bit_by_bit():
    start = _starts().float()
    result = GradientAscent(num_steps=0)(_quadratic, start)
    assert torch.equal(result.boxes, start)
    assert torch.equal(result.f_initial, result.f_final)
    torch.testing.assert_close(result.f_initial, _quadratic(start))


def test_yaw_of_the_result_is_wrapped():
    start = _starts(2)
    start[:, 6] += 2 * math.pi
    result = GradientAscent(num_steps=0)(_quadratic, start)
    torch.testing.assert_close(result.boxes[:, 6], wrap_to_pi(start[:, 6]))


def test_each_box_is_refined_alone():
    start = _starts()
    ascent = GradientAscent(num_steps=5, step_size=0.02, axes="box", step_scale=_SCALE)
    together = ascent(_rugged, start)
    for row in range(8):
        alone = ascent(_rugged, start[row : row + 1])
        torch.testing.assert_close(alone.boxes[0], together.boxes[row])
        torch.testing.assert_close(alone.f_final[0], together.f_final[row])


def test_t_steps_take_t_plus_one_evaluations_and_t_gradients():
    evaluations = []

    def counting(boxes: Tensor) -> Tensor:
        evaluations.append(boxes.requires_grad)
        return _rugged(boxes)

    GradientAscent(num_steps=10)(counting, _starts())
    assert evaluations == [True] * 10 + [False]


def test_refining_works_without_gradients_around_it_and_leaves_none_behind():
    weight = torch.ones(7, dtype=torch.float64, requires_grad=True)
    start = _starts().requires_grad_()
    before = start.detach().clone()
    with torch.no_grad():
        result = GradientAscent(3, 0.1)(lambda b: _quadratic(b * weight), start)
    assert weight.grad is None
    assert start.grad is None
    assert not any(t.requires_grad for t in (result.boxes, result.f_initial, result.f_final))
    assert torch.equal(start, before)
    assert bool((result.f_final > result.f_initial).all())


def test_no_boxes_are_refined_to_no_boxes():
    result = GradientAscent()(lambda boxes: boxes.sum(dim=1), torch.zeros(0, 7))
    assert result.boxes.shape == (0, 7)
    assert result.f_initial.shape == result.f_final.shape == result.num_accepted.shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype):
    ascent = GradientAscent(2, 0.1, step_scale=_SCALE, axes="box", max_step=1.0)
    result = ascent(_quadratic, _starts().to(dtype))
    assert result.boxes.dtype == result.f_final.dtype == dtype


def _undefined_right_of_ten(boxes: Tensor) -> Tensor:
    f = boxes[:, 0].clone()
    return torch.where(boxes[:, 0] > 10, torch.full_like(f, math.nan), f)


def _infinite_right_of_ten(boxes: Tensor) -> Tensor:
    f = boxes[:, 0].clone()
    return torch.where(boxes[:, 0] > 10, torch.full_like(f, math.inf), f)


def _nowhere(boxes: Tensor) -> Tensor:
    return boxes.sum(dim=1) * math.nan


def _minus_infinity(boxes: Tensor) -> Tensor:
    return boxes.sum(dim=1) * 0 - math.inf


def _undefined_slope(boxes: Tensor) -> Tensor:
    return torch.sqrt((boxes[:, 0] - boxes[:, 0].detach()).abs()) + 0 * boxes.sum(dim=1)


def _cliff(boxes: Tensor) -> Tensor:
    return 1e38 * boxes.sum(dim=1)


@pytest.mark.parametrize(
    "f",
    [
        _undefined_right_of_ten,
        _infinite_right_of_ten,
        _nowhere,
        _minus_infinity,
        _undefined_slope,
        _cliff,
    ],
)
def test_unsound_f_never_yields_an_unsound_box(f: Callable[[Tensor], Tensor]):
    start = _starts().float()
    start[:, 0] = 9.95
    result = GradientAscent(num_steps=8, step_size=0.02, step_growth=1.5)(f, start)
    assert bool(torch.isfinite(result.boxes).all())
    assert bool((result.boxes[:, 3:6] > 0).all())
    moved = (result.boxes != start).any(dim=1)
    assert bool(torch.isfinite(result.f_final[moved]).all())


def test_box_without_a_defined_f_stays_where_it_is():
    start = _starts()
    result = GradientAscent(num_steps=3)(_nowhere, start)
    assert torch.equal(result.boxes, start)
    assert result.num_accepted.tolist() == [0] * 8


def test_box_at_minus_infinity_may_climb_out():
    def wall(boxes: Tensor) -> Tensor:
        # The slope points out of the forbidden half space, where f is defined again.
        allowed = boxes[:, 0] > 0
        return boxes[:, 0] + torch.where(allowed, 0.0, -math.inf)

    start = _starts(1)
    start[:, 0] = -0.05
    result = GradientAscent(num_steps=1, step_size=0.1)(wall, start)
    assert float(result.boxes[0, 0]) == pytest.approx(0.05)
    assert float(result.f_initial) == -math.inf


def test_sizes_never_fall_below_the_smallest_allowed():
    def shrinking(boxes: Tensor) -> Tensor:
        return -boxes[:, 3:6].sum(dim=1)

    start = _starts()
    result = GradientAscent(num_steps=60, step_size=0.7, min_size=0.3)(shrinking, start)
    assert bool((result.boxes[:, 3:6] >= 0.3).all())
    assert bool((result.boxes[:, 3:6].amin(dim=1) < 0.4).all())


@pytest.mark.parametrize("axes", ["box", "world"])
def test_one_step_is_at_most_max_step_in_units_of_the_scale(axes: str):
    start = _starts()
    ascent = GradientAscent(1, 1e3, step_scale=_SCALE, axes=axes, max_step=0.5)
    result = ascent(lambda b: _quadratic(b) * 0 + b.sum(dim=1), start)
    moved = (
        local_offsets(start, result.boxes)
        if axes == "box"
        else torch.cat(
            (result.boxes[:, :6] - start[:, :6], wrap_to_pi(result.boxes - start)[:, 6:]), 1
        )
    )
    limit = 0.5 * torch.tensor(_SCALE, dtype=torch.float64)
    torch.testing.assert_close(moved.abs(), limit.expand(8, 7))


@pytest.mark.parametrize("axes", ["box", "world"])
def test_whole_way_is_at_most_max_displacement_in_units_of_the_scale(axes: str):
    start = _starts()
    start[:, 6] = math.pi - 0.01  # the way crosses the seam of the yaw
    ascent = GradientAscent(50, 1.0, step_scale=_SCALE, axes=axes, max_displacement=2.0)
    result = ascent(lambda b: 100 * (b[:, :6].sum(dim=1) + torch.sin(b[:, 6] + 1.7)), start)
    yaw = wrap_to_pi(result.boxes[:, 6:] - start[:, 6:])
    shift = torch.cat((result.boxes[:, :6] - start[:, :6], yaw), dim=1)
    moved = local_offsets(start, result.boxes) if axes == "box" else shift
    limit = 2 * torch.tensor(_SCALE, dtype=torch.float64)
    assert bool((moved.abs() <= limit + 1e-9).all())
    torch.testing.assert_close(moved[:, 2:6], limit[2:6].expand(8, 4))


def test_class_picks_the_row_of_the_scale():
    start = _starts(2)
    rows = [[0.5] * 7, [0.1] * 7]
    result = GradientAscent(1, 0.5, step_scale=rows)(_quadratic, start, torch.tensor([1, 0]))
    factor = 1 - 0.5 * _CURVATURE * torch.tensor([[0.01], [0.25]], dtype=torch.float64)
    torch.testing.assert_close(result.boxes, _MODE + factor * (start - _MODE))


class _CopiesFromTheCPU(TorchDispatchMode):
    """Counts copies to another device: each would make the host wait for a GPU."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sources = [t.device.type for t in args if isinstance(t, Tensor)]
        self.count += isinstance(result, Tensor) and result.is_meta and "cpu" in sources
        return result


@pytest.mark.parametrize("rows", [1, 2])
def test_scale_is_copied_to_a_device_once(rows: int):
    boxes = torch.ones(3, 7, device="meta")
    labels = torch.zeros(3, dtype=torch.int64, device="meta")
    limits = GradientAscent(1, 0.1, step_scale=[[0.25 + rows] * 7] * rows).limits
    limits.frame(boxes, labels)
    with _CopiesFromTheCPU() as copies:
        limits.frame(boxes, labels)
        assert copies.count == 0
        torch.ones(2).to("meta")
    assert copies.count == 1


def test_scale_per_class_needs_labels():
    with pytest.raises(ValueError, match="labels must be given"):
        GradientAscent(1, step_scale=[[0.5] * 7, [0.1] * 7])(_quadratic, _starts())


def test_boxes_that_are_not_finite_are_refused_by_number(random_boxes: NDArray[np.float64]):
    boxes = torch.from_numpy(random_boxes)
    boxes[5, 2] = math.nan
    with pytest.raises(ValueError, match=r"boxes must be finite, but got boxes\[5\]"):
        GradientAscent()(_quadratic, boxes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": -1}, "num_steps"),
        ({"step_size": 0.0}, "step_size"),
        ({"step_size": math.nan}, "step_size"),
        ({"step_decay": 1.0}, "step_decay"),
        ({"step_growth": 0.9}, "step_growth"),
        ({"axes": "camera"}, "axes"),
        ({"step_scale": (1.0,) * 6}, "step_scale"),
        ({"step_scale": (0.0,) * 7}, "step_scale"),
        ({"max_step": 0.0}, "max_step"),
        ({"max_displacement": -1.0}, "max_displacement"),
        ({"min_size": 0.0}, "min_size"),
    ],
)
def test_constants_out_of_range_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        GradientAscent(**options)
