"""Two conditional densities of y given x, training sets drawn from them, and the divergence.

Set 1 has two modes where x < 0, a skewed one with an abrupt end elsewhere; set 2 has one mode,
whose width grows by a factor of twenty. Source: Gustafsson et al., "How to Train Your Energy-Based
Model for Regression", BMVC 2020, Appendix D. docs/method.md, M-32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import LogNormal, Normal

RANGE = 3.0
"""x is uniform between minus and plus this; densities over y are compared between the same."""

_LOG_EPSILON = math.log(1e-30)


@dataclass(frozen=True)
class Problem:
    """A conditional density: ``draw(x, random_state)`` gives y, ``log_density(x, y)`` nats."""

    title: str
    draw: Callable[[Any, np.random.RandomState], Any]
    log_density: Callable[[Tensor, Tensor], Tensor]

    def sample(self, num_points: int = 2000, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Draw x and y ``(N,)`` float32; 2000 points of seed 0 are the published set."""
        state = np.random.RandomState(seed)
        x = state.uniform(-RANGE, RANGE, num_points).astype(np.float32)
        return torch.from_numpy(x), torch.from_numpy(self.draw(x, state)).float()


def _draw_first(x: Any, state: np.random.RandomState) -> Any:
    """Points of set 1, one after the other as the published ones were drawn."""
    y, wave = np.empty(len(x)), np.sin(x).astype(np.float64)
    for index, value in enumerate(x):
        if value >= 0:
            y[index] = state.lognormal(0.0, 0.25) - 1
        else:
            sign = 1 if state.randint(5) < 4 else -1
            y[index] = state.normal(sign * wave[index], 0.075)
    return y


def _first_log_density(x: Tensor, y: Tensor) -> Tensor:
    """Set 1: two Gaussians where x < 0, a shifted log-normal density elsewhere."""
    left = torch.logaddexp(
        Normal(torch.sin(x), 0.075).log_prob(y) + math.log(0.8),
        Normal(-torch.sin(x), 0.075).log_prob(y) + math.log(0.2),
    )
    right = LogNormal(0.0, 0.25).log_prob(torch.where(y > -1, y + 1, 1.0))
    return torch.where(x < 0, left, torch.where(y > -1, right, -math.inf))


def _draw_second(x: Any, state: np.random.RandomState) -> Any:
    """Points of set 2."""
    std = 0.15 / (1 + np.exp(-x).astype(np.float64))
    return state.normal(np.sin(x).astype(np.float64), std)


def _second_log_density(x: Tensor, y: Tensor) -> Tensor:
    """Set 2: a Gaussian."""
    return Normal(torch.sin(x), 0.15 * torch.sigmoid(x)).log_prob(y)


PROBLEMS = {
    "set1": Problem("two modes, then a skewed one", _draw_first, _first_log_density),
    "set2": Problem("one mode of varying width", _draw_second, _second_log_density),
}


@torch.no_grad()
def kl_divergence(
    problem: Problem, log_density: Callable[[Tensor, Tensor], Tensor], size: int = 2048
) -> Tensor:
    r"""Divergence of K models from the true density, averaged over x, ``(K,)`` nats.

    .. math::
        \frac1X \sum_x \sum_y p(y|x) \log\frac{p(y|x) + \epsilon}{q(y|x) + \epsilon}

    with masses on a grid of ``size`` x and y, epsilon 1e-30. Source: BMVC 2020; deviation: f is
    normalized in log space, where no exponential overflows.

    Args:
        problem: the true density p.
        log_density: from x ``(X,)`` and y ``(Y,)`` to ``(K, X, Y)``, up to a constant for each x.
        size: points of the grid in x and in y.
    """
    points = torch.linspace(-RANGE, RANGE, size)
    total: Any = 0.0
    for x in points.split(128):
        log_p = problem.log_density(x.double()[:, None], points.double()).log_softmax(-1)
        log_q = log_density(x, points).double().log_softmax(-1)
        ratio = _with_epsilon(log_p) - _with_epsilon(log_q)
        total = total + (log_p.exp() * ratio).sum(dim=(-2, -1))
    return total / size


def _with_epsilon(log_mass: Tensor) -> Tensor:
    """log(exp(log_mass) + epsilon)."""
    return torch.logaddexp(log_mass, log_mass.new_full((), _LOG_EPSILON))
