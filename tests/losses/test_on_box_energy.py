"""Methods that differentiate f in the box, on the real energy: both pools, two frames, float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ebm3d.energy import BoxEnergy, EnergyNetwork
from ebm3d.losses import DSMLoss, ScoreMatchingLoss, SNLLoss
from ebm3d.noise import BoxNoise
from ebm3d.pooling import BEVGridPool, PointBoxPool, Scenes
from tests.losses.examples import STDS, random_boxes

_RANGE = (0.0, -16.0, -3.0, 32.0, 16.0, 1.0)
_SIZES = [[3.9, 1.6, 1.56], [0.8, 0.6, 1.73]]


class _Model:
    """Pools and network with weights of a size that matters, and true boxes with points in them."""

    def __init__(self) -> None:
        self.pools = nn.ModuleList([BEVGridPool(6, projection=4), PointBoxPool(channels=(8, 8))])
        self.pools.double()
        self.channels = sum(int(pool.out_channels) for pool in self.pools)  # type: ignore[arg-type]
        self.network = EnergyNetwork(self.channels, _SIZES, hidden_channels=(16,)).double()
        nn.init.normal_(self.network.layers[-1].weight)  # type: ignore[arg-type]
        self.boxes, self.labels = random_boxes(4), torch.tensor([0, 1, 0, 1])
        self.scene = torch.tensor([0, 0, 1, 1])
        self.bev = torch.randn(2, 6, 40, 40, dtype=torch.float64).requires_grad_()
        points = torch.randn(2, 2, 30, 4, dtype=torch.float64)
        points[..., :3] *= torch.tensor([1.5, 1.0, 0.5])
        points[..., :3] += self.boxes[:, :3].reshape(2, 2, 1, 3)
        self.clouds = list(points.reshape(2, 60, 4))

    def energy(self, max_evaluations: int = 2048) -> BoxEnergy:
        scenes = Scenes.from_range(self.bev, _RANGE, self.clouds)
        pools: list[Any] = list(self.pools)
        return BoxEnergy(
            pools, self.network, scenes, self.boxes, self.labels, self.scene, max_evaluations
        )

    def loss(self, method: Any, max_evaluations: int = 2048) -> Tensor:
        """The sum over the boxes; what the method draws is the same every time."""
        torch.manual_seed(7)
        noise = BoxNoise(STDS).around(self.boxes, self.labels)
        total: Tensor = method(self.energy(max_evaluations), noise).per_box.sum()
        return total

    def parameters(self) -> list[Tensor]:
        return [*self.pools.parameters(), *self.network.parameters(), self.bev]


_DIFFERENTIATING: dict[str, Callable[[], Any]] = {
    "exact score matching": ScoreMatchingLoss,
    "sliced score matching": lambda: ScoreMatchingLoss("sliced", 2),
    "dsm": lambda: DSMLoss(0.5, 3),
}


@pytest.mark.parametrize("name", _DIFFERENTIATING)
def test_gradients_of_parameters_and_map_are_those_of_finite_differences(name: str):
    model, method = _Model(), _DIFFERENTIATING[name]()
    parameters = model.parameters()
    gradients = torch.autograd.grad(model.loss(method), parameters, allow_unused=True)
    step = 1e-5
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn_like(parameter)
        direction /= direction.norm()
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * step * direction
                ends.append(model.loss(method))
                parameter -= sign * step * direction
        difference = (ends[0] - ends[1]) / (2 * step)
        if gradient is None:  # the last layer's constant, and nothing else
            assert parameter is parameters[-2]
            assert float(difference.abs()) < 1e-8
            continue
        # Error of the difference: third derivative times step^2, and rounding over step.
        torch.testing.assert_close((gradient * direction).sum(), difference, atol=1e-6, rtol=1e-6)


def test_trace_is_that_of_the_hessian_in_residuals():
    model = _Model()
    f, noise = model.energy(), BoxNoise(STDS).around(model.boxes, model.labels)
    loss = ScoreMatchingLoss()(f, noise).per_box.detach()
    step = 1e-4

    def h(residuals: Tensor) -> Tensor:
        # Along, across and up in the box's axes; log sizes; yaw: written out by hand.
        moved = residuals * noise.noise_std
        cos, sin = torch.cos(model.boxes[:, 6]), torch.sin(model.boxes[:, 6])
        x = model.boxes[:, 0] + cos * moved[:, 0] - sin * moved[:, 1]
        y = model.boxes[:, 1] + sin * moved[:, 0] + cos * moved[:, 1]
        sizes = model.boxes[:, 3:6] * torch.exp(moved[:, 3:6])
        rest = (model.boxes[:, 2] + moved[:, 2], *sizes.T, model.boxes[:, 6] + moved[:, 6])
        with torch.no_grad():
            volume = torch.log(sizes).sum(1) + torch.log(noise.noise_std).sum(1)
            return f(torch.stack((x, y, *rest), dim=1)) + volume

    zero = torch.zeros(4, 7, dtype=torch.float64)
    expected = torch.zeros(4, dtype=torch.float64)
    for d in range(7):
        shift = zero.clone()
        shift[:, d] = step
        up, down = h(shift), h(-shift)
        expected += (up + down - 2 * h(zero)) / step**2 + 0.5 * ((up - down) / (2 * step)).square()
    # Rounding: 1e-16 over step^2, times values of the order of ten, 28 times; truncation: step^2.
    torch.testing.assert_close(loss, expected, atol=5e-5, rtol=5e-5)


def test_learned_normalizer_leaves_the_pools_alone():
    model = _Model()
    snl = SNLLoss(model.channels).double()
    f, noise = model.energy(), BoxNoise(STDS).around(model.boxes, model.labels)
    b = snl.log_normalizer(f, noise.reference, noise.noise_std)
    assert b.shape == (4,)
    b.sum().backward()
    assert all(p.grad is None for p in model.parameters())
