"""The normalized log density of refined boxes, for their scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm3d.energy.normalized_energy import NormalizedEnergy
from ebm3d.errors import check_count, input_error

METHODS = ("importance", "laplace", "learned")


class LogDensity:
    """Normalizes f at refined boxes: log p = f - log Z. docs/method.md, M-31.

    Args:
        method: how log Z is estimated: "importance": from samples around the refined box (M-20);
            "laplace": from the curvature of f there (M-30); "learned": by the normalizer that
            ``SNLLoss`` trains beside f, at the detected box (M-25).
        num_samples: of each round of "importance".
        num_rounds: of "importance". With 256 samples in 4 rounds, those of
            ``uncertainty="importance"`` are used.

    Raises:
        ValueError: for an unknown method, or a number below one.
    """

    def __init__(
        self, method: str = "importance", num_samples: int = 64, num_rounds: int = 3
    ) -> None:
        if method not in METHODS:
            raise input_error("log_density.method", f"one of {METHODS}", repr(method))
        check_count("log_density.num_samples", num_samples)
        check_count("log_density.num_rounds", num_rounds)
        self.method, self.num_samples, self.num_rounds = method, num_samples, num_rounds

    def check(self, criterion: Any) -> None:
        """Raise ``ValueError`` unless f, as a training method leaves it, can be normalized so."""
        name = type(criterion).__name__
        if not criterion.is_density:
            raise input_error("loss", "one that makes f a log density, for log_density", name)
        if self.method == "learned" and not hasattr(criterion, "log_normalizer"):
            raise input_error("loss", "SNLLoss, for log_density.method='learned'", name)

    @torch.no_grad()
    def __call__(
        self, normalized: NormalizedEnergy, f: Tensor, detected: Tensor, criterion: Any
    ) -> Tensor:
        """Return log p ``(N,)`` of refined boxes, nats, meters, radians and m/s.

        NaN where f or log Z is not finite.

        Args:
            normalized: f around N refined boxes.
            f: ``(N,)`` at them.
            detected: ``(N, D)``.
            criterion: the training method.
        """
        if len(f) == 0:
            return f
        if self.method == "learned":
            noise_std = normalized.noise_std(detected)
            log_z = criterion.log_normalizer(normalized.energy, detected, noise_std)
        elif self.method == "laplace":
            log_z = normalized.laplace.log_normalizer
        else:
            log_z = normalized.posterior(self.num_samples, self.num_rounds).log_normalizer
        log_p = f - log_z.to(f)
        return torch.where(torch.isfinite(log_p), log_p, torch.nan)
