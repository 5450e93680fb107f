"""The table of densities every law is tested on, and a quadrature of theirs.

Two residuals, three rows, float64. The quadrature is composite Gauss-Legendre on a product grid
whose panels end at the kinks of the density, so that it is exact to rounding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.densities import (
    Density,
    GaussianDensity,
    HistogramDensity,
    HuberDensity,
    LaplaceDensity,
    MixtureDensity,
    MultivariateGaussianDensity,
)

ROWS = 3
_HALF_WIDTH_IN_STDS = 30.0  # a Laplace density has 4e-19 of its mass beyond
_NUM_PANELS, _NUM_NODES = 24, 12
_LOWER, _UPPER, _LEVELS = (-1.0, -0.4), (1.5, 0.8), 6

Float = NDArray[np.float64]


def _tensor(*shape: int, seed: int, spread: float = 1.0) -> Tensor:
    """Fixed numbers about zero."""
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*shape, generator=generator, dtype=torch.float64)


def _two(rows: int) -> tuple[Tensor, Tensor]:
    """Locations, and log scales between a fifth and twice of them."""
    return _tensor(rows, 2, seed=1), _tensor(rows, 2, seed=2, spread=0.5) - 0.5


def _laplace(rows: int) -> LaplaceDensity:
    return LaplaceDensity(*_two(rows))


def _mixture(rows: int, point_estimate: str = "mean", joint: bool = True) -> MixtureDensity:
    """Three components of equal weight."""
    means = _tensor(rows, 3, 2, seed=3, spread=0.8)
    log_variances = _tensor(rows, 3, 2, seed=4, spread=0.4) - 1
    return MixtureDensity(means, log_variances, point_estimate, joint=joint)


def _weighted(rows: int, **changes: Any) -> MixtureDensity:
    """Weights that differ from row to row, the last component of the first row without any."""
    log_weights = _tensor(rows, 3, seed=9)
    log_weights[:1, 2] = -math.inf
    return replace(_mixture(rows), log_weights=log_weights, **changes)


def _multivariate(rows: int) -> MultivariateGaussianDensity:
    """Correlations of either sign."""
    location, log_scale = _two(rows)
    triangle = torch.eye(2) + torch.tril(_tensor(rows, 2, 2, seed=9), -1)
    return MultivariateGaussianDensity(location, torch.diag_embed(torch.exp(log_scale)) @ triangle)


def _histogram(rows: int, tail_weight: float) -> HistogramDensity:
    masses = torch.log_softmax(_tensor(rows, 2, _LEVELS, seed=5), dim=-1)
    return HistogramDensity(masses, _LOWER, _UPPER, tail_weight)


_FACTORS = torch.tensor([0.6, 1.7], dtype=torch.float64)


def _no_kinks(density: Density) -> Tensor:
    """Smooth: no kink, ``(N, D, 0)``."""
    return density.point[..., None][..., :0]


def _kink_at_mean(density: Density) -> Tensor:
    return density.mean[..., None]


def _kinks_at_beta(density: Density) -> Tensor:
    """Where the parabola ends, on both sides."""
    assert isinstance(density, HuberDensity)
    ends = torch.tensor([-density.beta, density.beta], dtype=torch.float64)
    return density.location[..., None] + ends


def _kinks_at_edges(density: Density) -> Tensor:
    """The edges of all bins."""
    low, high = torch.tensor((_LOWER, _UPPER), dtype=torch.float64)
    width = (high - low) / (_LEVELS - 1)
    edges = low[:, None] + width[:, None] * (torch.arange(_LEVELS + 1) - 0.5)
    return edges.expand(len(density), -1, -1)


@dataclass(frozen=True)
class Example:
    """A density of so many rows, and where it is not smooth, ``(N, D, k)``."""

    build: Callable[[int], Density]
    kinks: Callable[[Density], Tensor] = _no_kinks


EXAMPLES: dict[str, Example] = {
    "gaussian": Example(lambda n: GaussianDensity(*_two(n))),
    "multivariate gaussian": Example(_multivariate),
    "laplace": Example(_laplace, _kink_at_mean),
    "huber of short parabola": Example(lambda n: HuberDensity(*_two(n), 0.1), _kinks_at_beta),
    "huber of long parabola": Example(lambda n: HuberDensity(*_two(n), 2.0), _kinks_at_beta),
    "joint mixture": Example(_mixture),
    "joint mixture, mode": Example(lambda n: _mixture(n, "mode")),
    "weighted joint mixture": Example(_weighted),
    "independent mixture": Example(lambda n: _mixture(n, joint=False)),
    "weighted independent mixture, mode": Example(
        lambda n: _weighted(n, point_estimate="mode", joint=False)
    ),
    "histogram": Example(lambda n: _histogram(n, 1e-3), _kinks_at_edges),
    "histogram of heavy tail": Example(lambda n: _histogram(n, 0.2), _kinks_at_edges),
    "rescaled laplace": Example(lambda n: _laplace(n).rescaled(_FACTORS), _kink_at_mean),
    "translated laplace": Example(
        lambda n: _laplace(n).translated(_tensor(n, 2, seed=7)), _kink_at_mean
    ),
    "laplace, decoded": Example(
        lambda n: _laplace(n).with_point(_tensor(n, 2, seed=8)), _kink_at_mean
    ),
    "rescaled joint mixture": Example(lambda n: _mixture(n, "mode").rescaled(_FACTORS)),
}


@dataclass(frozen=True)
class Quadrature:
    """One row of a density on a product grid of Q nodes, in panels between edges, per residual."""

    edges: tuple[Float, Float]
    nodes: tuple[Float, Float]
    weights: tuple[Float, Float]
    density: Float
    log_density: Float

    def expectation(self, values: Float) -> float:
        """Integral of values ``(Q, Q)`` times the density."""
        return float(self.weights[0] @ (values * self.density) @ self.weights[1])

    def panel_masses(self) -> Float:
        """Mass in each rectangle between edges, ``(panels, panels)``."""
        first, second = (weights.reshape(-1, _NUM_NODES) for weights in self.weights)
        tiles = self.density.reshape(len(first), _NUM_NODES, len(second), _NUM_NODES)
        return np.einsum("pi,piqj,qj->pq", first, tiles, second)

    def moments(self) -> tuple[Float, Float]:
        """Mean ``(2,)`` and covariance ``(2, 2)``."""
        grid = np.broadcast_arrays(self.nodes[0][:, None], self.nodes[1][None])
        mean = np.array([self.expectation(values) for values in grid])
        offsets = [values - center for values, center in zip(grid, mean, strict=True)]
        return mean, np.array([[self.expectation(a * b) for a in offsets] for b in offsets])


@functools.cache
def quadrature(name: str, row: int) -> Quadrature:
    """Evaluate one row of an example on the grid."""
    density = EXAMPLES[name].build(ROWS)[row : row + 1]
    kinks = EXAMPLES[name].kinks(density)
    half = _HALF_WIDTH_IN_STDS * density.variance.sqrt()
    reference, unit_weights = np.polynomial.legendre.leggauss(_NUM_NODES)
    edges, nodes, weights = [], [], []
    for d in range(2):
        low, high = (density.mean + sign * half for sign in (-1, 1))
        even = np.linspace(low[0, d].item(), high[0, d].item(), _NUM_PANELS + 1)
        ends = np.unique(np.concatenate((even, kinks[0, d].numpy())))
        halves = np.diff(ends)[:, None] / 2
        edges.append(ends)
        nodes.append((ends[:-1, None] + halves + halves * reference).ravel())
        weights.append((halves * unit_weights).ravel())
    grid = np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1)
    at = torch.from_numpy(grid).reshape(1, -1, 2)
    log_density = density.log_prob(at).reshape(grid.shape[:2]).numpy()
    return Quadrature(tuple(edges), tuple(nodes), tuple(weights), np.exp(log_density), log_density)
