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


def _boxes(count: int = 5) -> Tensor:
    low = torch.tensor([3.0, -4, -2, 3, 1.4, 1.2, -3], dtype=torch.float64)
    return low + torch.rand(count, 7, dtype=torch.float64) * torch.tensor([7, 8, 0.5, 1.5, 1, 1, 6])


def _bound(count: int = 5, seed: int = 0, **options: Any) -> BoundNoise:
    torch.manual_seed(1)
    boxes = _boxes(count)
    generator = torch.Generator().manual_seed(seed)
    noise = BoxNoise(_STDS, **options)
    return noise.around(boxes, torch.zeros(count, dtype=torch.int64), generator=generator)


def test_samples_of_frames_are_those_of_each_frame_drawn_in_turn():
    boxes, labels = _boxes(5), torch.zeros(5, dtype=torch.int64)
    noise, sizes = BoxNoise(_STDS), [2, 0, 3]
    one, other = (torch.Generator().manual_seed(4) for _ in range(2))
    found = noise.around(boxes, labels, sizes, generator=one).sample(6)
    expected = [
        noise.sample(b, c, 6, other)
        for b, c in zip(boxes.split(sizes), labels.split(sizes), strict=True)
    ]
    assert torch.equal(found.boxes, torch.cat([part.boxes for part in expected]))
    assert torch.equal(found.log_q, torch.cat([part.log_q for part in expected]))


def test_offsets_shared_in_a_scene_are_those_of_its_frame_alone():
    boxes, labels = _boxes(4), torch.zeros(4, dtype=torch.int64)
    boxes[:, 6] = 0.3
    noise = BoxNoise(_STDS, shared_in_scene=True)
    drawn = noise.around(boxes, labels, [2, 2]).sample(3).boxes
    shift = (drawn - drawn[:, :1])[..., :3]
    torch.testing.assert_close(shift[0], shift[1])
    torch.testing.assert_close(shift[2], shift[3])
    assert float((shift[0] - shift[2])[1:].abs().min()) > 1e-3


def test_reference_does_not_change_what_was_drawn_before_it():
    first, second = _bound(), _bound()
    samples = first.sample(4)
    assert first.reference.shape == (5, 7)
    assert torch.equal(samples.boxes, second.sample(4).boxes)


def test_reference_is_drawn_once():
    bound = _bound()
    reference = bound.reference
    bound.sample(3)
    assert torch.equal(bound.reference, reference)


def test_reference_is_a_draw_of_the_noise():
    # The sum of a mixture's squared standardized offsets: 7 times the mean squared multiplier.
    bound = _bound(4000)
    z = LocalCoding(bound.boxes, bound.noise_std).encode(bound.reference)
    squared = z.square().sum(-1)
    expected = 7 * (0.25 + 1 + 4) / 3
    assert abs(float(squared.mean()) - expected) < 5 * float(squared.std()) / math.sqrt(4000)


def test_reference_that_is_given_is_kept():
    boxes = _boxes()
    noise = BoxNoise(_STDS).around(boxes, torch.zeros(5, dtype=torch.int64), reference=boxes)
    assert noise.reference is boxes


def test_density_is_that_of_the_noise():
    bound = _bound()
    samples = bound.sample(6)
    torch.testing.assert_close(bound.log_prob(samples.boxes), samples.log_q)


@pytest.mark.parametrize("factor", [0.1, 2.5])
def test_narrowed_noise_has_offsets_times_the_factor(factor: float):
    wide, narrow = _bound(seed=3), _bound(seed=3).scale_std(factor)
    one, other = wide.sample(8).boxes, narrow.sample(8).boxes
    reference = wide.boxes[:, None]
    offsets, shrunk = local_offsets(reference, one), local_offsets(reference, other)
    for part in (slice(0, 3), slice(6, 7)):
        torch.testing.assert_close(shrunk[..., part], factor * offsets[..., part])
    torch.testing.assert_close(
        torch.log(other[..., 3:6] / reference[..., 3:6]),
        factor * torch.log(one[..., 3:6] / reference[..., 3:6]),
    )
    torch.testing.assert_close(narrow.noise_std, factor * wide.noise_std)


def test_narrowed_density_is_scaled():
    wide, narrow = _bound(seed=3), _bound(seed=3).scale_std(0.5)
    torch.testing.assert_close(
        narrow.log_prob(narrow.boxes[:, None]),
        wide.log_prob(wide.boxes[:, None]) + 7 * math.log(2),
    )


@pytest.mark.parametrize(("axes", "sizes"), [("box", "log"), ("world", "metric")])
def test_units_are_the_deviations_of_local_residuals(axes: str, sizes: str):
    # One component; small deviations, so that metric sizes are log ratios to first order.
    stds = [0.01 * s for s in _STDS]
    boxes = _boxes(3)
    noise = BoxNoise(stds, (1.0,), axes=axes, sizes=sizes)
    bound = noise.around(boxes, torch.zeros(3, dtype=torch.int64))
    count = 20_000
    drawn = bound.sample(count).boxes[:, 1:]
    z = LocalCoding(boxes, bound.noise_std).encode(drawn.transpose(0, 1))
    # Standard error of a standard deviation of n Gaussian samples: 1 / sqrt(2 n).
    np.testing.assert_allclose(z.std(dim=0), 1, atol=5 / math.sqrt(2 * count))


@pytest.mark.parametrize(("axes", "sizes"), [("box", "log"), ("world", "metric")])
def test_units_at_the_reference_say_nothing_of_the_true_box(axes: str, sizes: str):
    noise, labels = BoxNoise(_STDS, axes=axes, sizes=sizes), torch.zeros(3, dtype=torch.int64)
    reference = _boxes(3)
    found = [noise.around(_boxes(3), labels, reference=reference).reference_units for _ in "ab"]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], noise.around(reference, labels).noise_std)


def test_units_of_a_class_are_its_row():
    table = [[0.1] * 7, [0.2] * 7]
    boxes = _boxes(2)
    noise_std = BoxNoise(table).around(boxes, torch.tensor([1, 0])).noise_std
    torch.testing.assert_close(noise_std[:, 0], torch.tensor([0.2, 0.1], dtype=torch.float64))


def test_no_boxes_have_no_samples():
    bound = _bound(0)
    assert bound.sample(3).boxes.shape == (0, 4, 7)
    assert bound.reference.shape == (0, 7)
    assert bound.scale_std(0.5).sample(2).log_q.shape == (0, 3)


def test_frames_of_another_number_of_boxes_are_refused():
    boxes, labels = _boxes(3), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"frame_sizes must be of 3 boxes in all"):
        BoxNoise(_STDS).around(boxes, labels, [1, 1])


@pytest.mark.parametrize("factor", [0.0, -1.0, math.inf, math.nan])
def test_factor_out_of_range_is_refused(factor: float):
    with pytest.raises(ValueError, match="factor must be positive and finite"):
        _bound().scale_std(factor)


def test_noise_is_its_own_base():
    noise = BoxNoise(_STDS)
    assert noise.base is noise


@pytest.mark.parametrize("sizes", [[-1, 4], [1.5, 1.5]])
def test_frames_of_no_whole_number_of_boxes_are_refused(sizes: Any):
    boxes, labels = _boxes(3), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="frame_sizes must be at least 0, a whole number"):
        BoxNoise(_STDS).around(boxes, labels, sizes)


def test_boxes_labels_and_references_that_do_not_fit_are_refused():
    noise, boxes, labels = BoxNoise(_STDS), _boxes(3), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"labels must have shape \(3,\)"):
        noise.around(boxes, labels[:2])
    with pytest.raises(ValueError, match=r"reference must have shape \(3, 7\)"):
        noise.around(boxes, labels, reference=boxes[:2])
    with pytest.raises(ValueError, match=r"finite, of positive size, but got boxes\[0\]"):
        noise.around(-boxes.abs(), labels)  # also for methods that draw nothing of the noise
