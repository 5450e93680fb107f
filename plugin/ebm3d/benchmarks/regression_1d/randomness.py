"""Random numbers of K models, each from a generator of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class ModelGenerators:
    """K generators: what a model draws does not depend on the models trained beside it.

    Args:
        seeds: one for each model.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = tuple(torch.Generator().manual_seed(seed) for seed in seeds)

    def __len__(self) -> int:
        """K."""
        return len(self.generators)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers ``(K, *shape)``."""
        return self._stack(lambda g: torch.randn(shape, generator=g))

    def uniform(self, *shape: int) -> Tensor:
        """Numbers between 0 and 1 ``(K, *shape)``."""
        return self._stack(lambda g: torch.rand(shape, generator=g))

    def integers(self, stop: int, *shape: int) -> Tensor:
        """Whole numbers from 0 to ``stop - 1``, ``(K, *shape)``."""
        return self._stack(lambda g: torch.randint(stop, shape, generator=g))

    def permutations(self, size: int) -> Tensor:
        """An order of ``size`` things for each model, ``(K, size)``."""
        return self._stack(lambda g: torch.randperm(size, generator=g))

    def _stack(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        """One draw of each generator."""
        return torch.stack([draw(generator) for generator in self.generators])
