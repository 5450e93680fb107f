"""What a training method of an energy sees and gives back.

N true boxes; M noise samples of each; S variants of each; F pooled features.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class BatchScorer(Protocol):
    """Evaluates f of S variants of N boxes."""

    def __call__(self, boxes: Tensor) -> Tensor:
        """Return f ``(N, S)`` of boxes ``(N, S, 7)``."""
        ...


class FeatureScorer(BatchScorer, Protocol):
    """A :class:`BatchScorer` that also shows the features f is computed from.

    :class:`ebm3d.energy.BoundNetwork` is one.
    """

    @property
    def labels(self) -> Tensor:
        """``(N,)`` class indices."""
        ...

    def pooled(self, boxes: Tensor) -> Tensor:
        """Return pooled features ``(N, S, F)`` of boxes ``(N, S, 7)``, without a graph."""
        ...


class Contrast(Protocol):
    """True boxes with their noise samples (:class:`ebm3d.noise.NoiseSamples`).

    Attributes:
        boxes: ``(N, M + 1, 7)``; index 0 of the second axis is the true box.
        log_q: ``(N, M + 1)`` log density of the noise at those boxes, nats; without a graph.
    """

    @property
    def boxes(self) -> Tensor:
        """``(N, M + 1, 7)``."""
        ...

    @property
    def log_q(self) -> Tensor:
        """``(N, M + 1)``."""
        ...


class NoiseAround(Protocol):
    """Noise bound to N true boxes: what training methods draw from.

    :class:`ebm3d.noise.BoxNoise` and :class:`ebm3d.noise.LearnedProposal` give such by their
    ``around``.
    """

    @property
    def boxes(self) -> Tensor:
        """``(N, 7)`` true boxes."""
        ...

    @property
    def labels(self) -> Tensor:
        """``(N,)`` class indices."""
        ...

    @property
    def noise_std(self) -> Tensor:
        """``(N, 7)`` standard deviations of the noise, units of ``LocalCoding(boxes, units)``."""
        ...

    @property
    def reference(self) -> Tensor:
        """``(N, 7)`` boxes as a detector might have found the true ones; the same at each call.

        What a log-normalizer or a proposal is conditioned on; at inference it is the detection.
        """
        ...

    @property
    def reference_noise_std(self) -> Tensor:
        """``(N, 7)`` standard deviations of the noise around the reference.

        As ``noise_std``, but without what those of metric noise tell of the true box: its size and
        heading.
        """
        ...

    @property
    def generator(self) -> torch.Generator | None:
        """Source of all randomness, on the device of the boxes; None for the global one."""
        ...

    def sample(self, num_samples: int) -> Contrast:
        """Draw M = ``num_samples`` boxes around each true box, which is at index 0."""
        ...

    def log_prob(self, boxes: Tensor) -> Tensor:
        """Return log densities ``(N, S)`` at boxes ``(N, S, 7)``, nats, meters and radians."""
        ...

    def scale_std(self, factor: float) -> CenteredNoise:
        """Return noise centered on the true boxes, all standard deviations times ``factor``."""
        ...


class CenteredNoise(NoiseAround, Protocol):
    """Noise of one kind around any box, as that of :class:`ebm3d.noise.BoxNoise`."""

    def with_centers(self, boxes: Tensor) -> CenteredNoise:
        """Return the same noise around boxes ``(N, 7)`` of the same classes."""
        ...

    def log_prob_around(self, centers: Tensor) -> Tensor:
        """Return log densities ``(N, S)`` of ``boxes`` under noise around ``(N, S, 7)``."""
        ...


@dataclass(frozen=True)
class Examples:
    """A :class:`Contrast` put together by a training method.

    Attributes:
        boxes: ``(N, M + 1, 7)``.
        log_q: ``(N, M + 1)`` nats.
    """

    boxes: Tensor
    log_q: Tensor


@dataclass(frozen=True)
class TrainingLoss:
    """Loss of a training method.

    Attributes:
        per_box: ``(N,)``, no reduction.
        logged: further figures by name, ``(N,)`` each, of which the mean is logged.
        samples: what f was evaluated at, from which a learned proposal can learn; None where the
            method draws no samples of the noise, or f is no log density.
        f: ``(N, M + 1)`` f at ``samples``, without a graph.
    """

    per_box: Tensor
    logged: dict[str, Tensor] = field(default_factory=dict)
    samples: Contrast | None = None
    f: Tensor | None = None


class TrainingMethod(Protocol):
    """Trains f; those with parameters of their own are ``nn.Module``s.

    Attributes:
        is_density: f becomes an unnormalized log density.
        draws_noise: f is evaluated at samples of the noise it is given. Otherwise what is mixed
            into that noise (hard negatives, a learned proposal) teaches f nothing: the method knows
            its units, or the plain noise beneath it, alone.
        returns_samples: the loss comes with the samples and f there, which teach a learned proposal.
    """

    is_density: bool
    draws_noise: bool
    returns_samples: bool

    def __call__(self, f: FeatureScorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss per true box.

        Args:
            f: evaluates boxes near the true ones.
            noise: bound to the true boxes.
        """
        ...
