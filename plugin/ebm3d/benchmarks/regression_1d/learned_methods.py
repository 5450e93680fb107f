"""Energies trained beside a second network: a log normalizer, or a proposal.

K models; B examples in a batch of each; M samples for each example.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ebm3d.benchmarks.regression_1d.energy_methods import (
    NUM_SAMPLES,
    CenteredNoise,
    energy_on_grid,
    with_first,
)
from ebm3d.benchmarks.regression_1d.method import Method
from ebm3d.benchmarks.regression_1d.mixture import WeightedMixture
from ebm3d.benchmarks.regression_1d.networks import EnergyModels, Head
from ebm3d.benchmarks.regression_1d.randomness import ModelGenerators
from ebm3d.losses import nce_loss, proposal_loss, snl_loss
from ebm3d.registry import register


class EnergyWithHead(EnergyModels):
    """K energies, and a head on their features of x.

    Args:
        num_outputs: of the head.
        random: K generators.
    """

    def __init__(self, num_outputs: int, random: ModelGenerators) -> None:
        super().__init__(random)
        self.head = Head(num_outputs, random)


@dataclass(frozen=True, kw_only=True)
class SNL(Method):
    """Self-normalized likelihood: the head is the log normalizer (M-25).

    Attributes:
        noise: q.
        num_samples: M.
    """

    noise: CenteredNoise = field(default_factory=lambda: CenteredNoise((0.1, 0.8)))
    num_samples: int = NUM_SAMPLES

    def build(self, random: ModelGenerators) -> nn.Module:
        """Make K energies with log normalizers; see the base class."""
        return EnergyWithHead(1, random)

    def loss(self, models: nn.Module, x: Tensor, y: Tensor, random: ModelGenerators) -> Tensor:
        """See the base class."""
        assert isinstance(models, EnergyWithHead)
        f = models.bind(x)
        offsets = self.noise.draw(self.num_samples, random)[:, None]
        values = f(y[..., None] + with_first(torch.zeros_like(y), offsets))
        log_q = self.noise.log_prob(offsets).expand_as(values[..., 1:])
        b = models.head(f.features)[..., 0]
        return snl_loss(values[..., 0], values[..., 1:], log_q, b).mean(dim=1)

    def log_density(self, models: nn.Module, name: str, x: Tensor, y: Tensor) -> Tensor:
        """f; see the base class."""
        return energy_on_grid(models, x, y)


@register
@dataclass(frozen=True, kw_only=True)
class LearnedProposal(Method):
    """NCE with the samples of a mixture that learns the energy's density (M-26).

    The head is a mixture density network on features that it does not train. Its samples are not
    centered on the true value, and each example has its own.

    Attributes:
        num_components: C of the mixture.
        num_samples: M.
    """

    num_components: int = 4
    num_samples: int = NUM_SAMPLES

    def build(self, random: ModelGenerators) -> nn.Module:
        """Make K energies with proposals; see the base class."""
        return EnergyWithHead(3 * self.num_components, random)

    def loss(self, models: nn.Module, x: Tensor, y: Tensor, random: ModelGenerators) -> Tensor:
        """Sum of both losses; see the base class."""
        assert isinstance(models, EnergyWithHead)
        f = models.bind(x)
        proposal = WeightedMixture.from_outputs(models.head(f.features.detach()))
        points = with_first(y, proposal.sample(self.num_samples, random))
        log_q, values = proposal.log_prob(points), f(points)
        losses = nce_loss(values, log_q.detach()) + proposal_loss(values[..., 1:], log_q[..., 1:])
        return losses.mean(dim=1)

    def log_density(self, models: nn.Module, name: str, x: Tensor, y: Tensor) -> Tensor:
        """f, or the mixture's density if the name says so; see the base class."""
        if "mdn" not in name:
            return energy_on_grid(models, x, y)
        assert isinstance(models, EnergyWithHead)
        features = models.features(x.expand(len(models.packed), -1))
        mixture = WeightedMixture.from_outputs(models.head(features))
        return mixture.log_prob(y.expand(*mixture.means.shape[:2], -1))
