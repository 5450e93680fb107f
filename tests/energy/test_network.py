from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ebm3d.energy import EnergyNetwork, Paper2020EnergyNetwork

_SIZES = [[3.9, 1.6, 1.56], [0.8, 0.6, 1.73]]


def _network() -> EnergyNetwork:
    network = EnergyNetwork(5, _SIZES, hidden_channels=(16, 8)).double()
    nn.init.normal_(network.layers[-1].weight)  # type: ignore[arg-type]
    return network


def _boxes(count: int = 6, variants: int = 3) -> Tensor:
    boxes = torch.rand(count, variants, 7, dtype=torch.float64)
    low = torch.tensor([5.0, -10, -2, 2, 1.2, 1, -3])
    return low + boxes * torch.tensor([20.0, 20, 1, 3, 1, 1, 6])


def _pooled(count: int = 6, variants: int = 3) -> Tensor:
    return torch.randn(count, variants, 5, dtype=torch.float64)


def _labels(count: int = 6) -> Tensor:
    return torch.arange(count) % 2


def test_class_conditions_f():
    network, pooled, boxes = _network(), _pooled(), _boxes()
    f = network(pooled, boxes, _labels())
    other = network(pooled, boxes, 1 - _labels())
    assert f.shape == (6, 3)
    assert bool(((f - other).detach().abs() > 1e-6).all())


def test_box_of_mean_sizes_enters_with_zero_size_features():
    network = _network()
    boxes = _boxes(2)
    for label, size in enumerate(_SIZES):
        boxes[label, :, 3:6] = torch.tensor(size, dtype=torch.float64)
    with torch.no_grad():
        network.layers[0].weight[:, 8:] = 0  # type: ignore[index, operator]
        expected = network(_pooled(2) * 0, boxes, torch.tensor([0, 1]))
        network.layers[0].weight[:, 5:8] = 100  # type: ignore[index, operator]
        found = network(_pooled(2) * 0, boxes, torch.tensor([0, 1]))
    # Mean sizes are stored in float32; a hundred times their rounding remains.
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dimension", range(7))
def test_every_dimension_of_the_box_enters_directly(dimension: int):
    network, pooled, boxes = _network(), _pooled(), _boxes().requires_grad_()
    (gradient,) = torch.autograd.grad(network(pooled, boxes, _labels()).sum(), boxes)
    assert bool((gradient[..., dimension].abs() > 1e-9).all())


def test_f_has_period_two_pi_in_the_yaw():
    network, pooled, boxes = _network(), _pooled(), _boxes()
    turned = boxes.clone()
    turned[..., 6] += 2 * math.pi
    torch.testing.assert_close(
        network(pooled, turned, _labels()), network(pooled, boxes, _labels())
    )


def test_f_is_differentiable_twice():
    network, pooled = _network(), _pooled(2, 1).requires_grad_()
    boxes, labels = _boxes(2, 1).requires_grad_(), _labels(2)
    run = lambda p, b: network(p, b, labels)  # noqa: E731
    assert torch.autograd.gradcheck(run, (pooled, boxes))
    assert torch.autograd.gradgradcheck(run, (pooled, boxes))


def test_new_network_starts_nearly_flat():
    f = EnergyNetwork(5, _SIZES).double()(_pooled(), _boxes(), _labels())
    assert float(f.detach().abs().max()) < 0.05


@pytest.mark.parametrize("sizes", [[3.9, 1.6, 1.56], [[3.9, 1.6]], [[3.9, 1.6, 0.0]]])
def test_senseless_mean_sizes_are_refused(sizes: list[float]):
    with pytest.raises(ValueError, match=r"mean_sizes must be positive, of shape"):
        EnergyNetwork(5, sizes)  # type: ignore[arg-type]


def test_paper_network_is_the_published_stack_of_layers():
    network = Paper2020EnergyNetwork(20, hidden_channels=12, branch_channels=4).double()
    nn.init.normal_(network.last.weight)
    pooled = torch.randn(5, 2, 20, dtype=torch.float64)
    boxes = _boxes(5, 2)
    relu = nn.functional.relu

    def branch(layers: nn.Sequential, scalar: Tensor) -> Tensor:
        first, second = layers[0], layers[2]
        hidden = relu(scalar @ first.weight.t() + first.bias)  # type: ignore[operator]
        return relu(hidden @ second.weight.t() + second.bias)  # type: ignore[operator]

    z, height = boxes[..., 2:3], boxes[..., 5:6]
    joined = (pooled, branch(network.z_branch, z), branch(network.height_branch, height))
    hidden = relu(torch.cat(joined, dim=-1) @ network.first.weight.t() + network.first.bias)
    hidden = relu(hidden @ network.second.weight.t() + network.second.bias)
    expected = (hidden @ network.last.weight.t() + network.last.bias)[..., 0]
    found = network(pooled, boxes, torch.zeros(5, dtype=torch.int64))
    torch.testing.assert_close(found, expected)


def test_paper_network_has_the_published_number_of_parameters():
    network = Paper2020EnergyNetwork(256 * 4 * 7)
    count = sum(p.numel() for p in network.parameters())
    branches = 2 * ((1 * 16 + 16) + (16 * 16 + 16))
    assert count == branches + (7200 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 + 1)
    assert count == pytest.approx(8.42e6, rel=0.005)


def test_paper_network_starts_with_the_published_spread():
    network = Paper2020EnergyNetwork(7168)
    # Kaiming uniform with a = 1: bound sqrt(3 / fan_in), spread bound / sqrt(3).
    assert float(network.first.weight.detach().abs().max()) <= math.sqrt(3 / 7200) * (1 + 1e-6)
    assert float(network.first.weight.detach().std()) == pytest.approx(
        math.sqrt(1 / 7200), rel=0.01
    )
    assert float(network.second.weight.detach().std()) == pytest.approx(
        math.sqrt(1 / 1024), rel=0.01
    )
    assert float(network.last.weight.detach().std()) == pytest.approx(1e-3, rel=0.2)
    assert float(network.last.bias.detach()) == 0.0


def test_paper_network_refuses_features_of_another_pool():
    network = Paper2020EnergyNetwork(20)
    with pytest.raises(ValueError, match=r"\(N, S, 20\)"):
        network(torch.zeros(1, 1, 21), torch.zeros(1, 1, 7), torch.zeros(1).long())
