"""The laws of box noise bound to true boxes, as training methods take it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.boxes.local import local_offsets
from ebm3d.noise import BoundNoise, BoxNoise

_STDS = (0.3, 0.2, 0.1, 0.08, 0.06, 0.05, 0.07)
_MOVING_STDS = (*_STDS, 1.1, 0.3)

with_and_without_velocity = pytest.mark.parametrize("stds", [_STDS, _MOVING_STDS])
both_kinds = pytest.mark.parametrize(("axes", "sizes"), [("box", "log"), ("world", "metric")])


def _boxes(count: int = 5, columns: int = 7) -> Tensor:
    low = torch.tensor([3.0, -4, -2, 3, 1.4, 1.2, -3, -8, -8], dtype=torch.float64)
    spread = torch.tensor([7, 8, 0.5, 1.5, 1, 1, 6, 16, 16])
    return (low + torch.rand(count, 9, dtype=torch.float64) * spread)[:, :columns]


def _labels(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.int64)


def _bound(count: int = 5, seed: int = 0, stds: tuple[float, ...] = _STDS) -> BoundNoise:
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(seed)
    return BoxNoise(stds).around(_boxes(count, len(stds)), _labels(count), generator=generator)


def test_samples_of_frames_are_those_of_each_frame_drawn_in_turn():
    boxes, labels, sizes = _boxes(5), _labels(5), [2, 0, 3]
    noise = BoxNoise(_STDS)
    one, other = (torch.Generator().manual_seed(4) for _ in range(2))
    drawn = noise.around(boxes, labels, sizes, generator=one).sample(6)
    expected = [
        noise.sample(b, c, 6, other)
        for b, c in zip(boxes.split(sizes), labels.split(sizes), strict=True)
    ]
    assert torch.equal(drawn.boxes, torch.cat([part.boxes for part in expected]))
    assert torch.equal(drawn.log_q, torch.cat([part.log_q for part in expected]))


def test_offsets_shared_in_a_scene_are_those_of_its_frame_alone():
    boxes = _boxes(4)
    boxes[:, 6] = 0.3
    noise = BoxNoise(_STDS, shared_in_scene=True)
    drawn = noise.around(boxes, _labels(4), [2, 2]).sample(3).boxes
    shift = (drawn - drawn[:, :1])[..., :3]
    torch.testing.assert_close(shift[0], shift[1])
    torch.testing.assert_close(shift[2], shift[3])
    assert float((shift[0] - shift[2])[1:].abs().min()) > 1e-3


def test_reference_is_drawn_once_and_does_not_change_what_was_drawn_before():
    first, second = _bound(), _bound()
    samples = first.sample(4)
    reference = first.reference
    first.sample(3)
    assert torch.equal(first.reference, reference)
    assert torch.equal(samples.boxes, second.sample(4).boxes)


def test_reference_is_a_draw_of_the_noise():
    # The sum of a mixture's squared standardized offsets: 7 times the mean squared multiplier.
    bound = _bound(4000)
    z = LocalCoding(bound.boxes, bound.noise_std).encode(bound.reference)
    squared = z.square().sum(-1)
    expected = 7 * (0.25 + 1 + 4) / 3
    assert abs(float(squared.mean()) - expected) < 5 * float(squared.std()) / math.sqrt(4000)


@with_and_without_velocity
def test_density_is_that_of_the_noise_at_samples_and_around_other_centers(
    stds: tuple[float, ...],
):
    bound = _bound(stds=stds)
    drawn = bound.sample(6)
    torch.testing.assert_close(bound.log_prob(drawn.boxes), drawn.log_q)
    around = bound.log_prob_around(drawn.boxes)
    for s in range(7):
        other = bound.with_centers(drawn.boxes[:, s])
        expected = other.log_prob(bound.boxes[:, None])[:, 0]
        torch.testing.assert_close(around[:, s], expected)


@with_and_without_velocity
@pytest.mark.parametrize("factor", [0.1, 2.5])
def test_scaled_noise_has_offsets_times_the_factor(factor: float, stds: tuple[float, ...]):
    plain, scaled = _bound(seed=3, stds=stds), _bound(seed=3, stds=stds).scale_std(factor)
    one, other = plain.sample(8).boxes, scaled.sample(8).boxes
    center = plain.boxes[:, None]
    offsets, scaled_offsets = local_offsets(center, one), local_offsets(center, other)
    for part in (slice(0, 3), slice(6, 9)):
        torch.testing.assert_close(scaled_offsets[..., part], factor * offsets[..., part])
    torch.testing.assert_close(
        torch.log(other[..., 3:6] / center[..., 3:6]),
        factor * torch.log(one[..., 3:6] / center[..., 3:6]),
    )
    torch.testing.assert_close(scaled.noise_std, factor * plain.noise_std)
    torch.testing.assert_close(
        scaled.log_prob(center), plain.log_prob(center) - len(stds) * math.log(factor)
    )


@both_kinds
@with_and_without_velocity
def test_noise_std_is_the_deviation_of_local_residuals(
    axes: str, sizes: str, stds: tuple[float, ...]
):
    # One component; small deviations, so that metric sizes are log ratios to first order.
    boxes, count = _boxes(3, len(stds)), 20_000
    noise = BoxNoise([0.01 * s for s in stds], (1.0,), axes=axes, sizes=sizes)
    bound = noise.around(boxes, _labels(3))
    drawn = bound.sample(count).boxes[:, 1:]
    z = LocalCoding(boxes, bound.noise_std).encode(drawn)
    # Standard error of a standard deviation of n Gaussian samples: 1 / sqrt(2 n).
    np.testing.assert_allclose(z.std(dim=1), 1, atol=5 / math.sqrt(2 * count))


@both_kinds
def test_noise_std_at_the_reference_is_independent_of_the_true_box(axes: str, sizes: str):
    noise, reference = BoxNoise(_STDS, axes=axes, sizes=sizes), _boxes(3)
    for _ in range(2):
        bound = noise.around(_boxes(3), _labels(3), reference=reference)
        assert bound.reference is reference
        expected = noise.noise_std(reference, _labels(3))
        assert torch.equal(bound.reference_noise_std, expected)


def test_no_boxes_have_no_samples():
    bound = _bound(0)
    assert bound.sample(3).boxes.shape == (0, 4, 7)
    assert bound.reference.shape == (0, 7)
    assert bound.scale_std(0.5).sample(2).log_q.shape == (0, 3)


@pytest.mark.parametrize("factor", [0.0, math.inf, math.nan])
def test_factor_out_of_range_is_refused(factor: float):
    with pytest.raises(ValueError, match="factor must be positive and finite"):
        _bound().scale_std(factor)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"frame_sizes": [1, 1]}, "frame_sizes"),
        ({"frame_sizes": [-1, 4]}, "frame_sizes"),
        ({"frame_sizes": [1.5, 1.5]}, "frame_sizes"),
        ({"labels": _labels(2)}, "labels"),
        ({"reference": torch.ones(2, 7)}, "reference"),
        ({"boxes": -torch.ones(3, 7)}, "boxes"),
        ({"generator": torch.Generator(), "boxes": torch.ones(3, 7, device="meta")}, "generator"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change: dict[str, Any], name: str):
    arguments = {"boxes": _boxes(3), "labels": _labels(3), **change}
    with pytest.raises(ValueError, match=f"^{name} must"):
        BoxNoise(_STDS).around(**arguments)


def test_other_boxes_than_the_bound_ones_are_refused():
    bound = _bound()
    with pytest.raises(ValueError, match=r"^boxes must have shape"):
        bound.with_centers(bound.boxes[:2])
    with pytest.raises(ValueError, match=r"^centers must have shape"):
        bound.log_prob_around(bound.boxes)
