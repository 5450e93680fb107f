"""Cases of noise, of what is learned or sampled beside an energy, and of refiners."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.energy import LearnedProposal, LogDensity, NormalizedEnergy, energy_distribution
from ebm3d.energy.learned_proposal import energy_cross_entropy
from ebm3d.energy.posterior import sample_posterior
from ebm3d.noise import BoxNoise, DetectionNoise, Detections, fit_noise_stds
from ebm3d.refiners import (
    MultiStart,
    RefinementResult,
    approximate_by_gaussian,
    expand_by_differences,
    expand_exactly,
    langevin,
    laplace_approximation,
    sample_boxes,
    weigh_modes,
)
from tests.contracts.cases import case, numbers, tensors_of
from tests.contracts.places import Place, gradients, gradients_of_parameters
from tests.losses.examples import STDS, SmallEnergy, random_boxes

_UNITS = [0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04]
_NO_GENERATOR = "its samples are of a fixed seed, and torch has no generator on meta"


class _Hill:
    """A smooth f of boxes ``(N, 7)`` or ``(N, S, 7)`` around given ones, as a bound energy."""

    def __init__(self, boxes: Tensor, labels: Tensor) -> None:
        self._boxes, self.labels = boxes, labels

    def __call__(self, boxes: Tensor) -> Tensor:
        center = self._boxes if boxes.ndim == 2 else self._boxes[:, None]
        offset = boxes - center - 0.02
        return -8 * offset.square().sum(-1) + 0.2 * torch.cos(3 * offset).sum(-1)


def _hill(place: Place, count: int = 4) -> tuple[_Hill, Tensor, Tensor]:
    """f, boxes near its peaks, labels."""
    boxes, labels = place(random_boxes(count)), place(torch.zeros(count, dtype=torch.int64))
    return _Hill(boxes, labels), boxes, labels


def _units(boxes: Tensor) -> Tensor:
    return boxes.new_full((), 1.0) * LocalCoding(boxes, torch.ones_like(boxes) * 0.2).units


def _add_noise(axes: str, sizes: str, shared: bool) -> None:
    name = f"noise, {axes}, {sizes}{', shared' if shared else ''}"

    @case(name, "noise.BoxNoise", "noise.BoundNoise", "noise.NoiseSamples")
    def run(place: Place) -> dict[str, Tensor]:
        noise = BoxNoise(STDS, axes=axes, sizes=sizes, shared_in_scene=shared)
        boxes, labels = place(random_boxes(5)), place(torch.arange(5) % 2)
        bound = noise.around(boxes, labels, [2, 0, 3])
        drawn = bound.sample(6)
        at = drawn.boxes.detach().requires_grad_()
        log_prob = bound.log_prob(at)
        around = bound.narrowed(0.5).recentered(bound.reference)
        return {
            **tensors_of(drawn),
            "log_prob": log_prob,
            **gradients(log_prob, boxes=at),
            "units": bound.units,
            "reference": bound.reference,
            "reference_units": bound.reference_units,
            "around": around.log_prob_around(drawn.boxes),
            "narrow": around.sample(3).boxes,
        }


for _axes in ("box", "world"):
    for _sizes in ("log", "metric"):
        for _shared in (False, True):
            _add_noise(_axes, _sizes, _shared)


@case("detection noise", "noise.DetectionNoise", "noise.BoundDetectionNoise", "noise.Detections")
def _detection_noise(place: Place) -> dict[str, Tensor]:
    boxes, labels = random_boxes(5), torch.arange(5) % 2
    found = boxes.repeat(2, 1) + 0.1 * numbers(10, 7)
    frames = [
        Detections(place(found[:4]), place(labels[:4])),
        Detections(place(found[:0]), place(labels[:0])),
        Detections(place(found[2:]), place(labels.repeat(2)[2:])),
    ]
    noise = DetectionNoise(BoxNoise(STDS))
    bound = noise.around(place(boxes), place(labels), frames, [2, 0, 3])
    drawn = bound.sample(6)
    at = drawn.boxes.detach().requires_grad_()
    log_prob = bound.log_prob(at)
    return {
        **tensors_of(drawn),
        "log_prob": log_prob,
        **gradients(log_prob, boxes=at),
        "reference": bound.reference,
        "units": bound.reference_units,
    }


@case("fit of the noise", "noise.fit_noise_stds")
def _fit(place: Place) -> dict[str, Tensor]:
    true = random_boxes(20)
    return {"stds": fit_noise_stds(place(true), place(true + 0.1 * numbers(20, 7)))}


@case(
    "learned proposal",
    "energy.LearnedProposal",
    "energy.BoundProposal",
    "energy.energy_cross_entropy",
)
def _learned_proposal(place: Place) -> dict[str, Tensor]:
    labels = torch.arange(4) % 2
    noise = BoxNoise(STDS)
    proposal = LearnedProposal(8, [[4.0, 1.7, 1.5], [0.8, 0.6, 1.7]], noise, num_components=3)
    proposal, energy = place(proposal), place(SmallEnergy(labels))
    energy.labels = place(labels)
    around = noise.around(place(random_boxes(4)), energy.labels)
    bound, shared = proposal.around(around, energy), proposal.around(around, energy, shared=True)
    drawn = bound.sample(6)
    f = energy(drawn.boxes).detach()
    loss = bound.loss(drawn, f)
    direct = energy_cross_entropy(f, drawn.log_q, bound.log_prob(drawn.boxes))
    return {
        **tensors_of(drawn),
        **tensors_of(shared.sample(3), "shared"),
        "loss": loss,
        "direct": direct,
        **gradients_of_parameters(loss, proposal),
    }


@case(
    "posterior",
    "energy.sample_posterior",
    "energy.EnergyPosterior",
    always_float64=("posterior", "by sample", "gaussian"),
)
def _posterior(place: Place) -> dict[str, Tensor]:
    f, boxes, labels = _hill(place)
    found = sample_posterior(f, boxes, labels, BoxNoise(_UNITS), 64, 3)
    wide = boxes.double()
    gaussian = found.gaussian(math.pi)
    return {
        **tensors_of(found, "posterior"),
        "posterior.log_normalizer": found.log_normalizer,
        "posterior.ess": found.effective_sample_size,
        "posterior.boxes": found.boxes,
        "posterior.std": found.std,
        "posterior.entropy": found.tempered(1.5).entropy,
        "posterior.log_prob": found.log_prob(f(boxes).double()),
        "posterior.cdf": found.cdf(wide),
        "posterior.distance": found.squared_mahalanobis(wide),
        "by sample": found.sample(5),
        "gaussian": gaussian.log_prob(wide),
        "gaussian.std": gaussian.std,
    }


class _Normalizer:
    """A training method that learns a normalizer, as ``SNLLoss``."""

    is_density = True

    def log_normalizer(self, f: Any, boxes: Tensor, units: Tensor) -> Tensor:
        """Of no energy."""
        return units.log().sum(-1)


def _add_log_density(method: str, reason: str = "") -> None:
    @case(
        f"log density, {method}", "energy.LogDensity", "energy.NormalizedEnergy", not_on_meta=reason
    )
    def run(place: Place) -> dict[str, Tensor]:
        f, boxes, _ = _hill(place)
        normalized = NormalizedEnergy(f, boxes, BoxNoise(_UNITS))  # type: ignore[arg-type]
        return {"log_p": LogDensity(method)(normalized, f(boxes), boxes, _Normalizer())}


_add_log_density("laplace")
_add_log_density("learned")
_add_log_density("importance", _NO_GENERATOR)


def _add_uncertainty(method: str, reason: str = "") -> None:
    @case(f"uncertainty, {method}", "energy.energy_distribution", not_on_meta=reason)
    def run(place: Place) -> dict[str, Tensor]:
        f, boxes, _ = _hill(place)
        normalized = NormalizedEnergy(f, boxes, BoxNoise(_UNITS))  # type: ignore[arg-type]
        found = energy_distribution(method, normalized)
        return {"std": found.std, "log_prob": found.log_prob(boxes + 0.01)}


_add_uncertainty("laplace")
_add_uncertainty("importance", _NO_GENERATOR)


@case(
    "laplace approximation",
    "refiners.Expansion",
    "refiners.LaplaceApproximation",
    "refiners.approximate_by_gaussian",
    "refiners.expand_by_differences",
    "refiners.expand_exactly",
    "refiners.laplace_approximation",
)
def _laplace(place: Place) -> dict[str, Tensor]:
    f, boxes, _ = _hill(place)
    units = _units(boxes)
    near = laplace_approximation(f, boxes, units)
    exact = laplace_approximation(f, boxes, units, radius=None)
    return {
        **tensors_of(expand_by_differences(f, boxes, units), "differences"),
        **tensors_of(expand_exactly(f, boxes, units), "exact"),
        **tensors_of(approximate_by_gaussian(expand_exactly(f, boxes, units)), "gaussian"),
        "near": near.distribution().log_prob(boxes + 0.01),
        "near, covariance": near.distribution().covariance,
        "exact": exact.distribution(math.pi).log_prob(boxes + 0.01),
        "projected": exact.is_projected,
    }


@case("langevin chains", "refiners.langevin", "refiners.sample_boxes")
def _langevin(place: Place) -> dict[str, Tensor]:
    f, boxes, _ = _hill(place)
    laplace = laplace_approximation(f, boxes, _units(boxes))
    return {
        "chains": langevin(f, boxes, 0.01, 4),
        "samples": sample_boxes(f, laplace, 3, num_steps=4),
    }


def _one_step(f: Any, boxes: Tensor, labels: Tensor | None = None) -> RefinementResult:
    """A base of several starts that needs no ascent."""
    moved = boxes + 0.01
    accepted = torch.ones(len(boxes), dtype=torch.int64, device=boxes.device)
    return RefinementResult(moved, f(boxes), f(moved), accepted)


@case(
    "several starts",
    "refiners.MultiStart",
    "refiners.Modes",
    "refiners.RefinementResult",
    "refiners.weigh_modes",
)
def _several_starts(place: Place) -> dict[str, Tensor]:
    f, boxes, labels = _hill(place)
    found = MultiStart(_one_step, _UNITS, num_starts=3, turned=True)(f, boxes, labels)
    assert found.modes is not None
    weighed = weigh_modes(f, found.modes, _units(boxes))
    return {**tensors_of(found), "weights": weighed.weights, "count": found.modes.count}
