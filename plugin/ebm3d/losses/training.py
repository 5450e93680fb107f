"""What a training method of an energy sees and gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


class BatchScorer(Protocol):
    """Evaluates f of S variants of N boxes."""

    def __call__(self, boxes: Tensor) -> Tensor:
        """Return f ``(N, S)`` of boxes ``(N, S, 7)``."""
        ...


class Contrast(Protocol):
    """True boxes with their noise samples (:class:`ebm3d.noise.NoiseSamples`).

    Attributes:
        boxes: ``(N, M + 1, 7)``; index 0 of the second axis is the true box.
        log_q: ``(N, M + 1)`` log density of the noise at those boxes, nats.
    """

    @property
    def boxes(self) -> Tensor:
        """``(N, M + 1, 7)``."""
        ...

    @property
    def log_q(self) -> Tensor:
        """``(N, M + 1)``."""
        ...


@dataclass(frozen=True)
class TrainingLoss:
    """Loss of a training method.

    Attributes:
        per_box: ``(N,)``, no reduction.
        logged: further figures by name, ``(N,)`` each, of which the mean is logged.
    """

    per_box: Tensor
    logged: dict[str, Tensor] = field(default_factory=dict)
