"""Training methods of energies on the benchmark, with their published constants.

K models; B examples in a batch of each; M samples for each example.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ebm3d.benchmarks.regression_1d.method import Method
from ebm3d.benchmarks.regression_1d.networks import BoundEnergy, EnergyModels
from ebm3d.benchmarks.regression_1d.problem import RANGE
from ebm3d.benchmarks.regression_1d.randomness import ModelGenerators
from ebm3d.densities.gaussian import log_normal
from ebm3d.losses import (
    dsm_loss,
    kldis_loss,
    mcmc_loss,
    score_matching_loss,
)
from ebm3d.refiners import langevin

NUM_SAMPLES = 1024


@dataclass(frozen=True)
class CenteredNoise:
    """Equal mixture of Gaussians around each y.

    One draw of offsets serves the whole batch of a model, as in the published code: M numbers to
    draw instead of B M, whose log densities are shared as well.

    Attributes:
        stds: standard deviations of the components.
    """

    stds: tuple[float, ...]

    def draw(self, num: int, random: ModelGenerators) -> Tensor:
        """Return offsets ``(K, num)``."""
        stds = torch.tensor(self.stds)
        return stds[random.integers(len(self.stds), num)] * random.normal(num)

    def log_prob(self, offsets: Tensor) -> Tensor:
        """Return log densities of offsets, nats."""
        log_variances = 2 * torch.log(torch.tensor(self.stds))
        components = log_normal(offsets[..., None], torch.zeros(()), log_variances)
        return torch.logsumexp(components, dim=-1) - math.log(len(self.stds))


@dataclass(frozen=True, kw_only=True)
class EnergyMethod(Method):
    """A method that trains f alone.

    Attributes:
        num_samples: M.
        compiled: whether f is computed by the compiled functions.
    """

    num_samples: int = NUM_SAMPLES
    compiled: bool = True

    def build(self, random: ModelGenerators) -> nn.Module:
        """Make K energies; see the base class."""
        return EnergyModels(random, self.compiled)

    def loss(self, models: nn.Module, x: Tensor, y: Tensor, random: ModelGenerators) -> Tensor:
        """Mean over the batch; see the base class."""
        assert isinstance(models, EnergyModels)
        return self.losses(models.bind(x), y, random).mean(dim=1)

    @abstractmethod
    def losses(self, f: BoundEnergy, y: Tensor, random: ModelGenerators) -> Tensor:
        """Return losses ``(K, B)`` of true values ``(K, B)``."""

    def log_density(self, models: nn.Module, name: str, x: Tensor, y: Tensor) -> Tensor:
        """f; see the base class."""
        return energy_on_grid(models, x, y)


@dataclass(frozen=True, kw_only=True)
class NCE(EnergyMethod):
    """Noise contrastive estimation, and NCE+ where ``positive_scale`` is not zero (M-3, M-21).

    Attributes:
        noise: q.
        positive_scale: beta; the true value is replaced by one drawn from q with its standard
            deviations times beta, for each example anew.
    """

    noise: CenteredNoise = field(default_factory=lambda: CenteredNoise((0.1, 0.8)))
    positive_scale: float = 0.0

    def losses(self, f: BoundEnergy, y: Tensor, random: ModelGenerators) -> Tensor:
        """See the base class."""
        offsets = self.noise.draw(self.num_samples, random)[:, None]
        first = torch.zeros_like(y)
        if self.positive_scale > 0:
            first = self.positive_scale * self.noise.draw(y.shape[1], random)
        log_q = with_first(self.noise.log_prob(first), self.noise.log_prob(offsets))
        # M-3, as nce_loss computes it of values.
        return f.contrast(y[..., None] + with_first(first, offsets), log_q) + log_q[..., 0]


@dataclass(frozen=True, kw_only=True)
class MLIS(EnergyMethod):
    """Likelihood with an importance-sampled normalizer (M-22)."""

    noise: CenteredNoise = field(default_factory=lambda: CenteredNoise((0.2, 1.6)))

    def losses(self, f: BoundEnergy, y: Tensor, random: ModelGenerators) -> Tensor:
        """See the base class."""
        offsets = self.noise.draw(self.num_samples, random)[:, None]
        points = y[..., None] + with_first(torch.zeros_like(y), offsets)
        return _mlis(f, points, self.noise.log_prob(offsets))


@dataclass(frozen=True, kw_only=True)
class KLDIS(EnergyMethod):
    """Divergence from a narrow density around the true value (M-22).

    Attributes:
        noise: q.
        label_std: standard deviation of that density.
    """

    noise: CenteredNoise = field(default_factory=lambda: CenteredNoise((0.2, 1.6)))
    label_std: float = 0.025

    def losses(self, f: BoundEnergy, y: Tensor, random: ModelGenerators) -> Tensor:
        """See the base class."""
        offsets = self.noise.draw(self.num_samples, random)[:, None]
        values = f(y[..., None] + offsets)
        log_p = CenteredNoise((self.label_std,)).log_prob(offsets)
        log_q = self.noise.log_prob(offsets)
        return kldis_loss(values, log_q.expand_as(values), log_p.expand_as(values))


@dataclass(frozen=True, kw_only=True)
class MLMCMC(EnergyMethod):
    """Contrast with M Langevin chains from each true value (M-23).

    Attributes:
        step_size: lambda.
        num_steps: L.
    """

    step_size: float
    num_steps: int = 16

    def losses(self, f: BoundEnergy, y: Tensor, random: ModelGenerators) -> Tensor:
        """See the base class."""
        chains = [
            langevin(
                _point_function(f.fixed(model)),
                start[:, None, None].expand(-1, self.num_samples, 1),
                self.step_size,
                self.num_steps,
                generator=generator,
            )
            for model, (start, generator) in enumerate(zip(y, random.generators, strict=True))
        ]
        values = f(torch.cat((y[..., None], torch.stack(chains)[..., 0]), dim=-1))
        return mcmc_loss(values[..., 0], values[..., 1:])


@dataclass(frozen=True, kw_only=True)
class ScoreMatching(EnergyMethod):
    """Exact score matching at the true values (M-24)."""

    def losses(self, f: BoundEnergy, y: Tensor, random: ModelGenerators) -> Tensor:
        """See the base class."""
        return score_matching_loss(lambda points: f.plain(points)[..., 0], y[..., None])


@dataclass(frozen=True, kw_only=True)
class DSM(EnergyMethod):
    """Denoising score matching with M noisy values of each true one (M-24).

    Attributes:
        std: of the noise.
    """

    std: float

    def losses(self, f: BoundEnergy, y: Tensor, random: ModelGenerators) -> Tensor:
        """See the base class."""
        offsets = self.std * random.normal(self.num_samples)[:, None]
        slopes = f.slopes(y[..., None] + offsets)
        residual = offsets.expand_as(slopes)[..., None]
        return dsm_loss(slopes[..., None], residual, self.std**2).mean(dim=-1)


@dataclass(frozen=True, kw_only=True)
class Quadrature(EnergyMethod):
    r"""Maximum likelihood, with the normalizer by a grid over the range of y.

    The grid is shifted at random, one shift for a batch of a model: systematic samples of the
    uniform density, so that Z is unbiased and no structure hides between the points. In one
    dimension this is importance sampling (M-22) almost without its variance.
    """

    def losses(self, f: BoundEnergy, y: Tensor, random: ModelGenerators) -> Tensor:
        """See the base class."""
        steps = torch.arange(self.num_samples) + random.uniform(1)
        points = (2 * RANGE / self.num_samples * steps - RANGE)[:, None]
        log_q = torch.full((len(y), 1, 1), -math.log(2 * RANGE)).expand_as(points)
        return _mlis(f, with_first(y, points), log_q)


def _mlis(f: BoundEnergy, points: Tensor, log_q: Tensor) -> Tensor:
    """M-22, as mlis_loss computes it of values: of points, and the densities of all but the first.

    The first point is the true one, whose infinite density leaves it out of the sum.
    """
    left_out = torch.full(points.shape[:2], torch.inf)
    return f.contrast(points, with_first(left_out, log_q)) - math.log(log_q.shape[-1])


def with_first(first: Tensor, others: Tensor) -> Tensor:
    """Put ``(K, B)`` before ``(K, 1, M)`` or ``(K, B, M)``: ``(K, B, M + 1)``."""
    others = others.expand(-1, first.shape[1], -1)
    return torch.cat((first[..., None], others), dim=-1)


def _point_function(f: BoundEnergy) -> Callable[[Tensor], Tensor]:
    """f of one model as a function from points ``(B, M, 1)`` to ``(B, M)``."""
    return lambda points: f(points[None, ..., 0])[0]


def energy_on_grid(models: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return f ``(K, X, Y)`` of x ``(X,)`` and y ``(Y,)``."""
    assert isinstance(models, EnergyModels)
    f = models.bind(x.expand(len(models.packed), -1))
    return f(y.expand(*f.context.shape[:2], -1))
