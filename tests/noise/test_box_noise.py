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
_MOVING_STDS = (*_STDS, 1.1, 0.3)
_MULTIPLIERS = (0.5, 1.0, 2.0)
_BOX = (12.0, -4.0, -1.7, 4.2, 1.8, 1.5, 2.9)
_MOVING_BOX = (*_BOX, -6.0, 2.5)
_KINDS = [("box", "log"), ("world", "metric"), ("box", "metric"), ("world", "log")]
_P_VALUE = 1e-4
_ZERO = torch.zeros(1, dtype=torch.int64)

every_kind = pytest.mark.parametrize(("axes", "sizes"), _KINDS)
with_and_without_velocity = pytest.mark.parametrize("columns", [7, 9])


def _noise(axes: str = "box", sizes: str = "log", columns: int = 7, **options: Any) -> BoxNoise:
    return BoxNoise(_MOVING_STDS[:columns], _MULTIPLIERS, axes=axes, sizes=sizes, **options)


def _samples(noise: BoxNoise, generator: torch.Generator, count: int = 4000) -> NoiseSamples:
    box = torch.tensor([_MOVING_BOX[: noise.num_columns]], dtype=torch.float64)
    return noise.sample(box, _ZERO, count, generator)


def _offsets_by_hand(other: Any, axes: str, sizes: str) -> NDArray[np.float64]:
    """Drawn coordinates of boxes ``(S, D)`` relative to the box, in numpy."""
    other = np.asarray(other, float)
    box = np.asarray(_MOVING_BOX[: other.shape[1]])
    shift = other - box
    shift[:, 6] = np.angle(np.exp(1j * shift[:, 6]))
    for first in range(0, len(box), 7) if axes == "box" else ():  # x and y, vx and vy
        x, y = shift[:, first].copy(), shift[:, first + 1].copy()
        shift[:, first] = math.cos(box[6]) * x + math.sin(box[6]) * y
        shift[:, first + 1] = -math.sin(box[6]) * x + math.cos(box[6]) * y
    if sizes == "log":
        shift[:, 3:6] = np.log(other[:, 3:6] / box[3:6])
    return shift


def _log_density_by_scipy(other: Any, axes: str, sizes: str) -> NDArray[np.float64]:
    """Mixture density in meters and radians: one Gaussian and one component at a time."""
    shift = _offsets_by_hand(other, axes, sizes)
    stds = _MOVING_STDS[: shift.shape[1]]
    log_components = [
        sum(stats.norm(0, m * s).logpdf(shift[:, d]) for d, s in enumerate(stds))
        for m in _MULTIPLIERS
    ]
    log_q = logsumexp(log_components, axis=0) - math.log(len(_MULTIPLIERS))
    if sizes == "log":  # du = ds / s
        log_q = log_q - np.log(np.asarray(other)[:, 3:6]).sum(axis=1)
    return log_q


@every_kind
@with_and_without_velocity
def test_density_is_the_mixture_by_scipy(
    axes: str, sizes: str, columns: int, generator: torch.Generator
):
    noise = _noise(axes, sizes, columns)
    drawn = _samples(noise, generator, 500)
    expected = _log_density_by_scipy(drawn.boxes[0], axes, sizes)
    np.testing.assert_allclose(drawn.log_q[0], expected, atol=1e-9)
    boxes = torch.tensor([_MOVING_BOX[:columns]], dtype=torch.float64)
    other = boxes + 0.2 * torch.randn(300, columns, dtype=torch.float64)
    expected = _log_density_by_scipy(other, axes, sizes)
    np.testing.assert_allclose(noise.log_prob(boxes, other[None], _ZERO)[0], expected, rtol=1e-10)


@pytest.mark.parametrize("dimension", [0, 4, 6, 7, 8])
@every_kind
def test_density_integrates_to_one(axes: str, sizes: str, dimension: int):
    # One component, yaw 0: the density is a product, and its other factors at the center are
    # Gaussian peaks, of a log size divided by the size.
    columns = 9 if dimension > 6 else 7
    noise = BoxNoise(_MOVING_STDS[:columns], (1.0,), axes=axes, sizes=sizes)
    box = torch.tensor([_MOVING_BOX[:columns]], dtype=torch.float64)
    box[:, 6] = 0
    log_peak = 0.0
    for other in set(range(columns)) - {dimension}:
        log_peak -= math.log(math.sqrt(2 * math.pi) * _MOVING_STDS[other])
        if sizes == "log" and 3 <= other < 6:
            log_peak -= math.log(_BOX[other])

    def density(value: float) -> float:
        at = box.clone()[None]
        at[0, 0, dimension] = value
        return math.exp(float(noise.log_prob(box, at, _ZERO)) - log_peak)

    center = float(box[0, dimension])
    reach = 12 * _MOVING_STDS[dimension] * (_BOX[dimension] if dimension == 4 else 1)
    mass, _ = integrate.quad(density, center - reach, center + reach, points=[center], limit=200)
    assert mass == pytest.approx(1.0, abs=1e-6)


@every_kind
@with_and_without_velocity
def test_samples_fit_the_density(axes: str, sizes: str, columns: int, generator: torch.Generator):
    drawn = _samples(_noise(axes, sizes, columns), generator)
    shift = _offsets_by_hand(drawn.boxes[0, 1:], axes, sizes) / np.array(_MOVING_STDS[:columns])

    def marginal(value: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.mean([stats.norm(0, m).cdf(value) for m in _MULTIPLIERS], axis=0)

    for dimension in range(columns):
        assert stats.kstest(shift[:, dimension], marginal).pvalue > _P_VALUE

    # With a component index per dimension this would not be a mixture of three chi-squares.
    def radius(value: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.mean([stats.chi2(columns).cdf(value / m**2) for m in _MULTIPLIERS], axis=0)

    assert stats.kstest((shift**2).sum(axis=1), radius).pvalue > _P_VALUE


def test_first_sample_is_the_true_box_and_log_q_is_log_prob(
    generator: torch.Generator, random_boxes: NDArray[np.float64]
):
    boxes, labels = torch.from_numpy(random_boxes), torch.zeros(64, dtype=torch.int64)
    drawn = _noise().sample(boxes, labels, 20, generator)
    torch.testing.assert_close(drawn.boxes[:, 0], boxes, atol=0, rtol=1e-15)
    torch.testing.assert_close(drawn.log_q, _noise().log_prob(boxes, drawn.boxes, labels))


@pytest.mark.parametrize(("axes", "wide"), [("box", 1), ("world", 0)])
def test_along_is_along_the_heading_or_along_x(axes: str, wide: int, generator: torch.Generator):
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1.5, math.pi / 2, 0, 0]], dtype=torch.float64)
    noise = BoxNoise((1.0, 1e-6, 0.1, 0.1, 0.1, 0.1, 0.1, 1.0, 1e-6), (1.0,), axes=axes)
    drawn = noise.sample(boxes, _ZERO, 200, generator).boxes[0]
    for pair in (drawn[:, :2], drawn[:, 7:]):
        assert float(pair[:, wide].std()) > 0.8
        assert float(pair[:, 1 - wide].abs().max()) < 1e-5


def test_log_sizes_are_positive_and_yaws_wrapped_however_wide_the_noise(generator: torch.Generator):
    boxes = _samples(BoxNoise((0.3, 0.2, 0.1, 3.0, 3.0, 3.0, 1.0)), generator).boxes
    assert bool((boxes[..., 3:6] > 0).all())
    assert float(boxes[..., 6].max()) <= math.pi
    assert float(boxes[..., 6].min()) > -math.pi


def test_metric_sizes_are_clamped_after_the_density_was_taken(generator: torch.Generator):
    noise = BoxNoise((0.3, 0.2, 0.1, 4.0, 4.0, 4.0, 0.1), (1.0,), sizes="metric", min_size=0.05)
    drawn = _samples(noise, generator)
    clamped = (drawn.boxes[0] == 0.05).any(dim=1)
    assert 100 < int(clamped.sum()) < 4000
    again = noise.log_prob(torch.tensor([_BOX], dtype=torch.float64), drawn.boxes, _ZERO)
    # The unclamped offset was larger, its density smaller.
    assert bool((again[0][clamped] > drawn.log_q[0][clamped]).all())
    torch.testing.assert_close(again[0][~clamped], drawn.log_q[0][~clamped])


@every_kind
def test_density_takes_the_wrapped_yaw_difference(axes: str, sizes: str):
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1.5, 3.12]], dtype=torch.float64)
    near = boxes.clone()
    near[:, 6] = -3.12
    variants = torch.stack((boxes, near), dim=1)
    peak, beside = _noise(axes, sizes).log_prob(boxes, variants, _ZERO)[0]
    assert float(peak - beside) < 2.0


def test_shared_noise_moves_all_boxes_of_a_frame_by_the_same_offsets(
    generator: torch.Generator, random_boxes: NDArray[np.float64]
):
    boxes, labels = torch.from_numpy(random_boxes), torch.zeros(64, dtype=torch.int64)
    drawn = _noise("world", "metric").shared().sample(boxes, labels, 7, generator)
    shift = drawn.boxes[..., :3] - boxes[:, None, :3]
    torch.testing.assert_close(shift, shift[:1].expand_as(shift))
    torch.testing.assert_close(drawn.log_q, drawn.log_q[:1].expand_as(drawn.log_q))


def test_noise_of_different_boxes_is_independent(
    generator: torch.Generator, random_boxes: NDArray[np.float64]
):
    boxes, labels = torch.from_numpy(random_boxes), torch.zeros(64, dtype=torch.int64)
    shift = _noise("world").sample(boxes, labels, 50, generator).boxes[..., 2] - boxes[:, None, 2]
    correlation = np.corrcoef(shift[:, 1:])
    # Fifty samples: standard error of a correlation 1 / sqrt(50); the largest of 2016 within five.
    assert np.abs(correlation - np.eye(64)).max() < 5 / math.sqrt(50)


def test_class_picks_the_row(generator: torch.Generator):
    table = [[1e-3] * 7, [0.1] * 7]
    boxes = torch.tensor([_BOX, _BOX], dtype=torch.float64)
    noise, labels = BoxNoise(table, (1.0,)), torch.tensor([1, 0])
    torch.testing.assert_close(noise.noise_std(boxes, labels), noise.stds[[1, 0]])
    drawn = noise.sample(boxes, labels, 400, generator)
    spread = (drawn.boxes[:, 1:, 2] - _BOX[2]).std(dim=1)
    # Standard error of a standard deviation of 400 samples: 1 / sqrt(800), five of them.
    torch.testing.assert_close(spread, noise.stds[[1, 0], 2], rtol=5 / math.sqrt(800), atol=0)


def test_same_generator_state_gives_the_same_samples_and_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    first, second = (_samples(_noise(), torch.Generator().manual_seed(3), 10) for _ in range(2))
    assert torch.equal(first.boxes, second.boxes)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("count", "shared"), [(2, False), (0, False), (0, True)])
def test_shapes_and_dtype_are_kept_and_input_unchanged(
    dtype: torch.dtype, count: int, shared: bool, generator: torch.Generator
):
    boxes = torch.tensor([_BOX], dtype=dtype).repeat(count, 1)
    before, labels = boxes.clone(), torch.zeros(count, dtype=torch.int64)
    drawn = _noise(shared_in_scene=shared).sample(boxes, labels, 3, generator)
    assert drawn.boxes.dtype == drawn.log_q.dtype == dtype
    assert drawn.boxes.shape == (count, 4, 7)
    assert drawn.log_q.shape == (count, 4)
    assert torch.equal(boxes, before)


def test_constants_first_used_in_inference_mode_take_part_in_gradients():
    noise = BoxNoise([s * 1.01 for s in _STDS])
    boxes = torch.tensor([_BOX])
    with torch.inference_mode():
        noise.sample(boxes, _ZERO, 2)
    at = boxes[:, None].clone().requires_grad_()
    noise.log_prob(boxes, at, _ZERO).sum().backward()
    assert at.grad is not None


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"stds": (0.1,) * 6}, "stds"),
        ({"stds": (0.1,) * 8}, "stds"),
        ({"stds": (0.1,) * 6 + (0.0,)}, "stds"),
        ({"stds": (0.1,) * 6 + (math.nan,)}, "stds"),
        ({"stds": "wide"}, "stds"),
        ({"stds": [[0.1] * 7, [0.1] * 6]}, "stds"),
        ({"multipliers": ()}, "multipliers"),
        ({"multipliers": (1.0, -1.0)}, "multipliers"),
        ({"multipliers": 3.0}, "multipliers"),
        ({"min_size": None}, "min_size"),
        ({"axes": "camera"}, "axes"),
        ({"sizes": "linear"}, "sizes"),
    ],
)
def test_constants_out_of_range_are_refused(options: dict[str, Any], name: str):
    with pytest.raises(ValueError, match=f"^{name} must"):
        BoxNoise(**{"stds": _STDS, **options})


@pytest.mark.parametrize(
    ("column", "value"), [(3, 0.0), (5, -1.0), (4, math.nan), (0, math.inf), (8, math.nan)]
)
def test_invalid_true_boxes_are_refused_by_number(column: int, value: float):
    boxes = torch.tensor([_MOVING_BOX] * 3)
    boxes[1, column] = value
    with pytest.raises(ValueError, match=r"boxes\[1\]"):
        _noise(columns=9).sample(boxes, torch.zeros(3, dtype=torch.int64), 5)


@pytest.mark.parametrize(("columns", "remedy"), [(7, r"boxes\[:, :7\]"), (9, "append vx and vy")])
def test_boxes_of_other_columns_than_the_stds_are_refused(columns: int, remedy: str):
    with pytest.raises(ValueError, match=rf"^boxes must have shape \(N, {columns}\).*{remedy}"):
        _noise(columns=columns).sample(torch.ones(2, 16 - columns), torch.zeros(2).long(), 5)


@pytest.mark.parametrize(
    "labels", [torch.tensor([-1]), torch.tensor([2]), torch.zeros(1), torch.zeros(1).bool()]
)
def test_labels_that_are_no_row_are_refused(labels: torch.Tensor):
    with pytest.raises(ValueError, match=r"^labels must"):
        BoxNoise([_STDS, _STDS]).sample(torch.tensor([_BOX]), labels, 5)


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        (((2, 7), (2, 4, 7), (1,)), "labels"),
        (((2, 7), (1, 4, 7), (2,)), "samples"),
        (((2, 7), (2, 7), (2,)), "samples"),
        (((2, 9), (2, 4, 7), (2,)), "boxes"),
    ],
)
def test_log_density_of_other_shapes_is_refused(shapes: Any, name: str):
    boxes, samples, labels = shapes
    with pytest.raises(ValueError, match=f"^{name} must have shape"):
        _noise().log_prob(
            torch.ones(boxes), torch.ones(samples), torch.zeros(labels, dtype=torch.int64)
        )


def test_no_noise_samples_are_refused():
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        _noise().sample(torch.tensor([_BOX]), _ZERO, 0)
