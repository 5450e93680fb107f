"""Regressions to the outputs of densities: the alternatives to an energy.

K models; B examples in a batch of each; the K B densities are those of one residual, y itself.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ebm3d.benchmarks.regression_1d.method import Method
from ebm3d.benchmarks.regression_1d.mixture import WeightedMixture
from ebm3d.benchmarks.regression_1d.networks import RegressionModels
from ebm3d.benchmarks.regression_1d.problem import RANGE
from ebm3d.benchmarks.regression_1d.randomness import ModelGenerators
from ebm3d.codecs import soft_labels
from ebm3d.densities import (
    Density,
    GaussianDensity,
    HistogramDensity,
    LaplaceDensity,
    MixtureDensity,
)
from ebm3d.losses import (
    code_distance_penalty,
    code_smoothness_penalty,
    gaussian_nll,
    laplace_nll,
    propel_loss,
    soft_cross_entropy,
)


@dataclass(frozen=True, kw_only=True)
class RegressionMethod(Method):
    """A network from x to the parameters of a density of y."""

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """P, numbers for each x."""

    @abstractmethod
    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return losses ``(K, B)`` of outputs ``(K, B, P)`` at y ``(K, B)``."""

    @abstractmethod
    def log_density_of(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return log densities ``(K, X, Y)`` of outputs ``(K, X, P)`` at y ``(Y,)``."""

    def build(self, random: ModelGenerators) -> nn.Module:
        """Make K networks; see the base class."""
        return RegressionModels(self.num_outputs, random)

    def loss(self, models: nn.Module, x: Tensor, y: Tensor, random: ModelGenerators) -> Tensor:
        """Mean over the batch; see the base class."""
        return self.losses(models(x), y).mean(dim=1)

    def log_density(self, models: nn.Module, name: str, x: Tensor, y: Tensor) -> Tensor:
        """The density's own; see the base class."""
        assert isinstance(models, RegressionModels)
        return self.log_density_of(models(x.expand(models.num_models, -1)), y)


@dataclass(frozen=True, kw_only=True)
class Gaussian(RegressionMethod):
    """Mean and log variance by likelihood (M-10)."""

    @property
    def num_outputs(self) -> int:
        """Two."""
        return 2

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        return gaussian_nll(y - outputs[..., 0], outputs[..., 1])

    def log_density_of(self, outputs: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        location, log_variance = outputs.flatten(0, 1).split(1, dim=-1)
        return _on_grid(GaussianDensity(location, log_variance), outputs, y)


@dataclass(frozen=True, kw_only=True)
class Laplace(RegressionMethod):
    """Median and log scale by likelihood (M-10)."""

    @property
    def num_outputs(self) -> int:
        """Two."""
        return 2

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        return laplace_nll(y - outputs[..., 0], outputs[..., 1])

    def log_density_of(self, outputs: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        location, log_scale = outputs.flatten(0, 1).split(1, dim=-1)
        return _on_grid(LaplaceDensity(location, log_scale), outputs, y)


@dataclass(frozen=True, kw_only=True)
class MixtureLikelihood(RegressionMethod):
    """A mixture density network by likelihood.

    Attributes:
        num_components: C.
    """

    num_components: int = 4

    @property
    def num_outputs(self) -> int:
        """3 C."""
        return 3 * self.num_components

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        return -WeightedMixture.from_outputs(outputs).log_prob(y[..., None])[..., 0]

    def log_density_of(self, outputs: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        mixture = WeightedMixture.from_outputs(outputs)
        return mixture.log_prob(y.expand(*outputs.shape[:2], -1))


@dataclass(frozen=True, kw_only=True)
class PROPEL(RegressionMethod):
    """Equal mixture by its overlap with a Gaussian around the true value (M-11).

    Attributes:
        num_components: I.
        target_std: of that Gaussian, in which the log variances are measured as well.
    """

    num_components: int = 4
    target_std: float = 0.05

    @property
    def num_outputs(self) -> int:
        """2 I."""
        return 2 * self.num_components

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        means, log_variances = self._components(outputs)
        target = y.flatten()[:, None]
        return propel_loss(target, means, log_variances, self.target_std**2).view_as(y)

    def log_density_of(self, outputs: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        return _on_grid(MixtureDensity(*self._components(outputs)), outputs, y)

    def _components(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log variances ``(K B, I, 1)``."""
        means, relative = outputs.flatten(0, 1)[..., None].chunk(2, dim=1)
        return means, relative + 2 * math.log(self.target_std)


@dataclass(frozen=True, kw_only=True)
class Binned(RegressionMethod):
    """Classification into bins with soft labels (M-14).

    Attributes:
        num_levels: L over the range of y.
    """

    num_levels: int = 128

    @property
    def num_outputs(self) -> int:
        """L."""
        return self.num_levels

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        labels = soft_labels(level_labels(y, self.num_levels), self.num_levels, "linear")
        return soft_cross_entropy(outputs, labels)

    def log_density_of(self, outputs: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        return _on_grid(_histogram(outputs), outputs, y)


class CodedModels(RegressionModels):
    """K networks to M bits, and the codebooks ``(K, M, L)`` they learn.

    Args:
        num_bits: M.
        num_levels: L.
        random: K generators.
    """

    def __init__(self, num_bits: int, num_levels: int, random: ModelGenerators) -> None:
        super().__init__(num_bits, random)
        self.codebook = nn.Parameter(random.uniform(num_bits, num_levels))


@dataclass(frozen=True, kw_only=True)
class RLEL(Method):
    """Learned label encodings: levels are scored by codes that are learned, too (M-13).

    Attributes:
        num_levels: L over the range of y.
        num_bits: M.
        distance_weight: of the penalty for codes too close to each other.
        smoothness_weight: of the penalty for bits that change from level to level.
    """

    num_levels: int = 128
    num_bits: int = 64
    distance_weight: float = 1e-3
    smoothness_weight: float = 1e-3

    def build(self, random: ModelGenerators) -> nn.Module:
        """Make K networks with codebooks; see the base class."""
        return CodedModels(self.num_bits, self.num_levels, random)

    def loss(self, models: nn.Module, x: Tensor, y: Tensor, random: ModelGenerators) -> Tensor:
        """Cross entropy and penalties; see the base class."""
        assert isinstance(models, CodedModels)
        codes, levels = models(x), level_labels(y, self.num_levels)
        labels = soft_labels(levels, self.num_levels, "laplace")
        losses = soft_cross_entropy(codes @ models.codebook, labels).mean(dim=1)
        # The penalties know dimensions with codes of their own; here these are the models.
        apart = code_distance_penalty(codes.transpose(0, 1), levels.T)
        smooth = code_smoothness_penalty(models.codebook)
        return losses + self.distance_weight * apart + self.smoothness_weight * smooth

    def log_density(self, models: nn.Module, name: str, x: Tensor, y: Tensor) -> Tensor:
        """The histogram of the levels; see the base class."""
        assert isinstance(models, CodedModels)
        scores = models(x.expand(models.num_models, -1)) @ models.codebook
        return _on_grid(_histogram(scores), scores, y)


def level_labels(y: Tensor, num_levels: int) -> Tensor:
    """Return y in levels, 0 to L - 1 over the range; what lies outside saturates."""
    return ((y + RANGE) * ((num_levels - 1) / (2 * RANGE))).clamp(0, num_levels - 1)


def _histogram(scores: Tensor) -> HistogramDensity:
    """Densities of level scores ``(K, X, L)``, one for each of the K X rows."""
    log_masses = torch.log_softmax(scores.flatten(0, 1)[:, None], dim=-1)
    return HistogramDensity(log_masses, (-RANGE,), (RANGE,))


def _on_grid(density: Density, outputs: Tensor, y: Tensor) -> Tensor:
    """Log densities ``(K, X, Y)`` of K X densities at y ``(Y,)``."""
    rows = outputs.shape[:2]
    log_prob = density.log_prob(y[:, None, None].expand(-1, rows.numel(), 1))
    return log_prob.T.unflatten(0, rows)
