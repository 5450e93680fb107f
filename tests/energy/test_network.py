from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ebm3d.energy import EnergyNetwork, Paper2020EnergyNetwork, RegressionNetwork
from ebm3d.energy.box_features import velocity_features

_SIZES = [[3.9, 1.6, 1.56], [0.8, 0.6, 1.73]]
_LABELS = torch.arange(6) % 2


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


def test_class_conditions_f():
    network, pooled, boxes = _network(), _pooled(), _boxes()
    f = network(pooled, boxes, _LABELS)
    other = network(pooled, boxes, 1 - _LABELS)
    assert f.shape == (6, 3)
    assert bool(((f - other).detach().abs() > 1e-6).all())


def test_box_enters_by_sizes_z_distance_and_observation_angle():
    network, boxes = _network(), _boxes()
    x, y, z, *sizes, yaw = boxes.unbind(-1)
    mean_sizes = torch.tensor(_SIZES, dtype=torch.float64)[_LABELS, None]
    alpha = yaw - torch.atan2(y, x)
    expected = torch.cat(
        (
            4 * torch.log(torch.stack(sizes, -1) / mean_sizes),
            torch.stack((z, torch.hypot(x, y) / 25 - 1), -1),
            torch.stack((alpha.cos(), alpha.sin(), (2 * alpha).sin()), -1),
        ),
        dim=-1,
    )
    seen: list[Tensor] = []
    network.layers[0].register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    network(_pooled(), boxes, _LABELS)
    # Mean sizes are stored in float32.
    torch.testing.assert_close(seen[0][..., 5:13], expected, atol=1e-6, rtol=0)


def test_velocities_enter_along_and_across_the_heading():
    boxes = torch.zeros(1, 1, 9)
    boxes[..., 6:] = torch.tensor([torch.pi / 2, -3.0, 0.5])  # heading along y
    expected = torch.asinh(torch.tensor([[[0.5, 3.0]]]))
    torch.testing.assert_close(velocity_features(boxes), expected)
    with pytest.raises(ValueError, match=r"boxes must have shape \(N, S, 7\)"):
        _network()(_pooled(1, 1), boxes + 1, torch.zeros(1, dtype=torch.int64))


def test_f_has_period_two_pi_in_the_yaw():
    network, pooled, boxes = _network(), _pooled(), _boxes()
    other = boxes.clone()
    other[..., 6] += 2 * math.pi
    torch.testing.assert_close(network(pooled, other, _LABELS), network(pooled, boxes, _LABELS))


def test_f_is_differentiable_twice():
    network, pooled = _network(), _pooled(2, 1).requires_grad_()
    boxes = _boxes(2, 1).requires_grad_()
    run = lambda p, b: network(p, b, _LABELS[:2])  # noqa: E731
    assert torch.autograd.gradcheck(run, (pooled, boxes))
    assert torch.autograd.gradgradcheck(run, (pooled, boxes))
    (gradient,) = torch.autograd.grad(run(pooled, boxes).sum(), boxes)
    assert bool((gradient.abs() > 1e-9).all())


def test_new_network_starts_nearly_flat():
    f = EnergyNetwork(5, _SIZES).double()(_pooled(), _boxes(), _LABELS)
    assert float(f.detach().abs().max()) < 0.05


@pytest.mark.parametrize("sizes", [[3.9, 1.6, 1.56], [[3.9, 1.6]], [[3.9, 1.6, 0.0]]])
def test_mean_sizes_out_of_range_are_refused(sizes: list[float]):
    with pytest.raises(ValueError, match="mean_sizes must be positive"):
        EnergyNetwork(5, sizes)  # type: ignore[arg-type]


def test_widths_out_of_range_are_refused():
    with pytest.raises(ValueError, match="num_outputs must be at least 1"):
        RegressionNetwork(4, 0, _SIZES)
    with pytest.raises(ValueError, match="hidden_channels must be a list"):
        EnergyNetwork(4, _SIZES, hidden_channels=16)  # type: ignore[arg-type]


def test_paper_network_is_the_published_stack_of_layers():
    network = Paper2020EnergyNetwork(20, hidden_channels=12, branch_channels=4).double()
    nn.init.normal_(network.last.weight)
    pooled, boxes = torch.randn(5, 2, 20, dtype=torch.float64), _boxes(5, 2)
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
    torch.testing.assert_close(network(pooled, boxes, _LABELS[:5]), expected)


def test_paper_network_has_the_published_parameters():
    network = Paper2020EnergyNetwork(256 * 4 * 7)
    branches = 2 * ((1 * 16 + 16) + (16 * 16 + 16))
    count = branches + (7200 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 + 1)
    assert sum(p.numel() for p in network.parameters()) == count
    # Kaiming uniform with a = 1: bound sqrt(3 / fan_in), spread bound / sqrt(3).
    first, second = network.first.weight.detach(), network.second.weight.detach()
    assert float(first.abs().max()) <= math.sqrt(3 / 7200) * (1 + 1e-6)
    assert float(first.std()) == pytest.approx(math.sqrt(1 / 7200), rel=0.01)
    assert float(second.std()) == pytest.approx(math.sqrt(1 / 1024), rel=0.01)
    assert float(network.last.weight.detach().std()) == pytest.approx(1e-3, rel=0.2)
    assert float(network.last.bias.detach()) == 0.0


def test_paper_network_refuses_features_of_another_pool():
    with pytest.raises(ValueError, match=r"\(N, S, 20\)"):
        Paper2020EnergyNetwork(20)(torch.zeros(1, 1, 21), torch.zeros(1, 1, 7), _LABELS[:1])
