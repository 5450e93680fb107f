"""What every method of the benchmark offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor, nn

from ebm3d.benchmarks.regression_1d.randomness import ModelGenerators


@dataclass(frozen=True)
class Schedule:
    """How a method is optimized.

    Attributes:
        learning_rate: of Adam, at the start.
        cosine: whether the learning rate falls to zero along half a cosine; otherwise it stays.
        averaging: decay per step of a moving average of the parameters, with which the model is
            evaluated; 0 for the last parameters.
        weight_decay: decoupled, as AdamW's.
    """

    learning_rate: float = 1e-3
    cosine: bool = False
    averaging: float = 0.0
    weight_decay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to learn p(y | x); trains K models at once.

    Attributes:
        densities: what is evaluated after training, titles by name.
        schedule: how it is optimized; as published by default.
    """

    densities: dict[str, str]
    schedule: Schedule = field(default_factory=Schedule)

    @abstractmethod
    def build(self, random: ModelGenerators) -> nn.Module:
        """Make K models whose parameters have K as their first axis."""

    @abstractmethod
    def loss(self, models: nn.Module, x: Tensor, y: Tensor, random: ModelGenerators) -> Tensor:
        """Return the loss ``(K,)`` of x and y ``(K, B)``: means over each model's own batch."""

    @abstractmethod
    def log_density(self, models: nn.Module, name: str, x: Tensor, y: Tensor) -> Tensor:
        """Return log densities up to a constant, ``(K, X, Y)``, of x ``(X,)`` and y ``(Y,)``."""
