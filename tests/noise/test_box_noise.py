"""The laws of the noise: its density against scipy, its samples against its density.

A statistical test here fails by chance for one seed in 10,000; seeds are fixed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, stats
from scipy.special import logsumexp

from ebm3d.noise import BoxNoise, NoiseSamples

_STDS = (0.3, 0.2, 0.1, 0.08, 0.06, 0.05, 0.07)
_MULTIPLIERS = (0.5, 1.0, 2.0)
_BOX = (12.0, -4.0, -1.7, 4.2, 1.8, 1.5, 2.9)
_KINDS = [("box", "log"), ("world", "metric"), ("box", "metric"), ("world", "log")]
_P_VALUE = 1e-4


def _noise(axes: str = "box", sizes: str = "log", **options: Any) -> BoxNoise:
    return BoxNoise(_STDS, _MULTIPLIERS, axes=axes, sizes=sizes, **options)


def _samples(noise: BoxNoise, generator: torch.Generator, count: int = 4000) -> NoiseSamples:
    boxes = torch.tensor([_BOX], dtype=torch.float64)
    return noise.sample(boxes, torch.zeros(1, dtype=torch.int64), count, generator)


def _offsets_by_hand(box: Any, other: Any, axes: str, sizes: str) -> NDArray[np.float64]:
    """Drawn coordinates of boxes ``(S, 7)`` relative to one box, in numpy."""
    box, other = np.asarray(box, float), np.asarray(other, float)
    shift = other - box
    shift[:, 6] = np.angle(np.exp(1j * shift[:, 6]))
    if axes == "box":
        x, y = shift[:, 0].copy(), shift[:, 1].copy()
        shift[:, 0] = math.cos(box[6]) * x + math.sin(box[6]) * y
        shift[:, 1] = -math.sin(box[6]) * x + math.cos(box[6]) * y
    if sizes == "log":
        shift[:, 3:6] = np.log(other[:, 3:6] / box[3:6])
    return shift


def _log_density_by_scipy(box: Any, other: Any, axes: str, sizes: str) -> NDArray[np.float64]:
    """Mixture density in meters and radians: one Gaussian and one component at a time."""
    shift = _offsets_by_hand(box, other, axes, sizes)
    log_components = [
        sum(stats.norm(0, m * _STDS[d]).logpdf(shift[:, d]) for d in range(7)) for m in _MULTIPLIERS
    ]
    log_q = logsumexp(log_components, axis=0) - math.log(len(_MULTIPLIERS))
    if sizes == "log":  # du = ds / s
        log_q = log_q - np.log(np.asarray(other)[:, 3:6]).sum(axis=1)
    return log_q


@pytest.mark.parametrize(("axes", "sizes"), _KINDS)
def test_density_of_samples_is_the_mixture_by_scipy(
    axes: str, sizes: str, generator: torch.Generator
):
    drawn = _samples(_noise(axes, sizes), generator, 500)
    expected = _log_density_by_scipy(_BOX, drawn.boxes[0], axes, sizes)
    np.testing.assert_allclose(drawn.log_q[0], expected, atol=1e-9)


@pytest.mark.parametrize(("axes", "sizes"), _KINDS)
def test_density_anywhere_is_the_mixture_by_scipy(axes: str, sizes: str):
    boxes = torch.tensor([_BOX], dtype=torch.float64)
    other = boxes + 0.2 * torch.randn(300, 7, dtype=torch.float64)
    log_prob = _noise(axes, sizes).log_prob(boxes, other[None], torch.zeros(1, dtype=torch.int64))
    expected = _log_density_by_scipy(_BOX, other, axes, sizes)
    np.testing.assert_allclose(log_prob[0], expected, rtol=1e-10)


@pytest.mark.parametrize("dimension", range(7))
@pytest.mark.parametrize(("axes", "sizes"), _KINDS)
def test_density_integrates_to_one_in_every_dimension(axes: str, sizes: str, dimension: int):
    # One component, no turn: the density is a product, and its other six factors at the center are
    # Gaussian peaks, of a log size divided by the size.
    noise = BoxNoise(_STDS, (1.0,), axes=axes, sizes=sizes)
    box = torch.tensor([[*_BOX[:6], 0.0]], dtype=torch.float64)
    log_peak = 0.0
    for other in set(range(7)) - {dimension}:
        log_peak -= math.log(math.sqrt(2 * math.pi) * _STDS[other])
        if sizes == "log" and 3 <= other < 6:
            log_peak -= math.log(_BOX[other])

    def density(value: float) -> float:
        at = box.clone()[None]
        at[0, 0, dimension] = value
        log_prob = noise.log_prob(box, at, torch.zeros(1, dtype=torch.int64))
        return math.exp(float(log_prob) - log_peak)

    center = float(box[0, dimension])
    reach = 12 * _STDS[dimension] * (_BOX[dimension] if 3 <= dimension < 6 else 1)
    low = max(center - reach, 1e-6) if 3 <= dimension < 6 else center - reach
    mass, _ = integrate.quad(density, low, center + reach, points=[center], limit=200)
    assert mass == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("dimension", range(7))
@pytest.mark.parametrize(("axes", "sizes"), _KINDS)
def test_samples_fit_the_density_in_every_dimension(
    axes: str, sizes: str, dimension: int, generator: torch.Generator
):
    drawn = _samples(_noise(axes, sizes), generator)
    shift = _offsets_by_hand(_BOX, drawn.boxes[0, 1:], axes, sizes)[:, dimension]

    def cumulative(value: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = [stats.norm(0, m * _STDS[dimension]).cdf(value) for m in _MULTIPLIERS]
        return np.mean(parts, axis=0)

    assert stats.kstest(shift, cumulative).pvalue > _P_VALUE


def test_one_component_index_serves_all_dimensions(generator: torch.Generator):
    # With an index per dimension the squared radius would not be a mixture of three chi-squares.
    drawn = _samples(_noise(), generator)
    shift = _offsets_by_hand(_BOX, drawn.boxes[0, 1:], "box", "log")
    radius = ((shift / np.array(_STDS)) ** 2).sum(axis=1)

    def cumulative(value: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.mean([stats.chi2(7).cdf(value / m**2) for m in _MULTIPLIERS], axis=0)

    assert stats.kstest(radius, cumulative).pvalue > _P_VALUE


def test_log_q_of_samples_is_log_prob_at_them(
    generator: torch.Generator, random_boxes: NDArray[np.float64]
):
    boxes, labels = torch.from_numpy(random_boxes), torch.zeros(64, dtype=torch.int64)
    noise = _noise()
    drawn = noise.sample(boxes, labels, 20, generator)
    torch.testing.assert_close(drawn.log_q, noise.log_prob(boxes, drawn.boxes, labels))


def test_first_sample_is_the_true_box(
    generator: torch.Generator, random_boxes: NDArray[np.float64]
):
    boxes = torch.from_numpy(random_boxes)
    drawn = _noise().sample(boxes, torch.zeros(64, dtype=torch.int64), 5, generator)
    torch.testing.assert_close(drawn.boxes[:, 0], boxes, atol=0, rtol=1e-15)


def test_along_is_along_the_heading(generator: torch.Generator):
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1.5, math.pi / 2]], dtype=torch.float64)
    noise = BoxNoise((1.0, 1e-6, 0.1, 0.1, 0.1, 0.1, 0.1), (1.0,))
    drawn = noise.sample(boxes, torch.zeros(1, dtype=torch.int64), 200, generator).boxes[0]
    assert float(drawn[:, 0].abs().max()) < 1e-5
    assert float(drawn[:, 1].std()) > 0.8


def test_world_axes_do_not_turn_with_the_box(generator: torch.Generator):
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1.5, math.pi / 2]], dtype=torch.float64)
    noise = BoxNoise((1.0, 1e-6, 0.1, 0.1, 0.1, 0.1, 0.1), (1.0,), axes="world", sizes="metric")
    drawn = noise.sample(boxes, torch.zeros(1, dtype=torch.int64), 200, generator).boxes[0]
    assert float(drawn[:, 1].abs().max()) < 1e-5
    assert float(drawn[:, 0].std()) > 0.8


def test_log_sizes_are_positive_however_wide_the_noise(generator: torch.Generator):
    noise = BoxNoise((0.3, 0.2, 0.1, 3.0, 3.0, 3.0, 0.1))
    assert bool((_samples(noise, generator).boxes[..., 3:6] > 0).all())


def test_metric_sizes_are_clamped_after_the_density_was_taken(generator: torch.Generator):
    noise = BoxNoise((0.3, 0.2, 0.1, 4.0, 4.0, 4.0, 0.1), (1.0,), sizes="metric", min_size=0.05)
    drawn = _samples(noise, generator)
    clamped = (drawn.boxes[0] == 0.05).any(dim=1)
    assert int(clamped.sum()) > 100
    again = noise.log_prob(
        torch.tensor([_BOX], dtype=torch.float64), drawn.boxes, torch.zeros(1, dtype=torch.int64)
    )
    # The unclamped offset was larger, its density smaller.
    assert bool((again[0][clamped] > drawn.log_q[0][clamped]).all())
    torch.testing.assert_close(again[0][~clamped], drawn.log_q[0][~clamped])


def test_yaw_of_samples_is_wrapped(generator: torch.Generator):
    yaw = _samples(BoxNoise((0.1,) * 6 + (1.0,)), generator).boxes[..., 6]
    assert float(yaw.max()) <= math.pi
    assert float(yaw.min()) > -math.pi


def test_density_sees_the_yaw_difference_the_short_way_round():
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1.5, 3.12]], dtype=torch.float64)
    near = boxes.clone()
    near[:, 6] = -3.12
    labels = torch.zeros(1, dtype=torch.int64)
    for axes, sizes in _KINDS:
        noise = _noise(axes, sizes)
        peak, beside = noise.log_prob(boxes, torch.stack((boxes, near), dim=1), labels)[0]
        assert float(peak - beside) < 2.0


def test_shared_noise_moves_all_boxes_of_a_frame_alike(
    generator: torch.Generator, random_boxes: NDArray[np.float64]
):
    boxes, labels = torch.from_numpy(random_boxes), torch.zeros(64, dtype=torch.int64)
    noise = _noise("world", "metric", shared_in_scene=True)
    drawn = noise.sample(boxes, labels, 7, generator)
    shift = drawn.boxes[..., :3] - boxes[:, None, :3]
    torch.testing.assert_close(shift, shift[:1].expand_as(shift))
    torch.testing.assert_close(drawn.log_q, drawn.log_q[:1].expand_as(drawn.log_q))


def test_noise_of_different_boxes_is_independent(
    generator: torch.Generator, random_boxes: NDArray[np.float64]
):
    boxes, labels = torch.from_numpy(random_boxes), torch.zeros(64, dtype=torch.int64)
    shift = _noise("world").sample(boxes, labels, 50, generator).boxes[..., 2] - boxes[:, None, 2]
    correlation = np.corrcoef(shift[:, 1:])
    # Fifty samples: standard error of a correlation 1 / sqrt(50); 2016 pairs, five of them allowed.
    assert np.abs(correlation - np.eye(64)).max() < 5 / math.sqrt(50)


def test_class_picks_the_row(generator: torch.Generator):
    table = [[1e-3] * 7, [0.1] * 7]
    boxes = torch.tensor([_BOX, _BOX], dtype=torch.float64)
    drawn = BoxNoise(table, (1.0,)).sample(boxes, torch.tensor([1, 0]), 400, generator)
    spread = (drawn.boxes[:, 1:, 2] - _BOX[2]).std(dim=1)
    # Standard error of a standard deviation of 400 samples: 1 / sqrt(800), five of them.
    torch.testing.assert_close(
        spread, torch.tensor([0.1, 1e-3], dtype=torch.float64), rtol=5 / math.sqrt(800), atol=0
    )


def test_wider_component_has_the_larger_multiplier(generator: torch.Generator):
    narrow = _samples(BoxNoise(_STDS, (0.1,)), generator).boxes[0, :, 2].std()
    wide = _samples(BoxNoise(_STDS, (2.0,)), generator).boxes[0, :, 2].std()
    assert float(wide / narrow) == pytest.approx(20.0, rel=0.2)


def test_same_generator_state_gives_the_same_samples_and_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    first, second = (_samples(_noise(), torch.Generator().manual_seed(3), 10) for _ in range(2))
    assert torch.equal(first.boxes, second.boxes)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept_and_input_unchanged(dtype: torch.dtype, generator: torch.Generator):
    boxes = torch.tensor([_BOX, _BOX], dtype=dtype)
    before = boxes.clone()
    drawn = _noise().sample(boxes, torch.zeros(2, dtype=torch.int64), 3, generator)
    assert drawn.boxes.dtype == drawn.log_q.dtype == dtype
    assert drawn.boxes.shape == (2, 4, 7)
    assert drawn.log_q.shape == (2, 4)
    assert torch.equal(boxes, before)


@pytest.mark.parametrize("shared", [False, True])
def test_no_boxes_give_no_samples(shared: bool, generator: torch.Generator):
    drawn = _noise(shared_in_scene=shared).sample(
        torch.zeros(0, 7), torch.zeros(0, dtype=torch.int64), 5, generator
    )
    assert drawn.boxes.shape == (0, 6, 7)
    assert drawn.log_q.shape == (0, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stds": (0.1,) * 6}, r"\(7,\) or \(num_classes, 7\)"),
        ({"stds": (0.1,) * 6 + (0.0,)}, "stds must be positive"),
        ({"stds": (0.1,) * 6 + (math.nan,)}, "stds must be positive"),
        ({"multipliers": ()}, "multipliers must be positive"),
        ({"multipliers": (1.0, -1.0)}, "multipliers must be positive"),
        ({"multipliers": 3.0}, r"multipliers must have shape \(K,\)"),
        ({"stds": "wide"}, "stds must be numbers"),
        ({"stds": [[0.1] * 7, [0.1] * 6]}, "stds must be numbers"),
        ({"min_size": None}, "min_size must be positive"),
        ({"axes": "camera"}, "axes must be one of"),
        ({"sizes": "linear"}, "sizes must be one of"),
    ],
)
def test_constants_out_of_range_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        BoxNoise(**{"stds": _STDS, **options})


@pytest.mark.parametrize(
    ("column", "value"), [(3, 0.0), (5, -1.0), (4, math.nan), (0, math.inf), (6, math.nan)]
)
def test_unsound_true_boxes_are_refused_by_number(column: int, value: float):
    boxes = torch.tensor([_BOX, _BOX, _BOX])
    boxes[1, column] = value
    with pytest.raises(ValueError, match=r"finite, of positive size.*boxes\[1\]"):
        _noise().sample(boxes, torch.zeros(3, dtype=torch.int64), 5)


@pytest.mark.parametrize("label", [-1, 2])
def test_label_without_a_row_is_refused(label: int):
    noise = BoxNoise([_STDS, _STDS])
    with pytest.raises(ValueError, match="labels must be from 0 to 1"):
        noise.sample(torch.tensor([_BOX]), torch.tensor([label]), 5)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 7), (2, 4, 7), (1,)), "labels must have shape"),
        (((2, 7), (1, 4, 7), (2,)), "samples must have shape"),
        (((2, 7), (2, 7), (2,)), "samples must have shape"),
        (((2, 7), (2, 4, 9), (2,)), "samples must have shape"),
        (((2, 9), (2, 4, 7), (2,)), "boxes must have shape"),
    ],
)
def test_log_density_of_other_shapes_is_refused(shapes: Any, message: str):
    boxes, samples, labels = shapes
    with pytest.raises(ValueError, match=message):
        _noise().log_prob(
            torch.ones(boxes), torch.ones(samples), torch.zeros(labels, dtype=torch.int64)
        )


def test_no_noise_samples_are_refused():
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        _noise().sample(torch.tensor([_BOX]), torch.zeros(1, dtype=torch.int64), 0)


@pytest.mark.parametrize("kind", [torch.float32, torch.bool])
def test_labels_that_are_no_indices_are_refused(kind: torch.dtype):
    noise, labels = BoxNoise([_STDS, _STDS]), torch.zeros(1).to(kind)
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        noise.sample(torch.tensor([_BOX]), labels, 5)


def test_units_of_boxes_and_labels_that_do_not_fit_are_refused():
    noise = BoxNoise(_STDS, axes="world", sizes="metric")
    with pytest.raises(ValueError, match=r"labels must have shape \(1,\)"):
        noise.noise_std(torch.tensor([_BOX]), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"boxes must have shape \(N, 7\)"):
        noise.noise_std(torch.tensor([_BOX])[:, :6], torch.zeros(1, dtype=torch.int64))
