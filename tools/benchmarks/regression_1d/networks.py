"""The published networks, K of them as one whose parameters have K as their first axis."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

NUM_UNITS = 10


class Linear(nn.Module):
    """K linear layers from ``(K, in, N)`` to ``(K, out, N)``, initialized as ``nn.Linear``."""

    def __init__(self, num_models: int, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(num_inputs)
        self.weight = nn.Parameter(torch.empty(num_models, num_outputs, num_inputs))
        self.bias = nn.Parameter(torch.empty(num_models, num_outputs, 1))
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map the units, the second axis."""
        return torch.baddbmm(self.bias, self.weight, inputs)


class FeatureNetwork(nn.Module):
    """x ``(K, B)`` to features ``(K, H, B)``: two layers with ReLU."""

    def __init__(self, num_models: int) -> None:
        super().__init__()
        self.first = Linear(num_models, 1, NUM_UNITS)
        self.second = Linear(num_models, NUM_UNITS, NUM_UNITS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features."""
        return torch.relu(self.second(torch.relu(self.first(x[:, None]))))


class Head(nn.Module):
    """Features ``(K, H, B)`` to outputs ``(K, B, P)``: a layer with ReLU and a linear one."""

    def __init__(self, num_models: int, num_outputs: int) -> None:
        super().__init__()
        self.hidden = Linear(num_models, NUM_UNITS, NUM_UNITS)
        self.last = Linear(num_models, NUM_UNITS, num_outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs."""
        return self.last(torch.relu(self.hidden(features))).mT


class EnergyModels(nn.Module):
    """f(x, y): a branch of x, one of y, three joint layers; if wanted, a second head on x."""

    def __init__(self, num_models: int, num_outputs: int = 0) -> None:
        super().__init__()
        self.num_models = num_models
        self.features = FeatureNetwork(num_models)
        self.branch = Linear(num_models, 1, NUM_UNITS)
        self.join = Linear(num_models, 2 * NUM_UNITS, NUM_UNITS)
        self.second = Linear(num_models, NUM_UNITS, NUM_UNITS)
        self.third = Linear(num_models, NUM_UNITS, NUM_UNITS)
        self.last = Linear(num_models, NUM_UNITS, 1)
        self.head = Head(num_models, num_outputs) if num_outputs else None

    def bind(self, x: Tensor) -> BoundEnergy:
        """Return f(x, .) of x ``(K, B)``."""
        return BoundEnergy(self, self.features(x))


class BoundEnergy:
    """f(x, .): from y ``(K, B, S)`` to f ``(K, B, S)``.

    Args:
        models: K of them.
        features: of x, ``(K, H, B)``.
    """

    def __init__(self, models: EnergyModels, features: Tensor) -> None:
        self.models = models
        self.features = features
        # The joint layer's part of x, once for all y of an x.
        of_x, self.of_y = models.join.weight.split(NUM_UNITS, dim=2)
        self.context = torch.baddbmm(models.join.bias, of_x, features)

    def __call__(self, y: Tensor) -> Tensor:
        """Return f."""
        models, (batch, size) = self.models, y.shape[1:]
        h = torch.tanh(models.branch(y.flatten(1)[:, None]))
        joint = torch.bmm(self.of_y, h).unflatten(2, (batch, size)) + self.context[..., None]
        h = torch.tanh(joint).flatten(2)
        h = h + torch.tanh(models.second(h))
        h = h + torch.tanh(models.third(h))
        return models.last(h).view(y.shape)

    def outputs(self, detach: bool = False) -> Tensor:
        """Return what the second head makes of x, ``(K, B, P)``."""
        assert self.models.head is not None
        return self.models.head(self.features.detach() if detach else self.features)


class RegressionModels(nn.Module):
    """x ``(K, B)`` to outputs ``(K, B, P)``: the energy's network without its branch of y.

    Args:
        num_models: K.
        num_outputs: P.
        num_levels: L, if the outputs are codes, whose codebook ``(K, P, L)`` is learned as well.
    """

    def __init__(self, num_models: int, num_outputs: int, num_levels: int = 0) -> None:
        super().__init__()
        self.num_models = num_models
        self.features = FeatureNetwork(num_models)
        layers = [Linear(num_models, NUM_UNITS, NUM_UNITS) for _ in range(3)]
        self.join, self.second, self.third = layers
        self.last = Linear(num_models, NUM_UNITS, num_outputs)
        if num_levels:
            self.codebook = nn.Parameter(torch.rand(num_models, num_outputs, num_levels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        h = torch.tanh(self.join(self.features(x)))
        h = h + torch.tanh(self.second(h))
        h = h + torch.tanh(self.third(h))
        return self.last(h).mT
