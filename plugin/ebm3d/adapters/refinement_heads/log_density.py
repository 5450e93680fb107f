"""The normalized log density of refined boxes, for their scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm3d.energy import BoundNetwork, sample_posterior
from ebm3d.errors import input_error
from ebm3d.refiners.laplace import laplace_approximation

METHODS = ("importance", "laplace", "learned")


class LogDensity:
    """Normalizes f at refined boxes: log p = f - log Z. docs/method.md, M-31.

    Args:
        method: how log Z is found: "importance": from samples around the refined box (M-20);
            "laplace": from the curvature of f there (M-30); "learned": by the normalizer that
            ``SNLLoss`` trains beside f, at the detected box (M-25).
        num_samples: of each round of "importance".
        num_rounds: of "importance".

    Raises:
        ValueError: for an unknown method, or a number below one.
    """

    def __init__(
        self, method: str = "importance", num_samples: int = 64, num_rounds: int = 3
    ) -> None:
        if method not in METHODS:
            raise input_error("log_density.method", f"one of {METHODS}", repr(method))
        if min(num_samples, num_rounds) < 1:
            got = (num_samples, num_rounds)
            raise input_error("log_density.num_samples, num_rounds", "at least 1", got)
        self.method, self.num_samples, self.num_rounds = method, num_samples, num_rounds

    def check(self, criterion: Any) -> None:
        """Raise unless f, as a training method leaves it, can be normalized this way.

        Args:
            criterion: the training method.

        Raises:
            ValueError: naming the loss.
        """
        name = type(criterion).__name__
        if not criterion.is_density:
            raise input_error("loss", "one that makes f a log density, for log_density", name)
        if self.method == "learned" and not hasattr(criterion, "log_normalizer"):
            raise input_error("loss", "SNLLoss, for log_density.method='learned'", name)

    @torch.no_grad()
    def __call__(
        self,
        energy: BoundNetwork,
        boxes: Tensor,
        f: Tensor,
        detected: Tensor,
        noise: Any,
        criterion: Any,
    ) -> Tensor:
        """Return log p of refined boxes.

        Args:
            energy: bound to N boxes.
            boxes: ``(N, 7)`` refined.
            f: ``(N,)`` there.
            detected: ``(N, 7)``.
            noise: the ``BoxNoise`` whose width f can tell apart.
            criterion: the training method.

        Returns:
            ``(N,)`` nats, meters and radians; the same for the same input: samples are of a fixed
            seed. NaN where f is not finite at the box.
        """
        if len(boxes) == 0:
            return f
        units = noise.class_stds(energy.labels).to(boxes)
        if self.method == "learned":
            log_normalizer = criterion.log_normalizer(energy, detected, units)
        elif self.method == "laplace":
            log_normalizer = laplace_approximation(energy, boxes, units).log_normalizer
        else:
            generator = torch.Generator(boxes.device).manual_seed(0)
            log_normalizer = sample_posterior(
                energy,
                boxes,
                energy.labels,
                noise,
                self.num_samples,
                self.num_rounds,
                generator,
            ).log_normalizer
        value = f - log_normalizer.to(f)
        return torch.where(torch.isfinite(value), value, torch.nan)
