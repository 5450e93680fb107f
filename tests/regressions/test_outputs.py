from __future__ import annotations

import pytest
import torch

from ebm3d.regressions.outputs import check_outputs, check_targets, clamp_inward


def _gradient(value: float, slope: float) -> float:
    """Gradient that reaches a value when the loss has a slope in what the clamp gives."""
    values = torch.tensor([value], requires_grad=True)
    (slope * clamp_inward(values, 2.0)).sum().backward()
    return float(values.grad)


def test_values_are_clamped():
    values = torch.tensor([-1e9, -2.0, 0.3, 2.0, 1e9])
    assert torch.equal(clamp_inward(values, 2.0), torch.tensor([-2.0, -2.0, 0.3, 2.0, 2.0]))


def test_gradients_pass_inside_the_bounds():
    inside = torch.linspace(-1.9, 1.9, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: clamp_inward(values, 2.0), (inside,))


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_gradients_pass_outside_where_descent_leads_back(side: float):
    assert _gradient(5 * side, 3 * side) == 3 * side


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_gradients_stop_outside_where_descent_leads_away(side: float):
    assert _gradient(5 * side, -3 * side) == 0


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_gradients_pass_both_ways_on_the_bound(side: float):
    assert (_gradient(2 * side, 3.0), _gradient(2 * side, -3.0)) == (3.0, -3.0)


def test_shapes_are_checked_by_name():
    outputs, targets = torch.zeros(3, 14), torch.zeros(3, 7)
    check_outputs(outputs, 14)
    check_targets(targets, outputs)
    with pytest.raises(ValueError, match=r"outputs must have shape \(N, 7\), but got \(3, 14\)"):
        check_outputs(outputs, 7)
    with pytest.raises(ValueError, match=r"targets must have shape \(3, 7\)"):
        check_targets(targets[:2], outputs)
