"""The laws of noise around the detector's predictions.

A statistical test here fails by chance for one seed in 10,000; seeds are fixed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.boxes.iou import iou_bev
from ebm3d.noise import BoundDetectionNoise, BoxNoise, DetectionNoise, Detections

_STDS = (0.3, 0.2, 0.1, 0.08, 0.06, 0.05, 0.07)
_BOXES = torch.tensor(
    [[12.0, -4, -1.7, 4.2, 1.8, 1.5, 2.9], [30.0, 8, -1.6, 3.8, 1.6, 1.4, -0.4]],
    dtype=torch.float64,
)
# Two near the first box, of which the second looks backwards; none near the second box.
_SHIFTS = torch.tensor(
    [[0.4, 0.1, 0.1, 0.2, -0.1, 0.05, 0.05], [-0.3, 0.2, 0, 0, 0.1, 0, math.pi - 0.1]],
    dtype=torch.float64,
)
_TURNED = torch.tensor([0, 0, 0, 0, 0, 0, math.pi], dtype=torch.float64)
_P_VALUE = 1e-4


def _noise(**options: Any) -> DetectionNoise:
    return DetectionNoise(BoxNoise(_STDS), **{"share": 0.4, "width": 0.5, **options})


def _bound(noise: DetectionNoise | None = None, **options: Any) -> BoundDetectionNoise:
    boxes = _BOXES[:1] + _SHIFTS
    found = Detections(boxes, torch.zeros(2, dtype=torch.int64))
    labels = torch.zeros(2, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    return (noise or _noise()).around(_BOXES, labels, [found], generator=generator, **options)


def _log_density_by_hand(boxes: Tensor) -> Any:
    """Of the first box, one Gaussian at a time."""
    noise, labels = BoxNoise(_STDS), torch.zeros(1, dtype=torch.int64)
    coding = LocalCoding(_BOXES[:1], torch.tensor([_STDS], dtype=torch.float64))
    at = coding.encode(boxes[:, None])[:, 0].numpy()
    parts = [math.log(0.6) + noise.log_prob(_BOXES[:1], boxes[None], labels)[0].numpy()]
    for found in (_BOXES[0] + _SHIFTS[0], _BOXES[0] + _SHIFTS[1] - _TURNED):
        center = coding.encode(found[None])[0].numpy()
        log_p = stats.norm(center, 0.5).logpdf(at).sum(axis=1)
        parts.append(math.log(0.4 / 2) + log_p - coding.log_volume(boxes[:, None])[:, 0].numpy())
    return logsumexp(parts, axis=0)


def test_density_is_the_mixture_by_scipy():
    bound = _bound()
    boxes = bound.sample(300).boxes
    np.testing.assert_allclose(bound.log_prob(boxes)[0], _log_density_by_hand(boxes[0]), rtol=1e-10)


def test_log_q_of_samples_is_the_density_at_them():
    bound = _bound()
    samples = bound.sample(50)
    torch.testing.assert_close(samples.log_q, bound.log_prob(samples.boxes))


def test_density_integrates_to_one():
    # By importance sampling from slightly wider Gaussians around the same places.
    bound, wide = _bound(), _bound(DetectionNoise(BoxNoise(_STDS, (0.6, 1.2, 2.2)), 0.6, 0.7))
    count = 40_000
    drawn = wide.sample(count)
    ratio = torch.exp(bound.log_prob(drawn.boxes) - drawn.log_q)[:, 1:]
    error = ratio.std(dim=1) / math.sqrt(count)
    assert float(error.max()) < 0.03
    assert bool(((ratio.mean(dim=1) - 1).abs() <= 5 * error).all())


@pytest.mark.parametrize("dimension", range(7))
def test_samples_fit_the_density_in_every_residual(dimension: int):
    bound = _bound()
    drawn = bound.sample(4000).boxes[:1, 1:]
    coding = LocalCoding(_BOXES[:1], torch.tensor([_STDS], dtype=torch.float64))
    at = coding.encode(drawn.transpose(0, 1))[:, 0, dimension].numpy()
    near = torch.stack((_BOXES[0] + _SHIFTS[0], _BOXES[0] + _SHIFTS[1] - _TURNED))
    centers = coding.encode(near[:, None])[:, 0, dimension].numpy()

    def cumulative(value: Any) -> Any:
        base = np.mean([stats.norm(0, m).cdf(value) for m in (0.5, 1.0, 2.0)], axis=0)
        around = np.mean([stats.norm(c, 0.5).cdf(value) for c in centers], axis=0)
        return 0.6 * base + 0.4 * around

    assert stats.kstest(at, cumulative).pvalue > _P_VALUE


def test_box_without_detections_has_the_base_noise():
    bound = _bound()
    samples = bound.sample(20)
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(2, dtype=torch.int64)
    base = BoxNoise(_STDS).around(_BOXES, labels, generator=generator).sample(20)
    assert torch.equal(samples.boxes[1], base.boxes[1])
    torch.testing.assert_close(samples.log_q[1], base.log_q[1])


def test_detections_of_another_class_of_no_overlap_or_unsound_are_no_noise():
    good = _BOXES[0] + _SHIFTS[0]
    far, flat, broken = good.clone(), good.clone(), good.clone()
    far[0] += 10
    flat[3] = 0
    broken[1] = math.nan
    found = Detections(torch.stack((good, far, flat, broken)), torch.tensor([1, 0, 0, 0]))
    labels = torch.zeros(2, dtype=torch.int64)
    bound = _noise().around(_BOXES, labels, [found])
    at = bound.sample(10).boxes
    torch.testing.assert_close(
        bound.log_prob(at), BoxNoise(_STDS).around(_BOXES, labels).log_prob(at)
    )


def test_detections_of_one_frame_are_none_of_another():
    found = Detections(_BOXES[:1] + _SHIFTS, torch.zeros(2, dtype=torch.int64))
    none = Detections(_BOXES[:0], torch.zeros(0, dtype=torch.int64))
    labels, boxes = torch.zeros(2, dtype=torch.int64), _BOXES[:1].repeat(2, 1)
    bound = _noise().around(boxes, labels, [none, found], [1, 1])
    at = bound.sample(10).boxes
    base = BoxNoise(_STDS).around(boxes, labels).log_prob(at)
    torch.testing.assert_close(bound.log_prob(at)[0], base[0])
    assert not torch.allclose(bound.log_prob(at)[1], base[1])


def test_reference_is_the_detection_of_most_overlap_or_a_draw_of_the_base():
    bound = _bound()
    torch.testing.assert_close(bound.reference[0], _BOXES[0] + _SHIFTS[1] - _TURNED)
    assert float((bound.reference[1] - _BOXES[1]).abs().max()) < 3
    assert torch.equal(bound.reference, bound.reference)


def test_units_at_the_reference_are_those_of_the_base_around_it():
    base = BoxNoise(_STDS, axes="world", sizes="metric")
    bound = _bound(DetectionNoise(base))
    expected = base.noise_std(bound.reference, bound.labels)
    torch.testing.assert_close(bound.reference_units, expected)
    assert not torch.allclose(bound.reference_units, bound.noise_std)


def test_of_more_detections_than_the_bound_those_of_most_overlap_count():
    labels = torch.zeros(2, dtype=torch.int64)
    found = [_BOXES[0] + shift for shift in (*_SHIFTS, 0.5 * _SHIFTS[0], _TURNED)]
    shifts = torch.stack(found)
    best = [Detections(shifts[[3, 1, 2]], torch.zeros(3, dtype=torch.int64))]
    all_of_them = [Detections(shifts, torch.zeros(4, dtype=torch.int64))]
    overlap = iou_bev(_BOXES[:1], shifts)[0]
    assert torch.equal(overlap.argsort(descending=True)[:3].sort()[0], torch.tensor([1, 2, 3]))
    bound = _noise(max_detections=3).around(_BOXES, labels, all_of_them)
    few = _noise().around(_BOXES, labels, best)
    at = few.sample(20).boxes
    torch.testing.assert_close(bound.log_prob(at), few.log_prob(at))
    torch.testing.assert_close(bound.reference[0], few.reference[0])
    unbound = _noise().around(_BOXES, labels, all_of_them).log_prob(at)[0]
    assert not torch.allclose(bound.log_prob(at)[0], unbound)


def test_detection_that_looks_backwards_is_turned():
    found = Detections(_BOXES[:1] + _SHIFTS[1:], torch.zeros(1, dtype=torch.int64))
    bound = _noise().around(_BOXES[:1], torch.zeros(1, dtype=torch.int64), [found])
    assert float(bound.reference[0, 6]) == pytest.approx(2.9 - 0.1)


def test_narrowed_noise_is_the_base_around_the_true_box():
    narrow = _bound().scale_std(0.1)
    labels = torch.zeros(2, dtype=torch.int64)
    expected = BoxNoise(_STDS).scale_std(0.1).around(_BOXES, labels)
    at = expected.sample(5).boxes
    torch.testing.assert_close(narrow.log_prob(at), expected.log_prob(at))


@pytest.mark.parametrize("count", [0, 1])
def test_few_boxes_and_no_detections_are_fine(count: int):
    labels = torch.zeros(count, dtype=torch.int64)
    none = Detections(_BOXES[:0], torch.zeros(0, dtype=torch.int64))
    bound = _noise().around(_BOXES[:count], labels, [none])
    samples = bound.sample(3)
    assert samples.boxes.shape == (count, 4, 7)
    assert samples.log_q.shape == (count, 4)
    assert bound.reference.shape == (count, 7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype):
    found = Detections((_BOXES[:1] + _SHIFTS).to(dtype), torch.zeros(2, dtype=torch.int64))
    bound = _noise().around(_BOXES.to(dtype), torch.zeros(2, dtype=torch.int64), [found])
    samples = bound.sample(4)
    assert samples.boxes.dtype == samples.log_q.dtype == bound.reference.dtype == dtype


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0.0}, r"share must be in \(0, 1\)"),
        ({"share": 1.0}, r"share must be in \(0, 1\)"),
        ({"share": "half"}, r"share must be in \(0, 1\)"),
        ({"width": 0.0}, "width must be positive"),
        ({"min_iou": 0.0}, r"min_iou must be in \(0, 1\]"),
        ({"max_detections": 0}, "max_detections must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        _noise(**options)


def test_detections_for_every_frame_are_needed():
    with pytest.raises(ValueError, match="detections must be a list of 1 frames, but got 0"):
        _noise().around(_BOXES, torch.zeros(2, dtype=torch.int64), [])


def test_detections_need_a_class_each():
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\)"):
        Detections(_BOXES, torch.zeros(1, dtype=torch.int64))


def test_detections_of_another_kind_are_refused():
    labels = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="detections must be a list of Detections, but got tuple"):
        _noise().around(_BOXES, labels, [(_BOXES, labels)])
    with pytest.raises(ValueError, match="detections must be a list of 1 frames, but got None"):
        _noise().around(_BOXES, labels, None)


def test_base_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="base must be a BoxNoise, but got DetectionNoise"):
        DetectionNoise(_noise())
