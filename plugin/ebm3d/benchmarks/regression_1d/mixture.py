"""Mixtures of Gaussians with learned weights, for each model and each x.

K models; B rows; C components; S values of y in a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.benchmarks.regression_1d.randomness import ModelGenerators
from ebm3d.densities.gaussian import log_normal

_LEAST_STD, _GREATEST_STD = 0.01, 4.0


@dataclass(frozen=True)
class WeightedMixture:
    r"""A mixture density network's output.

    .. math:: q(y) = \sum_c w_c\, \mathcal N(y;\, \mu_c,\, e^{s_c})

    docs/method.md, M-26.

    Attributes:
        log_weights: log w, normalized, ``(K, B, C)``.
        means: ``(K, B, C)``.
        log_variances: s, ``(K, B, C)``.
    """

    log_weights: Tensor
    means: Tensor
    log_variances: Tensor

    @classmethod
    def from_outputs(cls, outputs: Tensor) -> WeightedMixture:
        """Read logits of the weights, means and log variances from ``(K, B, 3 C)``.

        Standard deviations are held in [0.01, 4]: unbounded, one proposal in five diverged.
        """
        logits, means, log_variances = outputs.chunk(3, dim=-1)
        log_variances = log_variances.clamp(2 * math.log(_LEAST_STD), 2 * math.log(_GREATEST_STD))
        return cls(torch.log_softmax(logits, dim=-1), means, log_variances)

    def log_prob(self, y: Tensor) -> Tensor:
        """Log density ``(K, B, S)`` of y ``(K, B, S)``, nats."""
        parts = [
            weight + log_normal(y, mean, log_variance)
            for weight, mean, log_variance in zip(
                self.log_weights.split(1, dim=-1),
                self.means.split(1, dim=-1),
                self.log_variances.split(1, dim=-1),
                strict=True,
            )
        ]
        return torch.logsumexp(torch.stack(parts), dim=0)

    @torch.no_grad()
    def sample(self, num: int, random: ModelGenerators) -> Tensor:
        """Draw ``(K, B, num)``, without a graph."""
        rows = self.means.shape[1]
        cumulated = torch.cumsum(self.log_weights.exp(), dim=-1)[..., :-1].contiguous()
        component = torch.searchsorted(cumulated, random.uniform(rows, num), right=True)
        means, stds = self.means, torch.exp(self.log_variances / 2)
        return means.gather(-1, component) + stds.gather(-1, component) * random.normal(rows, num)
