from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ebm3d.losses import propel_loss
from ebm3d.regressions import PROPELBoxRegression


def _fit(regression: PROPELBoxRegression, targets: Tensor, steps: int, rate: float) -> Tensor:
    """One row of outputs for all targets, from zero."""
    outputs = nn.Parameter(torch.zeros(1, regression.num_outputs, dtype=torch.float64))
    optimizer = torch.optim.Adam([outputs], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        regression.loss(outputs.expand(len(targets), -1), targets).mean(0).sum().backward()
        optimizer.step()
    return outputs.detach()


@pytest.mark.parametrize("joint", [True, False])
def test_loss_is_that_of_the_density(joint: bool):
    regression = PROPELBoxRegression(3, joint=joint, target_std=0.2).double()
    outputs = torch.randn(4, regression.num_outputs, dtype=torch.float64)
    targets = torch.randn(4, 7, dtype=torch.float64)
    density = regression.density(outputs)
    expected = propel_loss(targets, density.means, density.log_variances, 0.04, joint=joint)
    torch.testing.assert_close(regression.loss(outputs, targets), expected.reshape(4, -1))


def test_components_start_apart_around_zero():
    density = PROPELBoxRegression(3, target_std=0.1).double().density(torch.zeros(1, 42).double())
    expected = torch.tensor([-0.03, 0.0, 0.03], dtype=torch.float64)[None, :, None].expand(1, 3, 7)
    torch.testing.assert_close(density.means, expected)
    torch.testing.assert_close(
        density.log_variances, torch.full((1, 3, 7), math.log(0.01)).double()
    )


@pytest.mark.parametrize("joint", [True, False])
def test_two_modes_are_told_apart(joint: bool):
    # Half of the targets are 0.5 further along one residual: ten standard deviations.
    targets = 0.05 * torch.randn(64, 7, dtype=torch.float64)
    targets[::2, 0] += 0.25
    targets[1::2, 0] -= 0.25
    regression = PROPELBoxRegression(2, joint=joint).double()
    density = regression.density(_fit(regression, targets, 300, 0.01))
    modes = density.means[0, :, 0].sort().values
    torch.testing.assert_close(modes, torch.tensor([-0.25, 0.25]).double(), atol=0.03, rtol=0)


@pytest.mark.parametrize("std", [0.0, 0.1, 0.5])
def test_learned_variance_is_the_one_of_the_closed_form(std: float):
    # Of one component the expected loss depends on the targets' variance s^2 alone, and is least at
    # s^2 = (v + v_gt) (1 - h (v + v_gt) / v), h = 1 / (1 + (v / v_gt)^(D / 2)): method.md, M-11.
    regression = PROPELBoxRegression(1, target_std=0.2).double()
    targets = torch.tensor([[-std], [std]], dtype=torch.float64).expand(2, 7)
    v = regression.density(_fit(regression, targets, 400, 0.05)).variance[0, 0].item()
    total = v + 0.04
    h = 1 / (1 + (v / 0.04) ** 3.5)
    assert total * (1 - h * total / v) == pytest.approx(std**2, abs=1e-3)
