from __future__ import annotations

import math

import pytest
import torch

from ebm3d.densities import BoxDistribution, GaussianDensity
from ebm3d.energy import NormalizedEnergy, energy_distribution
from ebm3d.energy.uncertainty import METHODS
from tests.energy.gaussian_energy import NOISE, STD, GaussianEnergy

every_method = pytest.mark.parametrize("method", METHODS)


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [("laplace", 1e-6), ("importance", 5 / math.sqrt(2 * 150))],  # five errors of a spread
)
def test_density_of_a_gaussian_energy_is_the_gaussian(method: str, tolerance: float):
    f = GaussianEnergy(3)
    found = energy_distribution(method, NormalizedEnergy(f, f.boxes, NOISE))
    log_variance = torch.full_like(f.boxes, 2 * math.log(STD))
    density = GaussianDensity(torch.zeros_like(f.boxes), log_variance)
    expected = BoxDistribution(density, f.coding, math.pi)
    torch.testing.assert_close(found.std, expected.std, rtol=tolerance, atol=0)


@every_method
def test_point_estimates_are_the_boxes_and_the_period_is_pi(method: str):
    f = GaussianEnergy(3)
    boxes = f.coding.decode(0.2 * torch.randn_like(f.boxes))
    found = energy_distribution(method, NormalizedEnergy(f, boxes, NOISE))
    torch.testing.assert_close(found.boxes, boxes)
    assert found.yaw_period == math.pi


@every_method
def test_no_boxes_have_no_densities(method: str):
    f = GaussianEnergy(0)
    assert len(energy_distribution(method, NormalizedEnergy(f, f.boxes, NOISE))) == 0
