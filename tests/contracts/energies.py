"""Cases of energies: what is learned or sampled beside one, networks, and one bound to a scene."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ebm3d.energy import (
    BoxEnergy,
    EnergyNetwork,
    LearnedProposal,
    LogDensity,
    NormalizedEnergy,
    Paper2020EnergyNetwork,
    RegressionNetwork,
    energy_distribution,
    sample_posterior,
)
from ebm3d.energy.bound_proposal import energy_cross_entropy
from ebm3d.noise import BoxNoise
from ebm3d.pooling import BEVGridPool, PointBoxPool, Scenes
from tests.contracts.cases import case, numbers, tensors_of
from tests.contracts.places import Place, gradients, gradients_of_parameters
from tests.contracts.sampling import UNITS, hill
from tests.losses.examples import STDS, SmallEnergy, random_boxes

_NO_GENERATOR = "its samples are of a fixed seed, and torch has no generator on meta"
_SIZES = [[4.0, 1.7, 1.5], [0.8, 0.6, 1.7]]


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
    bound = proposal.around(around, energy)
    drawn = bound.sample(6)
    f = energy(drawn.boxes).detach()
    loss = bound.loss(drawn, f)
    direct = energy_cross_entropy(f, drawn.log_q, bound.log_prob(drawn.boxes))
    return {
        **tensors_of(drawn),
        "loss": loss,
        "direct": direct,
        **gradients_of_parameters(loss, proposal),
    }


@case(
    "posterior",
    "energy.sample_posterior",
    "energy.ImportanceSamples",
    always_float64=("posterior", "by sample", "gaussian"),
)
def _posterior(place: Place) -> dict[str, Tensor]:
    f, boxes, labels = hill(place)
    found = sample_posterior(f, boxes, labels, BoxNoise(UNITS), 64, 3)
    wide = boxes.double()
    gaussian = found.gaussian(math.pi)
    return {
        **tensors_of(found, "posterior"),
        "posterior.log_normalizer": found.log_normalizer,
        "posterior.ess": found.effective_sample_size,
        "posterior.moments": found.residual_covariance + found.mean_residuals[..., None],
        "posterior.log_prob": found.tempered(1.5).log_prob(f(boxes).double()),
        "by sample": found.sample(5),
        "gaussian": gaussian.log_prob(wide),
        "gaussian.std": gaussian.std,
    }


class _Normalizer:
    """A training method that learns a normalizer, as ``SNLLoss``."""

    is_density = True

    def log_normalizer(self, f: Any, boxes: Tensor, noise_std: Tensor) -> Tensor:
        """Of no energy."""
        return noise_std.log().sum(-1)


def _add_log_density(method: str, reason: str = "") -> None:
    @case(
        f"log density, {method}", "energy.LogDensity", "energy.NormalizedEnergy", not_on_meta=reason
    )
    def run(place: Place) -> dict[str, Tensor]:
        f, boxes, _ = hill(place)
        normalized = NormalizedEnergy(f, boxes, BoxNoise(UNITS))  # type: ignore[arg-type]
        return {"log_p": LogDensity(method)(normalized, f(boxes), boxes, _Normalizer())}


_add_log_density("laplace")
_add_log_density("learned")
_add_log_density("importance", _NO_GENERATOR)


def _add_uncertainty(method: str, reason: str = "") -> None:
    @case(f"uncertainty, {method}", "energy.energy_distribution", not_on_meta=reason)
    def run(place: Place) -> dict[str, Tensor]:
        f, boxes, _ = hill(place)
        normalized = NormalizedEnergy(f, boxes, BoxNoise(UNITS))  # type: ignore[arg-type]
        found = energy_distribution(method, normalized)
        return {"std": found.std, "log_prob": found.log_prob(boxes + 0.01)}


_add_uncertainty("laplace")
_add_uncertainty("importance", _NO_GENERATOR)


def _add_network(make: Callable[[], torch.nn.Module], name: str) -> None:
    @case(f"network, {name}", f"energy.{name}")
    def run(place: Place) -> dict[str, Tensor]:
        network, pooled = place(make()), place.leaf(numbers(4, 3, 8))
        boxes = place.leaf(random_boxes(12).reshape(4, 3, 7))
        outputs = network(pooled, boxes, place(torch.arange(4) % 2))
        by = gradients(outputs, pooled=pooled, boxes=boxes)
        return {"outputs": outputs, **by, **gradients_of_parameters(outputs, network)}


_add_network(lambda: EnergyNetwork(8, _SIZES, (16,)), "EnergyNetwork")
_add_network(lambda: RegressionNetwork(8, 5, _SIZES, (16,)), "RegressionNetwork")
_add_network(lambda: Paper2020EnergyNetwork(8, 16, 4), "Paper2020EnergyNetwork")


@case(
    "energy bound to a scene",
    "energy.BoundNetwork",
    "energy.BoxEnergy",
    "pooling.BEVGridPool",
    "pooling.PointBoxPool",
    "pooling.Scenes",
)
def _bound_energy(place: Place) -> dict[str, Tensor]:
    pools = [BEVGridPool(6, grid=(2, 3), projection=4), PointBoxPool((8, 8), max_points=16)]
    pools = [place(pool) for pool in pools]
    channels = sum(pool.out_channels for pool in pools)
    network = place(EnergyNetwork(channels, _SIZES, (16,)))
    boxes, labels = random_boxes(4), torch.arange(4) % 2
    near = boxes[:, None, :3] + numbers(4, 30, 3)
    clouds = [
        torch.cat((part.reshape(-1, 3), numbers(60, 1)), dim=1) for part in (near[:2], near[2:])
    ]
    bev = place.leaf(numbers(2, 6, 20, 16))
    scenes = Scenes.from_range(bev, [0, -20, -3, 40, 20, 1], [place(cloud) for cloud in clouds])
    frames = place(torch.tensor([0, 0, 1, 1]))
    energy = BoxEnergy(pools, network, scenes, place(boxes), place(labels), frames)
    at = place.leaf(boxes[:, None] + 0.1 * numbers(4, 3, 7))
    f = energy(at)
    return {
        "f": f,
        "pooled": energy.pooled(at.detach()),
        **gradients(f, boxes=at, bev=bev),
        **gradients_of_parameters(f, network, *pools),
    }
