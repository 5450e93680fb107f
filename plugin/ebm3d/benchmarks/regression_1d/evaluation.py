"""Divergence of learned densities from the true one, on a grid.

K models; X = Y = 2048 points of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ebm3d.benchmarks.regression_1d.problem import RANGE, Problem

GRID_SIZE = 2048
_LOG_EPSILON = math.log(1e-30)
_ROWS = 128

LogDensities = Callable[[Tensor], Tensor]
"""From x ``(X,)`` to log densities up to a constant ``(K, X, Y)`` on the grid of y."""


def grid(size: int = GRID_SIZE) -> Tensor:
    """Return evenly spaced points over the range, ends included, float32 ``(size,)``."""
    return torch.linspace(-RANGE, RANGE, size)


@torch.no_grad()
def kl_divergence(problem: Problem, log_densities: LogDensities, size: int = GRID_SIZE) -> Tensor:
    r"""Divergence of the models from the true density, averaged over x.

    .. math::
        \frac1X \sum_x \sum_y p(y|x) \log\frac{p(y|x) + \epsilon}{q(y|x) + \epsilon}

    with the masses of both over the grid of y; epsilon is 1e-30. Source: Gustafsson et al., BMVC
    2020; deviation: f is normalized in log space, where no exponential overflows. docs/method.md,
    M-32.

    Args:
        problem: gives p.
        log_densities: of the models, up to a constant for each x; called with some x at a time.
        size: of the grid in x and in y.

    Returns:
        float64 ``(K,)``, nats.
    """
    points = grid(size)
    sums = []
    for x in points.split(_ROWS):
        log_p = problem.log_density(x.double()[:, None], points.double())
        log_p = torch.log_softmax(log_p, dim=-1)
        p = log_p.exp()
        entropy = (p * _with_epsilon(log_p)).sum()
        log_q = torch.log_softmax(log_densities(x), dim=-1)
        cross = torch.einsum("xy,kxy->k", p.to(log_q), _with_epsilon(log_q))
        sums.append(entropy - cross.double())
    return torch.stack(sums).sum(0) / size


def _with_epsilon(log_mass: Tensor) -> Tensor:
    """log(exp(log_mass) + epsilon)."""
    return torch.logaddexp(log_mass, log_mass.new_tensor(_LOG_EPSILON))
