"""Cases of noise and of refiners."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.noise import BoxNoise, fit_noise_stds
from ebm3d.refiners import (
    Ascent,
    BoxPosterior,
    GradientAscent,
    QuasiNewtonAscent,
    StartSearch,
    approximate_by_gaussian,
    box_posterior,
    expand_by_differences,
    expand_exactly,
    langevin,
    laplace_approximation,
    sample_boxes,
)
from ebm3d.regressions import PROPELBoxRegression
from tests.contracts.cases import case, numbers, tensors_of
from tests.contracts.places import Place, gradients
from tests.losses.examples import MOVING_STDS, STDS, random_boxes

UNITS = [0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04]


class Hill:
    """A smooth f of boxes ``(N, 7)`` or ``(N, S, 7)`` around given ones, as a bound energy."""

    def __init__(self, boxes: Tensor, labels: Tensor) -> None:
        self._boxes, self.labels = boxes, labels

    def __call__(self, boxes: Tensor) -> Tensor:
        center = self._boxes if boxes.ndim == 2 else self._boxes[:, None]
        offset = boxes - center - 0.02
        return -8 * offset.square().sum(-1) + 0.2 * torch.cos(3 * offset).sum(-1)


def hill(place: Place, count: int = 4) -> tuple[Hill, Tensor, Tensor]:
    """f, boxes near its peaks, labels."""
    boxes, labels = place(random_boxes(count)), place(torch.zeros(count, dtype=torch.int64))
    return Hill(boxes, labels), boxes, labels


def units_of(boxes: Tensor) -> Tensor:
    return boxes.new_full((), 1.0) * LocalCoding(boxes, torch.ones_like(boxes) * 0.2).noise_std


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
        around = bound.scale_std(0.5).with_centers(bound.reference)
        return {
            **tensors_of(drawn),
            "log_prob": log_prob,
            **gradients(log_prob, boxes=at),
            "noise_std": bound.noise_std,
            "reference": bound.reference,
            "reference_noise_std": bound.reference_noise_std,
            "around": around.log_prob_around(drawn.boxes),
            "narrow": around.sample(3).boxes,
        }


for _axes in ("box", "world"):
    for _sizes in ("log", "metric"):
        for _shared in (False, True):
            _add_noise(_axes, _sizes, _shared)


@case("fit of the noise", "noise.fit_noise_stds")
def _fit(place: Place) -> dict[str, Tensor]:
    true = random_boxes(20)
    return {"stds": fit_noise_stds(place(true), place(true + 0.1 * numbers(20, 7)))}


@case("boxes with velocities", "noise.BoxNoise")
def _moving(place: Place) -> dict[str, Tensor]:
    boxes, labels = place(random_boxes(4, 9)), place(torch.arange(4) % 2)
    noise, f = BoxNoise(MOVING_STDS, axes="world"), Hill(boxes, labels)
    laplace = laplace_approximation(f, boxes, noise.noise_std(boxes, labels))
    scale = [0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.2]
    regression = place(PROPELBoxRegression(num_residuals=9))
    targets = 0.1 * numbers(4, 9)
    targets[1:3, 7:] = math.nan
    outputs = place.leaf(numbers(4, regression.num_outputs))
    loss = regression.loss(outputs, place(targets))
    return {
        **tensors_of(noise.around(boxes, labels).sample(5)),
        **tensors_of(QuasiNewtonAscent(3, step_scale=scale)(f, boxes + 0.05)),
        "covariance": laplace.distribution(math.pi).covariance,
        "log_prob": laplace.distribution(math.pi).log_prob(boxes + 0.01),
        "fit": fit_noise_stds(boxes, boxes + place(targets)),
        "loss": loss,
        **gradients(loss, outputs=outputs),
    }


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
    f, boxes, _ = hill(place)
    noise_std = units_of(boxes)
    near = laplace_approximation(f, boxes, noise_std)
    exact = laplace_approximation(f, boxes, noise_std, radius=None)
    return {
        **tensors_of(expand_by_differences(f, boxes, noise_std), "differences"),
        **tensors_of(expand_exactly(f, boxes, noise_std), "exact"),
        **tensors_of(approximate_by_gaussian(expand_exactly(f, boxes, noise_std)), "gaussian"),
        "near": near.distribution().log_prob(boxes + 0.01),
        "near, covariance": near.distribution().covariance,
        "exact": exact.distribution(math.pi).log_prob(boxes + 0.01),
        "projected": exact.num_projected,
    }


@case("langevin chains", "refiners.langevin", "refiners.sample_boxes")
def _langevin(place: Place) -> dict[str, Tensor]:
    f, boxes, _ = hill(place)
    laplace = laplace_approximation(f, boxes, units_of(boxes))
    return {
        "chains": langevin(f, boxes, 0.01, 4),
        "samples": sample_boxes(f, laplace, 3, num_steps=4),
    }


@case(
    "starts on a posterior",
    "refiners.BoxPosterior",
    "refiners.StartSearch",
    "refiners.box_posterior",
)
def _starts(place: Place) -> dict[str, Tensor]:
    f, boxes, _ = hill(place)
    coding = LocalCoding(boxes + 0.05, units_of(boxes))
    g = box_posterior(f, coding, 2.0, trust_heading=False)
    at = (boxes + 0.1).detach().requires_grad_()
    search = StartSearch(8, 1, 2)
    shifted = BoxPosterior(f, coding, boxes.new_full((4,), 3.0), 0.1 * boxes, 0.01 * boxes)
    return {
        "starts": search(g, coding),
        **tensors_of(search.climb(GradientAscent(2, 0.01), g, coding)),
        "value": shifted(boxes),
        **gradients(shifted(at), boxes=at),
    }


def _add_ascent(ascent: Ascent) -> None:
    kind = type(ascent).__name__

    @case(f"ascent, {kind}", "refiners.Ascent", "refiners.RefinementResult", f"refiners.{kind}")
    def run(place: Place) -> dict[str, Tensor]:
        f, boxes, labels = hill(place)
        return tensors_of(ascent(f, boxes + 0.05, labels))


_add_ascent(GradientAscent(4, 0.02, step_scale=[UNITS, UNITS]))
_add_ascent(QuasiNewtonAscent(4, 0.02, axes="world"))
