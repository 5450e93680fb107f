"""The preset ``paper2020`` against a transcription of the paper in its own conventions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ebm3d.boxes import wrap_to_pi
from ebm3d.energy import BoxEnergy, Paper2020EnergyNetwork
from ebm3d.noise import BoxNoise
from ebm3d.pooling import BEVGridPool, Scenes
from ebm3d.refiners import GradientAscent
from tests.oracles import paper2020

_CHANNELS, _HEIGHT, _WIDTH = 6, 50, 44
_RANGE = (0.0, -10.0, -3.0, 17.6, 10.0, 1.0)


def _boxes(count: int = 20) -> Tensor:
    low = torch.tensor([3.0, -7, -2, 3, 1.4, 1.2, -3], dtype=torch.float64)
    return low + torch.rand(count, 7, dtype=torch.float64) * torch.tensor([12.0, 14, 1, 2, 1, 1, 6])


def _networks() -> tuple[Paper2020EnergyNetwork, paper2020.Network]:
    """The same weights in both, large enough that f varies and steps are refused too."""
    ours = Paper2020EnergyNetwork(_CHANNELS * 28, hidden_channels=64).double()
    theirs = paper2020.Network(_CHANNELS, hidden=64).double()
    nn.init.normal_(ours.first.weight, std=0.6)
    nn.init.normal_(ours.second.weight, std=1.2)
    nn.init.normal_(ours.last.weight, std=1.2)
    first = ours.first.weight.detach().clone()
    # The paper's length runs against the heading, r = -yaw - pi / 2: its grid is ours reversed
    # along. Everything else of the order is the same: channel, across, along.
    grid = first[:, : _CHANNELS * 28].view(64, _CHANNELS, 4, 7)
    first[:, : _CHANNELS * 28] = grid.flip(3).flatten(1)
    weights = {"fc1.weight": first, "fc1.bias": ours.first.bias}
    for name, layer in (
        ("z1", ours.z_branch[0]),
        ("z2", ours.z_branch[2]),
        ("h1", ours.height_branch[0]),
        ("h2", ours.height_branch[2]),
        ("fc2", ours.second),
        ("fc3", ours.last),
    ):
        weights |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}  # type: ignore[dict-item]
    theirs.load_state_dict(weights)
    return ours, theirs


def _setting() -> tuple[BoxEnergy, paper2020.Network, paper2020.Map, Tensor]:
    ours, theirs = _networks()
    features = torch.rand(_CHANNELS, _HEIGHT, _WIDTH, dtype=torch.float64)
    boxes = _boxes()
    pool = BEVGridPool(_CHANNELS, grid=(4, 7), projection=None, center_offset=0.0).double()
    scenes = Scenes.from_range(features[None], _RANGE)
    energy = BoxEnergy([pool], ours, scenes, boxes, torch.zeros(20, dtype=torch.int64))
    return energy, theirs, paper2020.Map(features, 0.0, -10.0, 0.4), boxes


def test_f_and_its_gradient_equal_the_transcription():
    energy, network, bev, boxes = _setting()
    leaf = boxes.clone().requires_grad_()
    f = energy(leaf)
    expected = paper2020.evaluate(network, bev, paper2020.to_paper(leaf))
    assert float(expected.detach().std()) > 1.0
    torch.testing.assert_close(f, expected, atol=1e-4, rtol=1e-5)
    gradient, slope = (torch.autograd.grad(value.sum(), leaf)[0] for value in (f, expected))
    # The offsets of the grid are stored in float32.
    torch.testing.assert_close(gradient, slope, atol=1e-3, rtol=1e-4)
    assert bool((slope.abs().mean(dim=0) > 0.1).all())


@pytest.mark.parametrize("clean", [False, True])
def test_refined_boxes_equal_the_transcription(clean: bool):
    energy, network, bev, boxes = _setting()
    result = GradientAscent(num_steps=10, step_size=2e-4)(energy, boxes)
    expected, f, accepted = paper2020.refine(network, bev, paper2020.to_paper(boxes), clean=clean)
    # Some boxes took every step, most were refused some.
    assert 0 < int((accepted == 10).sum()) < 20
    assert torch.equal(result.num_accepted, accepted)
    expected = paper2020.from_paper(expected)
    difference = result.boxes - expected
    difference[:, 6] = wrap_to_pi(difference[:, 6])
    assert float(difference.abs().max()) < 5e-4  # ten steps add up what the offsets lack
    torch.testing.assert_close(result.f_final, f, atol=5e-4, rtol=5e-4)
    moved = result.boxes - boxes
    assert bool((moved.abs().amax(dim=0) > 1e-3).all())


def _noise() -> BoxNoise:
    return BoxNoise(
        stds=[0.125, 0.125, 0.0625, 0.0625, 0.0625, 0.0625, 0.03125],
        multipliers=(0.5, 1.0, 2.0),
        axes="world",
        sizes="metric",
        shared_in_scene=True,
    )


def test_density_of_the_noise_equals_the_transcription(generator: torch.Generator):
    boxes = _boxes(5)
    drawn = _noise().sample(boxes, torch.zeros(5, dtype=torch.int64), 128, generator)
    offsets = paper2020.to_paper(drawn.boxes) - paper2020.to_paper(boxes)[:, None]
    offsets[..., 6] = wrap_to_pi(offsets[..., 6])
    expected = paper2020.noise_density(offsets)
    torch.testing.assert_close(torch.exp(drawn.log_q), expected, rtol=1e-9, atol=0)
    # q(0), the density at the true box itself, is that of the three peaks.
    peaks = [np.prod([1 / (np.sqrt(2 * np.pi) * s) for s in row]) for row in paper2020.STDS]
    np.testing.assert_allclose(torch.exp(drawn.log_q[:, 0]), np.mean(peaks), rtol=1e-9)
