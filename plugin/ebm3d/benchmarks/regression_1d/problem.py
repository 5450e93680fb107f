"""Two conditional densities of one number given another, and training sets drawn from them.

Set 1 has two modes on the left, and on the right one that is skewed and ends abruptly; set 2 has
one mode, whose width grows by a factor of twenty. Source: Gustafsson et al., "How to Train Your
Energy-Based Model for Regression", BMVC 2020, Appendix D. docs/method.md, M-32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.densities.gaussian import log_normal
from ebm3d.errors import input_error

RANGE = 3.0
"""x is uniform between minus and plus this; densities over y are compared between the same."""
NUM_POINTS = 2000

FloatArray = NDArray[np.float64]

_LEFT_STD = 0.075
_RIGHT_SIGMA = 0.25  # of the logarithm
_WIDEST = 0.15


@dataclass(frozen=True)
class Problem:
    """A conditional density to be learned.

    Attributes:
        name: ``"set1"`` or ``"set2"``.
        title: what it looks like.
        draw: y for x ``(N,)``, float32, from numpy's generator of the published recipe.
        log_density: log p(y | x) of x and y that broadcast, nats; minus infinity where p is zero.
    """

    name: str
    title: str
    draw: Callable[[NDArray[np.float32], np.random.RandomState], FloatArray]
    log_density: Callable[[Tensor, Tensor], Tensor]

    def sample(self, num_points: int = NUM_POINTS, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Draw a training set.

        Args:
            num_points: N, at least 0.
            seed: of ``numpy.random.RandomState``; 0 gives the published sets.

        Returns:
            x and y, float32 ``(N,)`` each.

        Raises:
            ValueError: for a negative number of points.
        """
        if num_points < 0:
            raise input_error("num_points", "at least 0", num_points)
        state = np.random.RandomState(seed)
        x = state.uniform(-RANGE, RANGE, num_points).astype(np.float32)
        return torch.from_numpy(x), torch.from_numpy(self.draw(x, state)).float()


def _draw_first(x: NDArray[np.float32], state: np.random.RandomState) -> FloatArray:
    """Points of set 1, one after the other, as the published points were drawn."""
    y, wave = np.empty(len(x)), np.sin(x).astype(np.float64)
    for index, value in enumerate(x):
        if value >= 0:
            y[index] = state.lognormal(0.0, _RIGHT_SIGMA) - 1
        else:
            sign = 1 if state.randint(5) < 4 else -1
            y[index] = state.normal(sign * wave[index], _LEFT_STD)
    return y


def _first_log_density(x: Tensor, y: Tensor) -> Tensor:
    """Set 1: two Gaussians where x < 0, a shifted log-normal density elsewhere."""
    log_variance = x.new_tensor(2 * math.log(_LEFT_STD))
    left = torch.logaddexp(
        log_normal(y, torch.sin(x), log_variance) + math.log(0.8),
        log_normal(y, -torch.sin(x), log_variance) + math.log(0.2),
    )
    inside = y > -1
    log_y = torch.log(torch.where(inside, y + 1, 1.0))
    log_variance = x.new_tensor(2 * math.log(_RIGHT_SIGMA))
    right = log_normal(log_y, torch.zeros_like(log_y), log_variance) - log_y
    return torch.where(x < 0, left, torch.where(inside, right, -math.inf))


def _draw_second(x: NDArray[np.float32], state: np.random.RandomState) -> FloatArray:
    """Points of set 2."""
    std = _WIDEST / (1 + np.exp(-x).astype(np.float64))
    return state.normal(np.sin(x).astype(np.float64), std)


def _second_log_density(x: Tensor, y: Tensor) -> Tensor:
    """Set 2: a Gaussian."""
    return log_normal(y, torch.sin(x), 2 * torch.log(_WIDEST * torch.sigmoid(x)))


PROBLEMS = {
    "set1": Problem("set1", "two modes, then a skewed one", _draw_first, _first_log_density),
    "set2": Problem("set2", "one mode of varying width", _draw_second, _second_log_density),
}
