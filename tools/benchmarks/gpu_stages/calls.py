"""One call of everything the core offers, on a device: does it run there at all?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ebm3d import losses, regressions
from ebm3d.boxes.codings import LocalCoding
from ebm3d.boxes.iou import iou_3d, iou_bev
from ebm3d.densities import BoxDistribution
from ebm3d.devices import clock, seeded_generator
from ebm3d.energy import (
    LearnedProposal,
    LogDensity,
    NormalizedEnergy,
    energy_distribution,
    sample_posterior,
)
from ebm3d.refiners import GradientAscent, langevin, laplace_approximation
from gpu_stages.problem import MEAN_SIZES, NOISE, REFINER, UNITS, Problem

_NUM_BOXES = 8
_REGRESSIONS = ("Direct", "Gaussian", "Laplace", "PROPEL", "RLEL", "BEL", "Binned")


def run_calls(problem: Problem, device: torch.device) -> dict[str, dict[str, Any]]:
    """Make every call once.

    Returns:
        By name ``seconds``, and ``error``: what it raised, or None.
    """
    torch.manual_seed(0)
    parts = (_training_methods, _inference, _regressions)
    calls = {name: call for part in parts for name, call in part(problem, device).items()}
    found = {}
    for name, call in calls.items():
        start, error = clock(device), None
        try:
            call()
            seconds = clock(device) - start
        except Exception as raised:
            seconds, error = None, f"{type(raised).__name__}: {raised}"
        found[name] = {"seconds": seconds, "error": error}
    return found


def _training_methods(problem: Problem, device: torch.device) -> dict[str, Callable[[], Any]]:
    """Loss and backward pass of every training method and noise."""
    model, scene = problem.model(device), problem.scene(_NUM_BOXES, device)
    boxes, labels = scene.boxes, scene.labels
    methods: dict[str, Any] = {
        "NCE": losses.NCELoss(8),
        "NCE+": losses.NCEPlusLoss(),
        "conditional NCE": losses.ConditionalNCELoss(8),
        "ML-IS": losses.MLISLoss(8),
        "KLD-IS": losses.KLDISLoss(8),
        "ML-MCMC": losses.MLMCMCLoss(4),
        "score matching, exact": losses.ScoreMatchingLoss(),
        "score matching, sliced": losses.ScoreMatchingLoss("sliced", 2),
        "DSM": losses.DSMLoss(),
        "SNL": losses.SNLLoss(model.num_features, 8).to(device),
        "confidence": losses.ConfidenceLoss(),
    }
    proposal = LearnedProposal(model.num_features, MEAN_SIZES, base=NOISE).to(device)

    def train(method: Any, noise: Callable[[Any], Any]) -> None:
        f = model.bind(scene, boxes)
        method(f, noise(f)).per_box.mean().backward()

    def near(method: Any) -> Callable[[], None]:
        return lambda: train(method, lambda f: NOISE.around(boxes, labels))

    return {
        **{f"loss: {name}": near(method) for name, method in methods.items()},
        "noise: learned proposal": lambda: train(
            methods["NCE"], lambda f: proposal.around(NOISE.around(boxes, labels), f)
        ),
    }


def _inference(problem: Problem, device: torch.device) -> dict[str, Callable[[], Any]]:
    """Every refiner, and what is asked of an energy afterwards."""
    model, scene = problem.model(device), problem.scene(_NUM_BOXES, device)
    boxes, labels = scene.detected, scene.labels
    with torch.no_grad():
        f = model.bind(scene, boxes)
    noise_std = NOISE.noise_std(boxes, labels)
    generator = seeded_generator(device, 0)

    def normalized() -> NormalizedEnergy:
        return NormalizedEnergy(f, boxes, NOISE)

    def log_density(method: str) -> Tensor:
        value: Tensor = LogDensity(method)(normalized(), f(boxes), boxes, None)
        return value

    return {
        "refiner: gradient ascent": lambda: GradientAscent(5, 0.1, step_scale=UNITS)(f, boxes),
        "refiner: quasi-Newton ascent": lambda: REFINER(f, boxes, labels),
        "refiner: Langevin": lambda: langevin(f, boxes, 0.01, 5),
        "Laplace, differences": lambda: laplace_approximation(f, boxes, noise_std),
        "Laplace, exact": lambda: laplace_approximation(f, boxes, noise_std, None),
        "posterior": lambda: _use_posterior(
            sample_posterior(f, boxes, labels, NOISE, generator=generator), f(boxes), boxes
        ),
        "log density: importance": lambda: log_density("importance"),
        "log density: Laplace": lambda: log_density("laplace"),
        "distribution: Laplace": lambda: _use(energy_distribution("laplace", normalized()), boxes),
        "distribution: importance": lambda: _use(
            energy_distribution("importance", normalized()), boxes
        ),
        "IoU in 3D": lambda: iou_3d(boxes, scene.boxes),
        "IoU from above": lambda: iou_bev(boxes, scene.boxes),
    }


def _regressions(problem: Problem, device: torch.device) -> dict[str, Callable[[], Any]]:
    """Loss, backward pass and density of every box regression."""
    scene = problem.scene(_NUM_BOXES, device)
    coding = LocalCoding(scene.detected, NOISE.noise_std(scene.detected, scene.labels))
    residuals = coding.encode(scene.boxes)

    def use(name: str) -> None:
        regression = getattr(regressions, f"{name}BoxRegression")().to(device)
        outputs = 0.1 * torch.randn(_NUM_BOXES, regression.num_outputs, device=device)
        outputs.requires_grad_()
        terms = regression.regularizers(outputs, residuals).values()
        (regression.loss(outputs, residuals).mean() + sum(terms)).backward()
        density = regression.density(outputs.detach())
        _use(BoxDistribution(density, coding), scene.boxes)

    return {f"regression: {name}": lambda name=name: use(name) for name in _REGRESSIONS}


def _use(distribution: BoxDistribution, boxes: Tensor) -> None:
    """Ask a density of boxes for all it says."""
    _ = distribution.std, distribution.covariance, distribution.boxes
    distribution.log_prob(boxes)
    distribution.cdf(boxes)
    distribution.squared_mahalanobis(boxes)
    samples = distribution.sample(4, seeded_generator(boxes.device, 0))
    distribution.rescaled(boxes.new_ones(7)).log_prob(samples)


def _use_posterior(posterior: Any, f: Tensor, boxes: Tensor) -> None:
    """Ask weighted samples for all they say."""
    _ = posterior.log_normalizer, posterior.effective_sample_size
    posterior.log_prob(f)
    posterior.sample(4, seeded_generator(boxes.device, 0))
    _use(posterior.gaussian(), boxes.to(posterior.samples))
