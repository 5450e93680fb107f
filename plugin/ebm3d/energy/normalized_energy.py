"""What normalizes exp f around refined boxes, computed once for all that ask for it."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ebm3d.devices import seeded_generator
from ebm3d.energy.bound_network import BoundNetwork
from ebm3d.energy.posterior import ImportanceSamples, sample_posterior
from ebm3d.noise import BoxNoise
from ebm3d.refiners.laplace import LaplaceApproximation, laplace_approximation
from ebm3d.refiners.scorers import Scorer


class NormalizedEnergy:
    """Laplace approximation and weighted samples of exp f, shared by log density and uncertainty.

    Args:
        energy: bound to N boxes.
        boxes: ``(N, D)`` near modes of f.
        noise: as wide as the errors f can tell apart.
        f: the log density that is normalized; the energy if left out.
    """

    def __init__(
        self, energy: BoundNetwork, boxes: Tensor, noise: BoxNoise, f: Scorer | None = None
    ) -> None:
        self.energy, self.boxes, self._noise = energy, boxes, noise
        self._f: Scorer = energy if f is None else f
        self._posteriors: dict[tuple[int, int], ImportanceSamples] = {}

    def noise_std(self, boxes: Tensor) -> Tensor:
        """Return the noise's standard deviations ``(N, D)`` around boxes ``(N, D)``."""
        return self._noise.noise_std(boxes, self.energy.labels)

    @cached_property
    @torch.no_grad()
    def laplace(self) -> LaplaceApproximation:
        """The Gaussian of the curvature of f; docs/method.md, M-30."""
        return laplace_approximation(self._f, self.boxes, self.noise_std(self.boxes))

    def posterior(self, num_samples: int, num_rounds: int) -> ImportanceSamples:
        """Return weighted samples of a fixed seed; see :func:`sample_posterior`."""
        key = (num_samples, num_rounds)
        if key not in self._posteriors:
            generator = seeded_generator(self.boxes.device, 0)
            self._posteriors[key] = sample_posterior(
                self._f, self.boxes, self.energy.labels, self._noise, *key, generator
            )
        return self._posteriors[key]
