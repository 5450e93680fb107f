"""Laws of the posterior of a box."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.refiners import BoxPosterior, QuasiNewtonAscent
from tests.refiners.hills import MOVING_MODE, MOVING_SCALE, starts

with_and_without_velocity = pytest.mark.parametrize("columns", [7, 9])
both_periods = pytest.mark.parametrize("period", [math.pi, 2 * math.pi])


def _f(boxes: Tensor) -> Tensor:
    """Of period 2 pi in the yaw, with its maximum at the mode."""
    errors = boxes - MOVING_MODE[: boxes.shape[-1]]
    others = errors[..., :6].square().sum(dim=-1) + errors[..., 7:].square().sum(dim=-1)
    return torch.cos(errors[..., 6]) - others


def _coding(boxes: Tensor) -> LocalCoding:
    return LocalCoding(
        boxes, torch.tensor(MOVING_SCALE[: boxes.shape[1]], dtype=torch.float64).expand_as(boxes)
    )


def _offsets(boxes: Tensor) -> dict[str, Tensor]:
    return {name: 0.5 * torch.randn_like(boxes) for name in ("mean", "shift")}


@both_periods
@with_and_without_velocity
def test_gradient_is_that_of_the_values(columns: int, period: float):
    detected = starts(3, columns)
    tau = torch.tensor([1.0, 3.0, 10.0]).double()
    g = BoxPosterior(_f, _coding(detected), tau, **_offsets(detected), yaw_period=period)
    for yaw in (0.0, 3.0, 2 * math.pi):  # 3 is on the other side of half a period
        boxes = starts(3, columns)
        boxes[:, 6] += yaw
        assert torch.autograd.gradcheck(g, boxes.requires_grad_())


@both_periods
@with_and_without_velocity
def test_values_are_a_tempered_f_and_squared_residuals_of_the_nearest_yaw(
    columns: int, period: float
):
    detected, boxes = starts(3, columns), starts(3, columns)
    boxes[:, 6] += torch.tensor([0.2, 2.0, 3.0])
    coding, offsets = _coding(detected), _offsets(detected)
    g = BoxPosterior(_f, coding, torch.full((3,), 4.0).double(), **offsets, yaw_period=period)
    residuals = coding.encode(boxes)
    shifted = coding.decode(residuals - offsets["shift"])
    for row in range(3):
        candidates = []
        for turns in range(-3, 4):
            error = (residuals - offsets["mean"])[row].clone()
            error[6] += turns * period / MOVING_SCALE[6]
            candidates.append(-0.5 * float(error @ error))
        expected = float(_f(shifted)[row]) / 4 + max(candidates)
        assert float(g(boxes)[row]) == pytest.approx(expected, rel=1e-12)
    turned = boxes.clone()
    turned[:, 6] += 2 * math.pi
    torch.testing.assert_close(g(turned), g(boxes))
    torch.testing.assert_close(g(torch.stack((boxes, turned), dim=1))[:, 0], g(boxes))


@with_and_without_velocity
def test_boxes_come_closer_to_the_detected_ones_the_less_f_is_trusted(columns: int):
    detected = starts(4, columns)
    coding = _coding(detected)
    ascent = QuasiNewtonAscent(40, 0.1, step_scale=MOVING_SCALE[:columns], axes="box")
    distances = []
    for tau in (1.0, 10.0, 100.0, math.inf):
        g = BoxPosterior(_f, coding, torch.full((4,), tau).double())
        boxes = ascent(g, detected).boxes
        distances.append(coding.encode(boxes).square().sum(dim=1).sqrt())
    assert all(bool((near < far).all()) for far, near in itertools.pairwise(distances))
    assert bool((distances[-1] == 0).all())


@with_and_without_velocity
def test_an_infinite_temperature_leaves_the_mode_of_the_errors(columns: int):
    detected = starts(4, columns)
    coding, mean = _coding(detected), 0.3 * torch.randn(4, columns).double()
    g = BoxPosterior(_f, coding, torch.full((4,), math.inf).double(), mean=mean)
    ascent = QuasiNewtonAscent(40, 0.1, step_scale=MOVING_SCALE[:columns], axes="box")
    torch.testing.assert_close(coding.encode(ascent(g, detected).boxes), mean, atol=1e-6, rtol=0)


def test_wrong_shapes_are_refused_by_name():
    detected = starts(3, 7)
    coding, tau = _coding(detected), torch.ones(3).double()
    with pytest.raises(ValueError, match=r"temperature must have shape \(3,\)"):
        BoxPosterior(_f, coding, tau[:2])
    for name in ("mean", "shift"):
        with pytest.raises(ValueError, match=rf"{name} must have shape \(3, 7\)"):
            BoxPosterior(_f, coding, tau, **{name: torch.zeros(3, 9)})
