from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm3d.boxes import wrap_to_pi
from ebm3d.boxes.codings import LocalCoding
from ebm3d.refiners import (
    GradientAscent,
    Modes,
    MultiStart,
    QuasiNewtonAscent,
    RefinementResult,
    weigh_modes,
)

_UNITS = (0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04)
_ASCENT = QuasiNewtonAscent(30, 0.3, step_scale=_UNITS, max_displacement=None)


def _boxes(count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    low = torch.tensor([5.0, -10, -2, 3, 1.4, 1.2, -3], dtype=torch.float64)
    spread = torch.tensor([20.0, 20, 1, 2, 1, 1, 6], dtype=torch.float64)
    return low + spread * torch.rand(count, 7, generator=generator, dtype=torch.float64)


class _Hills:
    """log of a sum of Gaussians of the residuals around boxes: given centers, widths, weights."""

    def __init__(self, boxes: Tensor, centers: Tensor, width: Tensor, weights: Tensor) -> None:
        self.coding = LocalCoding(boxes, torch.tensor([_UNITS] * len(boxes), dtype=torch.float64))
        self.centers, self.width, self.weights = centers, width, weights

    def __call__(self, boxes: Tensor) -> Tensor:
        flat = boxes.transpose(0, 1)
        t = self.coding.encode(flat)
        difference = t[..., None, :] - self.centers
        yaw = wrap_to_pi(difference[..., 6:] * _UNITS[6]) / _UNITS[6]
        difference = torch.cat((difference[..., :6], yaw), dim=-1)
        hills = -0.5 * (difference / self.width[:, None]).square().sum(-1)
        hills = hills + torch.log(self.weights) - 7 * torch.log(self.width)
        log_p = torch.logsumexp(hills, dim=-1) - self.coding.log_volume(flat)
        return log_p.transpose(0, 1)


def _front_and_rear(boxes: Tensor, *weights: float, widths: tuple[float, ...] = (0.5, 0.5)):
    """A hill at the box and one at the box turned by pi."""
    centers = torch.zeros(2, 7, dtype=torch.float64)
    centers[1, 6] = math.pi / _UNITS[6]
    given = [torch.tensor(values, dtype=torch.float64) for values in (widths, weights)]
    return _Hills(boxes, centers, *given)


def test_box_turned_by_pi_finds_the_other_mode_of_the_yaw():
    boxes = _boxes()
    f = _front_and_rear(boxes, 0.3, 0.7)
    alone = _ASCENT(lambda b: f(b[:, None])[:, 0], boxes)
    result = MultiStart(_ASCENT, _UNITS, 1, turned=True)(f, boxes)
    turned = wrap_to_pi(result.boxes[:, 6] - boxes[:, 6]).abs()
    torch.testing.assert_close(turned, torch.full((4,), math.pi, dtype=torch.float64))
    assert bool((wrap_to_pi(alone.boxes[:, 6] - boxes[:, 6]).abs() < 0.1).all())
    assert result.modes is not None
    assert result.modes.count.tolist() == [2] * 4
    expected = torch.tensor([[0.7, 0.3]], dtype=torch.float64).expand(4, 2)
    torch.testing.assert_close(result.modes.weights, expected, atol=1e-5, rtol=0)


def test_weights_by_mass_are_those_of_the_hills_whatever_their_width():
    boxes = _boxes()
    f = _front_and_rear(boxes, 0.6, 0.4, widths=(0.8, 0.4))
    result = MultiStart(_ASCENT, _UNITS, 1, turned=True)(f, boxes)
    assert result.modes is not None
    by_mass = weigh_modes(f, result.modes, f.coding.noise_std)
    # The narrow hill is the higher one, and has the smaller mass.
    torch.testing.assert_close(result.boxes, result.modes.boxes[:, 0])
    assert bool((result.modes.weights[:, 0] > 0.9).all())
    expected = torch.tensor([[0.4, 0.6]], dtype=torch.float64).expand(4, 2)
    torch.testing.assert_close(by_mass.weights, expected, atol=1e-3, rtol=0)
    assert torch.equal(by_mass.boxes, result.modes.boxes)


def test_starts_that_end_at_one_mode_are_one_mode():
    boxes = _boxes()
    f = _front_and_rear(boxes, 1.0, 1e-300)
    result = MultiStart(_ASCENT, _UNITS, 6)(f, boxes)
    assert result.modes is not None
    assert result.modes.count.tolist() == [1] * 4
    assert bool(torch.isnan(result.modes.boxes[:, 1:]).all())
    assert bool((result.modes.f[:, 1:] == -math.inf).all())
    expected = torch.tensor([[1.0, 0, 0, 0, 0, 0]], dtype=torch.float64).expand(4, 6)
    torch.testing.assert_close(result.modes.weights, expected)


def test_mode_across_the_seam_of_the_yaw_is_one_mode():
    boxes = _boxes(2)
    boxes[:, 6] = math.pi - 1e-3  # draws end on both sides of the seam
    f = _front_and_rear(boxes, 0.5, 0.5)
    result = MultiStart(_ASCENT, _UNITS, 8, turned=True)(f, boxes)
    assert result.modes is not None
    assert result.modes.count.tolist() == [2, 2]


class _Ends:
    """A refiner that ends at given residuals ``(S, 7)`` whatever the starts."""

    def __init__(self, boxes: Tensor, residuals: Tensor) -> None:
        noise_std = torch.tensor([_UNITS] * len(boxes), dtype=torch.float64)
        coding = LocalCoding(boxes, noise_std)
        at = residuals[:, None].expand(-1, len(boxes), -1)
        self.ends = coding.decode(at).transpose(0, 1).flatten(0, 1)

    def __call__(self, f: Any, boxes: Tensor, labels: Tensor | None = None) -> RefinementResult:
        values = f(self.ends)
        return RefinementResult(self.ends, f(boxes), values, torch.zeros(len(boxes)).long())


def _falling(boxes: Tensor) -> Tensor:
    """Lower the wider the box."""
    return -boxes[..., 4]


def test_end_near_a_merged_end_alone_is_a_mode_of_its_own():
    boxes, residuals = _boxes(2), torch.zeros(4, 7, dtype=torch.float64)
    residuals[:, 4] = torch.tensor([0.0, 0.4, 0.8, 3.0])
    result = MultiStart(_Ends(boxes, residuals), _UNITS, 4)(_falling, boxes)
    assert result.modes is not None
    assert result.modes.count.tolist() == [3, 3]
    found = torch.log(result.modes.boxes[:, :3, 4] / boxes[:, 4:5]) / _UNITS[4]
    expected = torch.tensor([[0.0, 0.8, 3.0]], dtype=torch.float64).expand(2, 3)
    torch.testing.assert_close(found, expected)


def test_ends_half_a_turn_away_on_both_sides_are_one_mode():
    boxes, residuals = _boxes(2), torch.zeros(2, 7, dtype=torch.float64)
    residuals[:, 6] = torch.tensor([math.pi - 0.005, 0.005 - math.pi]) / _UNITS[6]
    result = MultiStart(_Ends(boxes, residuals), _UNITS, 2)(_falling, boxes)
    assert result.modes is not None
    assert result.modes.count.tolist() == [1, 1]


def test_draws_are_as_wide_as_the_spread():
    boxes, stay = _boxes(2), GradientAscent(0)
    found = []
    for spread in (1.0, 2.0):
        modes = MultiStart(stay, _UNITS, 5, spread=spread, merge_radius=1e-6)(_falling, boxes).modes
        assert modes is not None
        coding = LocalCoding(boxes, torch.tensor([_UNITS] * 2, dtype=torch.float64))
        found.append(coding.encode(modes.boxes.transpose(0, 1)))
    torch.testing.assert_close(found[1], 2 * found[0])
    assert 0.3 < float(found[0].std()) < 3


def _rugged(boxes: Tensor) -> Tensor:
    return torch.sin(40 * boxes).sum(-1) + 5 * torch.cos(boxes[..., 0]) * torch.cos(boxes[..., 6])


def test_more_starts_never_end_lower_and_f_never_falls():
    boxes, ascent = _boxes(6), GradientAscent(5, 0.05, step_scale=_UNITS)
    ends = [MultiStart(ascent, _UNITS, k)(_rugged, boxes).f_final for k in (1, 3, 6)]
    assert bool((ends[1] >= ends[0]).all())
    assert bool((ends[2] >= ends[1]).all())
    assert bool((ends[0] >= _rugged(boxes)).all())


def test_one_start_is_the_refiner_alone():
    boxes, ascent = _boxes(), GradientAscent(5, 0.05, step_scale=_UNITS, axes="box")
    alone, one = ascent(_rugged, boxes), MultiStart(ascent, _UNITS, 1)(_rugged, boxes)
    for name in ("boxes", "f_initial", "f_final", "num_accepted"):
        torch.testing.assert_close(getattr(one, name), getattr(alone, name))


def test_modes_are_ordered_apart_and_their_f_is_f():
    boxes = _boxes(6)
    result = MultiStart(_ASCENT, _UNITS, 5, merge_radius=0.3)(_rugged, boxes)
    modes = result.modes
    assert modes is not None
    assert bool((modes.f[:, :-1] >= modes.f[:, 1:]).all())
    torch.testing.assert_close(modes.f[:, 0], result.f_final)
    torch.testing.assert_close(modes.weights.sum(1), torch.ones(6, dtype=torch.float64))
    coding = LocalCoding(boxes, torch.tensor([_UNITS] * 6, dtype=torch.float64))
    for n, count in enumerate(modes.count.tolist()):
        found = modes.boxes[n, :count]
        torch.testing.assert_close(modes.f[n, :count], _rugged(found), atol=1e-9, rtol=1e-9)
        t = coding[n : n + 1].encode(found[:, None])[:, 0]
        apart = (t[:, None] - t[None]).abs().amax(-1) + torch.eye(count)
        assert float(apart.min()) > 0.3


def test_boxes_do_not_see_each_other_and_calls_are_repeatable():
    boxes, refiner = _boxes(), MultiStart(_ASCENT, _UNITS, 4, turned=True)
    together, again = refiner(_rugged, boxes), refiner(_rugged, boxes)
    assert torch.equal(together.boxes, again.boxes)
    for n in range(4):
        torch.testing.assert_close(refiner(_rugged, boxes[n : n + 1]).boxes[0], together.boxes[n])


def test_class_picks_the_row_of_units_and_of_the_refiner():
    boxes, labels = _boxes(2), torch.tensor([1, 0])
    tables = [[0.1] * 7, list(_UNITS)], [[0.2] * 7, list(_UNITS)]
    ascent = GradientAscent(4, 0.1, step_scale=tables[1])
    result = MultiStart(ascent, tables[0], 3)(_rugged, boxes, labels)
    for n, label in enumerate(labels.tolist()):
        own = GradientAscent(4, 0.1, step_scale=tables[1][label])
        alone = MultiStart(own, tables[0][label], 3)(_rugged, boxes[n : n + 1])
        torch.testing.assert_close(result.boxes[n], alone.boxes[0])


def test_box_without_a_defined_f_stays_where_it_is():
    boxes = _boxes()
    result = MultiStart(_ASCENT, _UNITS, 3)(lambda b: b.sum(-1) * math.nan, boxes)
    torch.testing.assert_close(result.boxes, boxes)
    assert result.modes is not None
    assert result.modes.count.tolist() == [1] * 4
    torch.testing.assert_close(result.modes.weights[:, 0], torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("turned", [False, True])
def test_no_boxes_have_no_modes(turned: bool):
    result = MultiStart(_ASCENT, _UNITS, 3, turned)(lambda b: b.sum(-1), torch.zeros(0, 7))
    assert result.boxes.shape == (0, 7)
    assert isinstance(result.modes, Modes)
    assert result.modes.f.shape == (0, 3 + turned)
    weighed = weigh_modes(lambda b: b.sum(-1), result.modes, torch.zeros(0, 7))
    assert weighed.weights.shape == (0, 3 + turned)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_starts": 0}, "num_starts must be at least 1"),
        ({"spread": 0.0}, "spread must be positive"),
        ({"merge_radius": math.nan}, "merge_radius must be positive"),
        ({"base": "GradientAscent"}, "base must be a refiner"),
        ({"base": MultiStart(_ASCENT, _UNITS)}, "base must be a refiner with one start"),
        ({"num_starts": 2.5}, "num_starts must be at least 1, a whole number"),
        ({"seed": None}, "seed must be at least 0, a whole number"),
        ({"noise_std": "wide"}, "units must be seven positive numbers"),
        ({"noise_std": [0.1] * 6}, "units must be seven positive numbers"),
    ],
)
def test_constants_out_of_range_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        MultiStart(**{"base": _ASCENT, "noise_std": _UNITS, **options})
