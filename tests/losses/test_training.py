"""What every training method on boxes has in common, and each on an energy of known form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ebm3d.boxes.codings import LocalCoding
from ebm3d.losses import (
    ConfidenceLoss,
    DSMLoss,
    KLDISLoss,
    MLISLoss,
    MLMCMCLoss,
    NCELoss,
    NCEPlusLoss,
    ScoreMatchingLoss,
    SNLLoss,
    kldis_loss,
    log_normalizer,
    mlis_loss,
    nce_loss,
    snl_loss,
)
from ebm3d.noise import BoxNoise
from tests.losses.examples import (
    LOG_2PI,
    METHODS,
    MOVING_STDS,
    STDS,
    FixedNoise,
    ResidualEnergy,
    SmallEnergy,
    fixed_noise,
    quadratic,
    random_boxes,
)

# Their evaluations train a proposal.
_SHARING = {"nce", "nce+", "conditional nce", "ml-is", "kld-is", "snl"}
every_method = pytest.mark.parametrize("name", METHODS)
with_and_without_velocity = pytest.mark.parametrize("columns", [7, 9])


def _labels(count: int) -> Tensor:
    return torch.arange(count) % 2


def _method(name: str, dtype: torch.dtype = torch.float64) -> Any:
    method = METHODS[name]()
    return method.to(dtype) if isinstance(method, nn.Module) else method


def _noise(count: int = 4, num_samples: int = 64, columns: int = 7) -> FixedNoise:
    noise = BoxNoise([row[:columns] for row in MOVING_STDS])
    boxes = random_boxes(count, columns)
    return fixed_noise(boxes, _labels(count), noise, num_samples)


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [4, 0])
def test_loss_is_one_finite_number_per_box_in_the_dtype_of_the_boxes(
    name: str, dtype: torch.dtype, count: int
):
    boxes, labels = random_boxes(count).to(dtype), _labels(count)
    f = SmallEnergy(labels, dtype)
    result = _method(name, dtype)(f, BoxNoise(STDS).around(boxes, labels))
    for value in (result.per_box, *result.logged.values()):
        assert value.shape == (count,)
        assert value.dtype == dtype
        assert bool(torch.isfinite(value).all())
    assert all(not value.requires_grad for value in result.logged.values())


@every_method
@with_and_without_velocity
def test_gradient_reaches_every_parameter_of_f_but_a_constant(name: str, columns: int):
    labels, f = _labels(4), SmallEnergy(_labels(4), columns=columns)
    noise = BoxNoise([row[:columns] for row in MOVING_STDS])
    result = _method(name)(f, noise.around(random_boxes(4, columns), labels))
    assert result.per_box.shape == (4,)
    result.per_box.sum().backward()
    *inner, constant = f.parameters()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in inner)
    if name in ("nce", "nce+", "conditional nce", "ml-is", "ml-mcmc"):
        assert float(constant.grad.abs()) < 1e-12


@every_method
def test_method_says_what_it_returns(name: str):
    labels, f, method = _labels(4), SmallEnergy(_labels(4)), _method(name)
    result = method(f, BoxNoise(STDS).around(random_boxes(4), labels))
    assert method.is_density == (name != "confidence")
    assert method.returns_samples == (name in _SHARING)
    assert (result.samples is not None) == (result.f is not None) == (name in _SHARING)
    if result.samples is not None:
        torch.testing.assert_close(result.f, f(result.samples.boxes).detach())
        assert not result.f.requires_grad
        assert result.samples.boxes.shape == (4, 17, 7)


@every_method
def test_loss_is_that_of_the_generator_of_the_noise_and_of_nothing_else(name: str):
    labels, boxes = _labels(4), random_boxes(4)
    method, f = _method(name), SmallEnergy(labels)
    state = torch.get_rng_state()

    def loss(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        noise = BoxNoise(STDS).around(boxes, labels, generator=generator)
        return method(f, noise).per_box.detach()

    first = loss(1)
    torch.testing.assert_close(loss(1), first, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    if name != "exact score matching":
        assert not torch.allclose(loss(2), first, rtol=1e-6)


def test_likelihoods_on_boxes_are_the_functions_at_the_samples():
    noise = _noise()
    f, drawn = SmallEnergy(noise.labels), noise.drawn
    values = f(drawn.boxes)
    true, others, log_q = values[:, 0], values[:, 1:], drawn.log_q[:, 1:]
    kldis, snl = KLDISLoss(64, 0.3), SNLLoss(8, 64).double()
    log_p = kldis.target_log_prob(noise, drawn.boxes[:, 1:])
    b = snl.log_normalizer(f, noise.reference, noise.noise_std)
    for method, expected in (
        (NCELoss(64), nce_loss(values, drawn.log_q)),
        (MLISLoss(64), mlis_loss(true, others, log_q)),
        (kldis, kldis_loss(others, log_q, log_p)),
        (snl, snl_loss(true, others, log_q, b)),
    ):
        torch.testing.assert_close(method(f, noise).per_box, expected)
    error = snl(f, noise).logged["normalizer_error"]
    torch.testing.assert_close(error, (b - log_normalizer(others, log_q)).abs().detach())


@pytest.mark.parametrize(("scales", "factor"), [("std", 0.25), ("variance", 0.5)])
def test_perturbed_positive_has_the_density_of_the_wide_noise(scales: str, factor: float):
    noise = _noise()
    f = SmallEnergy(noise.labels)
    result = NCEPlusLoss(0.25, scales, 64)(f, noise)
    assert noise.factor == factor
    boxes, log_q = result.samples.boxes, result.samples.log_q
    torch.testing.assert_close(boxes[:, 1:], noise.drawn.boxes[:, 1:])
    torch.testing.assert_close(log_q, noise.log_prob(boxes))
    torch.testing.assert_close(result.per_box, nce_loss(f(boxes), log_q))
    offsets = (boxes[:, 0, 2] - noise.boxes[:, 2]).abs()
    assert bool((offsets > 0).all())
    assert bool((offsets < 5 * 2 * factor * noise.noise_std[:, 2]).all())


@with_and_without_velocity
def test_target_of_the_divergence_is_the_noise_of_one_component_made_narrower(columns: int):
    noise = _noise(num_samples=4000, columns=columns)
    boxes, log_q = noise.drawn.boxes, noise.drawn.log_q
    alone = BoxNoise((0.3 * noise.noise.stds).tolist(), multipliers=(1.0,))
    expected = alone.log_prob(noise.boxes, boxes, noise.labels)
    log_p = KLDISLoss(target_std=0.3).target_log_prob(noise, boxes)
    torch.testing.assert_close(log_p, expected)
    # Weights of the default are at most the number of components.
    weights = torch.exp(KLDISLoss().target_log_prob(noise, boxes) - log_q)
    assert 2 < float(weights.max()) <= 3


@with_and_without_velocity
def test_likelihoods_recover_the_normalizer_of_a_gaussian_energy(columns: int):
    # h = -|t|^2 / 2: log Z = D/2 log 2 pi, whatever the boxes and units.
    noise = _noise(2, 20_000, columns)
    f = ResidualEnergy(noise, quadratic(1.0))
    result = MLISLoss(20_000)(f, noise)
    log_z = result.per_box + result.f[:, 0]
    weights = torch.exp(result.f - result.samples.log_q)[:, 1:]
    error = weights.std(dim=1) / weights.mean(dim=1) / math.sqrt(20_000)
    assert bool(((log_z - columns / 2 * LOG_2PI).abs() < 5 * error).all())
    share = result.logged["effective_share"]
    torch.testing.assert_close(share, weights.sum(1).square() / weights.square().sum(1) / 20_000)


@with_and_without_velocity
def test_chains_reach_the_variance_of_a_quadratic_in_units_of_the_noise(columns: int):
    # On h = -k/2 |t|^2: t' = a t + lambda eps, so that the variance after L steps from the true
    # box is lambda^2 (1 - a^(2 L)) / (1 - a^2), a = 1 - k lambda^2 / 2.
    noise, step, steps, num = _noise(2, columns=columns), 0.5, 6, 3000
    f = ResidualEnergy(noise, quadratic(2.0))
    result = MLMCMCLoss(steps, step, num)(f, noise)
    a = 1 - step**2
    variance = step**2 * (1 - a ** (2 * steps)) / (1 - a**2)
    mean_square = result.logged["displacement"].square()
    assert bool(((mean_square / variance - 1).abs() < 5 * math.sqrt(2 / (columns * num))).all())
    torch.testing.assert_close(result.per_box, -columns * mean_square)


@pytest.mark.parametrize(
    "name", ["ml-mcmc", "exact score matching", "sliced score matching", "dsm"]
)
def test_f_without_a_graph_is_refused_where_its_gradient_is_needed(name: str):
    # The volume of the residuals has a graph, and would be learned from alone.
    with pytest.raises(ValueError, match="f must be differentiable in boxes"):
        METHODS[name]()(lambda boxes: boxes.detach().sum(-1), _noise())


@with_and_without_velocity
def test_score_matching_at_the_true_box_is_that_of_the_residuals(columns: int):
    noise = _noise(3, columns=columns)
    mean = torch.linspace(-0.5, 0.9, columns, dtype=torch.float64)
    f = ResidualEnergy(noise, quadratic(1.7, mean))
    expected = (-columns * 1.7 + 0.5 * 1.7**2 * mean.square().sum()).expand(3)
    torch.testing.assert_close(ScoreMatchingLoss()(f, noise).per_box, expected)
    torch.testing.assert_close(ScoreMatchingLoss("sliced")(f, noise).per_box, expected)


@pytest.mark.parametrize("std", [0.3, 1.0])
@with_and_without_velocity
def test_denoising_loss_is_zero_at_the_density_of_the_perturbation(std: float, columns: int):
    noise = _noise(3, columns=columns)
    loss = DSMLoss(std)(ResidualEnergy(noise, quadratic(1 / std**2)), noise).per_box
    torch.testing.assert_close(loss, torch.zeros_like(loss), atol=1e-18, rtol=0)


@with_and_without_velocity
def test_normalizer_starts_as_that_of_a_gaussian_of_the_noise_with_its_peak_at_zero(columns: int):
    noise = _noise(3, columns=columns)
    f = ResidualEnergy(noise, quadratic(1.0))
    b = SNLLoss(1).double().log_normalizer(f, noise.boxes, noise.noise_std)
    # Raised by the log volume at the true box, f is zero there and log Z grows by as much.
    expected = columns / 2 * LOG_2PI - f(noise.boxes[:, None])[:, 0]
    torch.testing.assert_close(b, expected)


def test_learned_normalizer_is_the_known_one_of_each_class():
    # f = log N(t) + c by class, in meters and raised by the log volume at the true box.
    noise = _noise(6, 4000)
    noise.reference = noise.boxes  # the volume there is then known without error
    volume = LocalCoding(noise.boxes, noise.noise_std).log_volume(noise.boxes)
    known = torch.tensor([2.0, -1.0], dtype=torch.float64)[noise.labels] + volume
    f = ResidualEnergy(noise, lambda t: quadratic(1.0)(t) + (known - 3.5 * LOG_2PI)[:, None])
    snl = SNLLoss(1, 4000, (16,)).double()
    optimizer = torch.optim.LBFGS(snl.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = snl(f, noise).per_box.mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    b = snl.log_normalizer(f, noise.reference, noise.noise_std).detach()
    weights = torch.exp(f(noise.drawn.boxes) - noise.drawn.log_q)[:, 1:]
    error = weights.std(dim=1) / weights.mean(dim=1) / math.sqrt(4000)
    assert float(error.max()) < 0.05
    assert bool(((b - known).abs() < 5 * error).all())


def test_normalizer_sees_the_true_box_by_the_reference_alone():
    metric = BoxNoise(STDS, axes="world", sizes="metric")
    noise, other = (fixed_noise(random_boxes(4), _labels(4), metric) for _ in "ab")
    other.reference = noise.reference
    snl = SNLLoss(1, 64).double()
    torch.nn.init.normal_(snl.network[-1].weight)  # type: ignore[arg-type]
    f = ResidualEnergy(noise, quadratic(1.0))
    b = snl.log_normalizer(f, noise.reference, metric.noise_std(noise.reference, noise.labels))
    for bound in (noise, other):
        sampled = log_normalizer(f(bound.drawn.boxes)[:, 1:], bound.drawn.log_q[:, 1:])
        error = snl(f, bound).logged["normalizer_error"]
        torch.testing.assert_close(error, (b.detach() - sampled).abs())


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("num_noise_samples", lambda: NCELoss(0)),
        ("beta", lambda: NCEPlusLoss(0.0)),
        ("beta_scales", lambda: NCEPlusLoss(beta_scales="sigma")),
        ("num_noise_samples", lambda: MLISLoss(0)),
        ("num_noise_samples", lambda: KLDISLoss(0)),
        ("target_std", lambda: KLDISLoss(target_std=math.inf)),
        ("num_chains", lambda: MLMCMCLoss(num_chains=0)),
        ("step_size", lambda: MLMCMCLoss(step_size=-1.0)),
        ("kind", lambda: ScoreMatchingLoss("hutchinson")),
        ("num_slices", lambda: ScoreMatchingLoss("sliced", 0)),
        ("num_slices", lambda: ScoreMatchingLoss(num_slices=1)),
        ("std", lambda: DSMLoss(0.0)),
        ("num_noise_samples", lambda: DSMLoss(num_noise_samples=0)),
        ("num_noise_samples", lambda: SNLLoss(8, 0)),
        ("in_channels", lambda: SNLLoss(-5)),
        ("hidden_channels", lambda: SNLLoss(8, hidden_channels=16)),
        ("num_noise_samples", lambda: ConfidenceLoss(num_noise_samples=0)),
    ],
)
def test_constants_out_of_range_are_refused(name: str, make: Callable[[], Any]):
    with pytest.raises(ValueError, match=f"{name} must be"):
        make()
