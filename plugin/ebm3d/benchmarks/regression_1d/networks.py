"""The small networks of the benchmark, K of them side by side.

K models; B rows, one x each; S values of y in a row; H = 10 units in every layer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ebm3d.benchmarks.regression_1d.fused_energy import (
    energy_contrast,
    energy_slopes,
    energy_values,
    plain_energy_values,
)
from ebm3d.benchmarks.regression_1d.kernels import NUM_UNITS
from ebm3d.benchmarks.regression_1d.randomness import ModelGenerators
from ebm3d.losses.score_matching import gradient_of


class BatchedLinear(nn.Module):
    """K linear layers, initialized as ``nn.Linear`` is: uniformly, by the number of inputs.

    Args:
        num_inputs: of each.
        num_outputs: of each.
        random: K generators.
        fan_in: inputs to count for the initialization, if others come from elsewhere.
    """

    def __init__(
        self, num_inputs: int, num_outputs: int, random: ModelGenerators, fan_in: int | None = None
    ) -> None:
        super().__init__()
        fan_in = num_inputs if fan_in is None else fan_in
        self.weight = nn.Parameter(_uniform(random, fan_in, num_inputs, num_outputs))
        self.bias = nn.Parameter(_uniform(random, fan_in, 1, num_outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(K, B, num_inputs)`` to ``(K, B, num_outputs)``."""
        return torch.baddbmm(self.bias, inputs, self.weight)


class FeatureNetwork(nn.Module):
    """x to H features by two layers with ReLU, as published."""

    def __init__(self, random: ModelGenerators) -> None:
        super().__init__()
        self.first = BatchedLinear(1, NUM_UNITS, random)
        self.second = BatchedLinear(NUM_UNITS, NUM_UNITS, random)

    def forward(self, x: Tensor) -> Tensor:
        """Map x ``(K, B)`` to ``(K, B, H)``."""
        return torch.relu(self.second(torch.relu(self.first(x[..., None]))))


class EnergyModels(nn.Module):
    """K networks f(x, y): a branch of x, one of y, three joint layers, as published.

    Args:
        random: K generators, from which the initial parameters are drawn.
        compiled: whether f is computed by the compiled functions; otherwise in plain torch, which
            is several times slower.
    """

    def __init__(self, random: ModelGenerators, compiled: bool = True) -> None:
        super().__init__()
        self.compiled = compiled
        self.features = FeatureNetwork(random)
        self.join = BatchedLinear(NUM_UNITS, NUM_UNITS, random, fan_in=2 * NUM_UNITS)
        H = NUM_UNITS
        # w, b_0, W_1, W_2, b_2, W_3, b_3, w_4, b_4 of the kernels.
        parts = ((1, H), (1, H), (2 * H, H * H), (H, H * H), (H, H), (H, H * H), (H, H), (H, H))
        packed = [_uniform(random, fan_in, size) for fan_in, size in (*parts, (H, 1))]
        self.packed = nn.Parameter(torch.cat(packed, dim=1))

    def bind(self, x: Tensor) -> BoundEnergy:
        """Return f of x ``(K, B)`` as a function of y."""
        features = self.features(x)
        return BoundEnergy(self.packed, self.join(features), features, self.compiled)


class BoundEnergy:
    """f(x, .) of B given x for K models.

    Args:
        packed: parameters behind the branch of x, ``(K, P)``.
        context: what the joining layer makes of x, ``(K, B, H)``.
        features: of x, ``(K, B, H)``.
        compiled: see :class:`EnergyModels`.
    """

    def __init__(self, packed: Tensor, context: Tensor, features: Tensor, compiled: bool) -> None:
        self.packed = packed
        self.context = context
        self.features = features
        self.compiled = compiled

    def __call__(self, y: Tensor) -> Tensor:
        """Return f ``(K, B, S)`` of y ``(K, B, S)``, differentiable once."""
        if not self.compiled:
            return self.plain(y)
        return energy_values(self.packed, self.context, y)

    def contrast(self, y: Tensor, log_q: Tensor) -> Tensor:
        """Return log sum exp(f - log q) less f of the first, ``(K, B)``, of ``(K, B, S)``."""
        if not self.compiled:
            f = self(y)
            return torch.logsumexp(f - log_q, dim=-1) - f[..., 0]
        return energy_contrast(self.packed, self.context, y, log_q)

    def slopes(self, y: Tensor) -> Tensor:
        """Return df/dy ``(K, B, S)``, differentiable once in the parameters."""
        if not self.compiled:
            return gradient_of(lambda points: self.plain(points[..., 0]), y[..., None])[..., 0]
        return energy_slopes(self.packed, self.context, y)

    def plain(self, y: Tensor) -> Tensor:
        """Return f ``(K, B, S)`` with a graph for derivatives of any order."""
        return plain_energy_values(self.packed, self.context, y)

    def fixed(self, model: int) -> BoundEnergy:
        """Return one model, without a graph to its parameters."""
        one = slice(model, model + 1)
        packed, context, features = (
            part[one].detach() for part in (self.packed, self.context, self.features)
        )
        return BoundEnergy(packed, context, features, self.compiled)


class Head(nn.Module):
    """H features to numbers: a layer with ReLU and a linear one."""

    def __init__(self, num_outputs: int, random: ModelGenerators) -> None:
        super().__init__()
        self.hidden = BatchedLinear(NUM_UNITS, NUM_UNITS, random)
        self.last = BatchedLinear(NUM_UNITS, num_outputs, random)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(K, B, H)`` to ``(K, B, num_outputs)``."""
        return self.last(torch.relu(self.hidden(features)))


class RegressionModels(nn.Module):
    """K networks from x to numbers: the energy's, without its branch of y.

    Args:
        num_outputs: numbers for each x.
        random: K generators.
    """

    def __init__(self, num_outputs: int, random: ModelGenerators) -> None:
        super().__init__()
        self.features = FeatureNetwork(random)
        self.join, self.second, self.third = (
            BatchedLinear(NUM_UNITS, NUM_UNITS, random) for _ in range(3)
        )
        self.last = BatchedLinear(NUM_UNITS, num_outputs, random)
        self.num_models = len(random)

    def forward(self, x: Tensor) -> Tensor:
        """Map x ``(K, B)`` to ``(K, B, num_outputs)``."""
        h = torch.tanh(self.join(self.features(x)))
        h = h + torch.tanh(self.second(h))
        return self.last(h + torch.tanh(self.third(h)))


def _uniform(random: ModelGenerators, fan_in: int, *shape: int) -> Tensor:
    """Numbers between plus and minus the root of 1 / fan_in, ``(K, *shape)``."""
    return (2 * random.uniform(*shape) - 1) / math.sqrt(fan_in)
