"""Laws of the search for starts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ebm3d.boxes import wrap_to_pi
from ebm3d.boxes.codings import LocalCoding
from ebm3d.refiners import QuasiNewtonAscent, StartSearch
from tests.refiners.hills import MODE, MOVING_MODE, MOVING_SCALE, rugged, starts

_ASCENT = QuasiNewtonAscent(20, 0.1, step_scale=MOVING_SCALE, axes="box", max_step=0.5)
_SPEED = 0.4 * torch.stack((torch.cos(MODE[6]), torch.sin(MODE[6])))
_TOP = torch.cat((MODE, _SPEED))
with_and_without_velocity = pytest.mark.parametrize("columns", [7, 9])


def _coding(boxes: Tensor) -> LocalCoding:
    std = boxes.new_tensor(MOVING_SCALE[: boxes.shape[1]])
    return LocalCoding(boxes, std.expand_as(boxes).contiguous())


def _two_modes(boxes: Tensor) -> Tensor:
    """A hill at the top, a lower one with the heading flipped."""
    values = []
    for top, height in ((_TOP, 0.0), (_TOP + math.pi * torch.eye(9)[6], -5.0)):
        errors = boxes - top
        yaw = wrap_to_pi(errors[..., 6:7])
        errors = torch.cat((errors[..., :6], yaw, errors[..., 7:]), dim=-1)
        values.append(height - 4 * errors.square().sum(dim=-1))
    return torch.logaddexp(*values)


def test_one_start_ends_on_the_wrong_hill_and_a_search_on_the_right_one():
    boxes = _TOP + 0.1 * torch.randn(4, 9, dtype=torch.float64) + math.pi * torch.eye(9)[6]
    alone = _ASCENT(_two_modes, boxes).boxes
    found = StartSearch(num_starts=2).climb(_ASCENT, _two_modes, _coding(boxes)).boxes
    assert bool((wrap_to_pi(alone[:, 6] - _TOP[6]).abs() > 3).all())
    torch.testing.assert_close(found, _TOP.expand_as(found), atol=0.05, rtol=0)


@with_and_without_velocity
def test_more_starts_end_no_lower_and_none_lower_than_the_detected_box(columns: int):
    boxes = starts(columns=columns)
    coding = _coding(boxes)

    def f(y: Tensor) -> Tensor:
        return rugged(y.flatten(0, -2)).unflatten(0, y.shape[:-1])

    found = StartSearch(16, 1, 4)(f, coding)
    values = f(found)
    assert bool((values.diff(dim=1) <= 0).all())
    assert bool((values[:, 0] >= rugged(boxes)).all())
    tops = []
    for num in (1, 4):
        ascent = QuasiNewtonAscent(4, step_scale=MOVING_SCALE[:columns])
        result = StartSearch(16, 0, num).climb(ascent, f, coding)
        assert bool((result.f_final >= result.f_initial).all())
        torch.testing.assert_close(result.f_final, rugged(result.boxes), atol=1e-9, rtol=1e-9)
        tops.append(result.f_final)
    assert bool((tops[1] >= tops[0]).all())


@with_and_without_velocity
def test_a_box_has_the_same_starts_alone_in_a_batch_and_again(columns: int):
    boxes = starts(columns=columns)
    std = torch.tensor(MOVING_SCALE[:columns]).double().expand_as(boxes) * torch.rand(8, 1)
    coding = LocalCoding(boxes, std)
    search = StartSearch(32, 2, 3)
    target = MOVING_MODE[:columns]

    def f(y: Tensor) -> Tensor:
        return -(y - target).square().sum(dim=-1)

    torch.manual_seed(1)
    together = search(f, coding)
    torch.manual_seed(2)
    assert torch.equal(search(f, coding), together)
    for row in range(8):
        torch.testing.assert_close(search(f, coding[row : row + 1])[0], together[row])


def test_candidates_are_spread_as_the_errors_of_the_detector_with_every_heading():
    boxes = starts(1, columns=9)
    coding = _coding(boxes)
    drawn = StartSearch(1024).candidates(coding)
    residuals = coding.encode(drawn)[0]
    torch.testing.assert_close(
        residuals[:, :6].mean(dim=0), torch.zeros(6).double(), atol=0.05, rtol=0
    )
    torch.testing.assert_close(
        residuals[:, :6].std(dim=0), torch.ones(6).double(), atol=0.05, rtol=0
    )
    yaw, velocity = drawn[0, :, 6], drawn[0, :, 7:]
    counts = torch.histc(yaw, 8, -math.pi, math.pi)
    assert bool(((counts - 128).abs() < 20).all())
    parked = (velocity == 0).all(dim=1)
    kept = (velocity == boxes[0, 7:]).all(dim=1)
    for share in (parked, kept):
        assert abs(share.double().mean() - 0.2) < 0.02
    heading = torch.stack((torch.cos(yaw), torch.sin(yaw)), dim=1)
    speed = (heading * velocity).sum(dim=1)
    torch.testing.assert_close((speed[:, None] * heading)[~kept], velocity[~kept])
    assert bool((speed[~kept] >= 0).all())


def test_what_is_not_a_number_counts_as_the_lowest():
    boxes = starts(columns=7)
    found = StartSearch(8, 1, 2)(lambda y: y[..., 0] * math.nan, _coding(boxes))
    torch.testing.assert_close(found[:, 0], boxes)


def test_no_box_has_no_start():
    boxes = torch.zeros(0, 9).double()
    search = StartSearch(8, 2, 2)
    assert search(lambda y: y.sum(dim=-1), _coding(boxes)).shape == (0, 2, 9)
    assert search.climb(_ASCENT, lambda y: y.sum(dim=-1), _coding(boxes)).boxes.shape == (0, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_candidates": 0}, "num_candidates must be at least 1"),
        ({"num_rounds": -1}, "num_rounds must be at least 0"),
        ({"num_starts": 0}, "num_starts must be at least 1"),
        ({"num_candidates": 2, "num_starts": 4}, "num_starts must be at most 3"),
    ],
)
def test_wrong_numbers_are_refused_by_name(options: dict[str, int], message: str):
    with pytest.raises(ValueError, match=message):
        StartSearch(**options)
