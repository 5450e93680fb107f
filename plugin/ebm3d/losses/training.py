"""The contract of training methods: ``(f, noise) -> TrainingLoss``.

N true boxes of D columns, 9 with velocities; M noise samples and S variants of each; F pooled
features.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class FeatureScorer(Protocol):
    """f ``(N, S)`` of boxes ``(N, S, D)`` near the true ones (:class:`ebm3d.energy.BoxEnergy`)."""

    def __call__(self, boxes: Tensor) -> Tensor:
        """Evaluate f, differentiable in boxes and parameters."""

    def pooled(self, boxes: Tensor) -> Tensor:
        """Features ``(N, S, F)`` that f is computed from, without a graph."""


class Samples(Protocol):
    """True boxes with their noise samples (:class:`ebm3d.noise.NoiseSamples`)."""

    @property
    def boxes(self) -> Tensor:
        """``(N, M + 1, D)``; index 0 of the second axis is the true box."""

    @property
    def log_q(self) -> Tensor:
        """``(N, M + 1)`` log density of the noise there, nats, without a graph."""


class NoiseAround(Protocol):
    """Noise bound to N true boxes: what ``around`` of a noise or a learned proposal returns."""

    @property
    def boxes(self) -> Tensor:
        """``(N, D)`` true boxes."""

    @property
    def noise_std(self) -> Tensor:
        """``(N, D)`` standard deviations of the residuals of a ``LocalCoding`` around them."""

    @property
    def reference(self) -> Tensor:
        """``(N, D)`` a draw of the noise in place of a detection, the same at each call."""

    @property
    def reference_noise_std(self) -> Tensor:
        """``(N, D)`` standard deviations of the noise around the reference, not the true box."""

    @property
    def generator(self) -> torch.Generator | None:
        """Source of all randomness; None for the global one."""

    def sample(self, num_samples: int) -> Samples:
        """Draw M = ``num_samples`` boxes around each true box."""

    def log_prob(self, boxes: Tensor) -> Tensor:
        """Log densities ``(N, S)`` at boxes ``(N, S, D)``, nats, in meters, radians and m/s."""

    def scale_std(self, factor: float) -> CenteredNoise:
        """Noise centered on the true boxes, all standard deviations times ``factor``."""


class CenteredNoise(NoiseAround, Protocol):
    """Noise of one kind around any box (:class:`ebm3d.noise.BoundNoise`)."""

    def with_centers(self, boxes: Tensor) -> CenteredNoise:
        """The same noise around boxes ``(N, D)`` of the same classes."""

    def log_prob_around(self, centers: Tensor) -> Tensor:
        """Log densities ``(N, S)`` of ``boxes`` under noise around ``(N, S, D)``."""


@dataclass(frozen=True)
class TrainingLoss:
    """Loss of a training method.

    Attributes:
        per_box: ``(N,)``, no reduction.
        logged: further figures by name, ``(N,)`` each, whose means are logged.
        samples: where f was evaluated, to train a proposal; None if not of a known density.
        f: ``(N, M + 1)`` f at ``samples``, without a graph.
    """

    per_box: Tensor
    logged: dict[str, Tensor] = field(default_factory=dict)
    samples: Samples | None = None
    f: Tensor | None = None


class TrainingMethod(Protocol):
    """Trains f; a method with parameters is an ``nn.Module``.

    Attributes:
        is_density: f becomes an unnormalized log density.
        returns_samples: the loss comes with ``samples`` and ``f``.
    """

    is_density: bool
    returns_samples: bool

    def __call__(self, f: FeatureScorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss per true box."""
