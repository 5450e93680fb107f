"""What every training method on boxes has in common, and each on an energy of known form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
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
from ebm3d.noise import BoundNoise, BoxNoise, NoiseSamples
from tests.losses.examples import (
    LOG_2PI,
    METHODS,
    STDS,
    FixedNoise,
    ResidualEnergy,
    SmallEnergy,
    fixed_noise,
    quadratic,
    random_boxes,
)

# Their evaluations serve a proposal.
_SHARING = {"nce", "nce+", "conditional nce", "ml-is", "kld-is", "snl"}
_DRAWING = {"nce", "nce+", "ml-is", "kld-is", "snl", "confidence"}  # of the noise they are given


def _labels(count: int) -> Tensor:
    return torch.arange(count) % 2


def _noise(count: int = 4, num_samples: int = 64) -> FixedNoise:
    return fixed_noise(random_boxes(count), _labels(count), num_samples=num_samples)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_is_one_finite_number_per_box_in_the_dtype_of_the_boxes(name: str, dtype: torch.dtype):
    boxes, labels = random_boxes(4).to(dtype), _labels(4)
    method, f = METHODS[name](), SmallEnergy(labels, dtype)
    if isinstance(method, nn.Module):
        method.to(dtype)
    result = method(f, BoxNoise(STDS).around(boxes, labels))
    for value in (result.per_box, *result.logged.values()):
        assert value.shape == (4,)
        assert value.dtype == dtype
        assert bool(torch.isfinite(value).all())
    assert all(not value.requires_grad for value in result.logged.values())


@pytest.mark.parametrize("name", METHODS)
def test_gradient_reaches_every_parameter_of_f_but_a_constant(name: str):
    labels = _labels(4)
    method, f = METHODS[name](), SmallEnergy(labels)
    if isinstance(method, nn.Module):
        method.double()
    result = method(f, BoxNoise(STDS).around(random_boxes(4), labels))
    result.per_box.sum().backward()
    *inner, constant = f.parameters()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in inner)
    if name in ("nce", "nce+", "conditional nce", "ml-is", "ml-mcmc"):
        assert float(constant.grad.abs()) < 1e-12


@pytest.mark.parametrize("name", METHODS)
def test_no_true_boxes_have_no_loss(name: str):
    labels = torch.zeros(0, dtype=torch.int64)
    method = METHODS[name]()
    noise = BoxNoise(STDS).around(torch.zeros(0, 7), labels)
    result = method(SmallEnergy(labels, torch.float32), noise)
    assert all(value.shape == (0,) for value in (result.per_box, *result.logged.values()))


@pytest.mark.parametrize("name", METHODS)
def test_evaluations_are_handed_on_where_they_are_log_densities_of_noise_samples(name: str):
    labels = _labels(4)
    method, f = METHODS[name](), SmallEnergy(labels)
    if isinstance(method, nn.Module):
        method.double()
    result = method(f, BoxNoise(STDS).around(random_boxes(4), labels))
    assert (result.samples is not None) == (result.f is not None) == (name in _SHARING)
    assert method.returns_samples == (name in _SHARING)
    if result.samples is not None:
        torch.testing.assert_close(result.f, f(result.samples.boxes).detach())
        assert not result.f.requires_grad
        assert result.samples.boxes.shape == (4, 17, 7)


@pytest.mark.parametrize("name", METHODS)
def test_method_says_whether_it_draws_the_noise_it_is_given(name: str):
    class Watched(BoundNoise):
        drawn = 0

        def sample(self, num_samples: int) -> NoiseSamples:
            self.drawn += 1
            return super().sample(num_samples)

    labels = _labels(4)
    boxes, method = random_boxes(4), METHODS[name]()
    if isinstance(method, nn.Module):
        method.double()
    # With the reference given, nothing else is drawn.
    noise = Watched(BoxNoise(STDS), boxes, labels, reference=boxes)
    method(SmallEnergy(labels), noise)
    assert method.draws_noise == (noise.drawn > 0) == (name in _DRAWING)


@pytest.mark.parametrize("name", METHODS)
def test_loss_is_that_of_the_generator_of_the_noise_and_of_nothing_else(name: str):
    labels, boxes = _labels(4), random_boxes(4)
    method, f = METHODS[name](), SmallEnergy(labels)
    if isinstance(method, nn.Module):
        method.double()
    state = torch.get_rng_state()

    def loss(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        noise = BoxNoise(STDS).around(boxes, labels, generator=generator)
        found: Tensor = method(f, noise).per_box.detach()
        return found

    first = loss(1)
    torch.testing.assert_close(loss(1), first, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    if name != "exact score matching":
        assert not torch.allclose(loss(2), first, rtol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_only_confidences_are_no_densities(name: str):
    assert METHODS[name]().is_density == (name != "confidence")


def test_likelihoods_on_boxes_are_the_functions_at_the_samples():
    noise = _noise()
    f, drawn = SmallEnergy(noise.labels), noise.drawn
    values = f(drawn.boxes)
    true, others, log_q = values[:, 0], values[:, 1:], drawn.log_q[:, 1:]
    torch.testing.assert_close(NCELoss(64)(f, noise).per_box, nce_loss(values, drawn.log_q))
    torch.testing.assert_close(MLISLoss(64)(f, noise).per_box, mlis_loss(true, others, log_q))
    kldis = KLDISLoss(64, 0.3)
    log_p = kldis.target_log_prob(noise, drawn.boxes[:, 1:])
    torch.testing.assert_close(kldis(f, noise).per_box, kldis_loss(others, log_q, log_p))
    snl = SNLLoss(8, 64).double()
    b = snl.log_normalizer(f, noise.reference, noise.noise_std)
    torch.testing.assert_close(snl(f, noise).per_box, snl_loss(true, others, log_q, b))


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


@pytest.mark.parametrize("name", ["nce", "nce+"])
def test_true_box_above_all_noise_is_ranked_first(name: str):
    noise = _noise()
    method = METHODS[name]()
    for sign in (1, -1):
        # Steep enough that f - log q falls, or rises, away from the true box.
        found = method(ResidualEnergy(noise, quadratic(sign * 1e4)), noise).logged["rank_first"]
        if name == "nce":
            assert bool((found == (sign == 1)).all())
        assert bool(((found == 0) | (found == 1)).all())


def test_target_of_the_divergence_is_the_noise_of_one_component_made_narrower():
    noise = _noise()
    alone = BoxNoise((0.3 * torch.tensor(STDS, dtype=torch.float64)).tolist(), multipliers=(1.0,))
    expected = alone.log_prob(noise.boxes, noise.drawn.boxes, noise.labels)
    found = KLDISLoss(target_std=0.3).target_log_prob(noise, noise.drawn.boxes)
    torch.testing.assert_close(found, expected)


def test_weights_of_the_default_target_are_at_most_the_number_of_components():
    noise = _noise(num_samples=4000)
    log_p = KLDISLoss().target_log_prob(noise, noise.drawn.boxes)
    ratio = torch.exp(log_p - noise.drawn.log_q)
    assert 2 < float(ratio.max()) <= 3


def test_likelihoods_recover_the_normalizer_of_a_gaussian_energy():
    # h = -|t|^2 / 2: log Z = 7/2 log 2 pi, whatever the boxes and units.
    noise = _noise(2, 20_000)
    f = ResidualEnergy(noise, quadratic(1.0))
    result = MLISLoss(20_000)(f, noise)
    found = result.per_box + result.f[:, 0]
    weights = torch.exp(result.f - result.samples.log_q)[:, 1:]
    error = weights.std(dim=1) / weights.mean(dim=1) / math.sqrt(20_000)
    assert bool(((found - 3.5 * LOG_2PI).abs() < 5 * error).all())
    share = result.logged["effective_share"]
    torch.testing.assert_close(share, weights.sum(1).square() / weights.square().sum(1) / 20_000)


def test_chains_reach_the_variance_of_a_quadratic_in_units_of_the_noise():
    # On h = -k/2 |t|^2: t' = a t + lambda eps, so that the variance after L steps from the true
    # box is lambda^2 (1 - a^(2 L)) / (1 - a^2), a = 1 - k lambda^2 / 2.
    noise, step, steps, num = _noise(2), 0.5, 6, 3000
    f = ResidualEnergy(noise, quadratic(2.0))
    result = MLMCMCLoss(steps, step, num)(f, noise)
    a = 1 - step**2
    variance = step**2 * (1 - a ** (2 * steps)) / (1 - a**2)
    found = result.logged["displacement"].square()
    assert bool(((found / variance - 1).abs() < 5 * math.sqrt(2 / (7 * num))).all())
    torch.testing.assert_close(result.per_box, -7 * found)


@pytest.mark.parametrize(
    "name", ["ml-mcmc", "exact score matching", "sliced score matching", "dsm"]
)
def test_f_without_a_graph_is_refused_where_its_gradient_is_wanted(name: str):
    # The volume of the residuals has a graph, and would be learned from alone.
    noise = _noise()
    with pytest.raises(ValueError, match="f must be differentiable in boxes"):
        METHODS[name]()(lambda boxes: boxes.detach().sum(-1), noise)


def test_score_matching_at_the_true_box_is_that_of_the_residuals():
    noise = _noise(3)
    mean = torch.linspace(-0.5, 0.9, 7, dtype=torch.float64)
    f = ResidualEnergy(noise, quadratic(1.7, mean))
    expected = (-7 * 1.7 + 0.5 * 1.7**2 * mean.square().sum()).expand(3)
    torch.testing.assert_close(ScoreMatchingLoss()(f, noise).per_box, expected)
    torch.testing.assert_close(ScoreMatchingLoss("sliced")(f, noise).per_box, expected)


@pytest.mark.parametrize("std", [0.3, 1.0])
def test_denoising_loss_is_zero_at_the_density_of_the_perturbation(std: float):
    noise = _noise(3)
    f = ResidualEnergy(noise, quadratic(1 / std**2))
    found = DSMLoss(std)(f, noise).per_box
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-18, rtol=0)


def test_denoising_loss_of_a_flat_density_is_the_number_of_dimensions():
    noise, num = _noise(3), 3000
    f = ResidualEnergy(noise, quadratic(0.0))
    found = DSMLoss(num_noise_samples=num)(f, noise).per_box
    # Chi-squared with 7 degrees of freedom has the variance 14.
    assert bool(((found - 7).abs() < 5 * math.sqrt(14 / num)).all())


def test_normalizer_starts_as_that_of_a_gaussian_of_the_noise_with_its_peak_at_zero():
    noise = _noise(3)
    snl = SNLLoss(1).double()
    f = ResidualEnergy(noise, quadratic(1.0))
    found = snl.log_normalizer(f, noise.boxes, noise.noise_std)
    # Raised by the log volume at the true box, f is zero there and log Z grows by as much.
    expected = 3.5 * LOG_2PI - f(noise.boxes[:, None])[:, 0]
    torch.testing.assert_close(found, expected)


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
    found = snl.log_normalizer(f, noise.reference, noise.noise_std).detach()
    weights = torch.exp(f(noise.drawn.boxes) - noise.drawn.log_q)[:, 1:]
    error = weights.std(dim=1) / weights.mean(dim=1) / math.sqrt(4000)
    assert float(error.max()) < 0.05
    assert bool(((found - known).abs() < 5 * error).all())


def test_normalizer_sees_the_true_box_by_the_reference_alone():
    metric = BoxNoise(STDS, axes="world", sizes="metric")
    noise, other = (fixed_noise(random_boxes(4), torch.arange(4) % 2, metric) for _ in "ab")
    other.reference = noise.reference
    snl = SNLLoss(1, 64).double()
    torch.nn.init.normal_(snl.network[-1].weight)  # type: ignore[arg-type]
    f = ResidualEnergy(noise, quadratic(1.0))
    b = snl.log_normalizer(f, noise.reference, metric.noise_std(noise.reference, noise.labels))
    for bound in (noise, other):
        sampled = log_normalizer(f(bound.drawn.boxes)[:, 1:], bound.drawn.log_q[:, 1:])
        found = snl(f, bound).logged["normalizer_error"]
        torch.testing.assert_close(found, (b.detach() - sampled).abs())


def test_normalizer_gives_no_gradient_to_the_features():
    noise = _noise()
    snl, f = SNLLoss(8).double(), SmallEnergy(noise.labels)
    snl.log_normalizer(f, noise.reference, noise.noise_std).sum().backward()
    assert all(p.grad is None for p in f.parameters())
    assert all(p.grad is not None for p in snl.network[-1].parameters())


def test_normalizer_error_is_the_distance_from_the_sampled_one():
    noise = _noise()
    snl, f = SNLLoss(8, 64).double(), SmallEnergy(noise.labels)
    found = snl(f, noise).logged["normalizer_error"]
    b = snl.log_normalizer(f, noise.reference, noise.noise_std)
    sampled = log_normalizer(f(noise.drawn.boxes[:, 1:]), noise.drawn.log_q[:, 1:])
    np.testing.assert_allclose(found, (b - sampled).abs().detach())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NCELoss(0), "num_noise_samples must be at least 1"),
        (lambda: NCEPlusLoss(num_noise_samples=0), "num_noise_samples"),
        (lambda: NCEPlusLoss(0.0), "beta must be positive"),
        (lambda: NCEPlusLoss(beta_scales="sigma"), "beta_scales must be 'std' or 'variance'"),
        (lambda: MLISLoss(0), "num_noise_samples"),
        (lambda: KLDISLoss(0), "num_noise_samples"),
        (lambda: KLDISLoss(target_std=math.inf), "target_std must be positive and finite"),
        (lambda: MLMCMCLoss(num_steps=0), "num_steps must be at least 1"),
        (lambda: MLMCMCLoss(num_chains=0), "num_chains must be at least 1"),
        (lambda: MLMCMCLoss(step_size=-1.0), "step_size must be positive"),
        (lambda: ScoreMatchingLoss("hutchinson"), "kind must be 'exact' or 'sliced'"),
        (lambda: ScoreMatchingLoss("sliced", 0), "num_slices must be at least 1"),
        (lambda: ScoreMatchingLoss(num_slices=1), "num_slices must be given with kind='sliced'"),
        (lambda: DSMLoss(0.0), "std must be positive"),
        (lambda: DSMLoss(num_noise_samples=0), "num_noise_samples"),
        (lambda: SNLLoss(8, 0), "num_noise_samples"),
        (lambda: SNLLoss(-5), "in_channels must be at least 1"),
        (lambda: SNLLoss(8, hidden_channels=(0,)), "hidden_channels must be at least 1"),
        (lambda: ConfidenceLoss(num_noise_samples=0), "num_noise_samples"),
        (lambda: NCELoss(2.5), "num_noise_samples must be at least 1, a whole number"),
        (lambda: NCEPlusLoss("narrow"), "beta must be positive and finite, but got 'narrow'"),
        (lambda: SNLLoss(8, hidden_channels=16), "hidden_channels must be a list of widths"),
    ],
)
def test_constants_out_of_range_are_refused(make: Callable[[], Any], message: str):
    with pytest.raises(ValueError, match=message):
        make()
