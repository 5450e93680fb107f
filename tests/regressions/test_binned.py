from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ebm3d.codecs import SOFT_LABELS
from ebm3d.densities import HistogramDensity
from ebm3d.regressions import BinnedBoxRegression
from tests.oracles import label_encodings as oracle

pytestmark = pytest.mark.usefixtures("float64")

_LOWER = [-1.0, -0.8, -0.6, -0.5, -0.4, -0.3, -1.5]
_UPPER = [1.0, 0.9, 0.8, 0.5, 0.6, 0.7, 1.5]
_LABELS: dict[str, Callable[[float, int, float], list[float]]] = {
    "laplace": oracle.laplace_labels,
    "gaussian": oracle.gaussian_labels,
    "linear": oracle.linear_labels,
}


def _regression(**changes: object) -> BinnedBoxRegression:
    options = {"num_levels": 9, "lower": _LOWER, "upper": _UPPER}
    return BinnedBoxRegression(**{**options, **changes})


@pytest.mark.parametrize("width", [0.5, 1.5])
@pytest.mark.parametrize("soft_label", SOFT_LABELS)
def test_loss_is_the_formula_box_by_box(soft_label: str, width: float):
    regression = _regression(soft_label=soft_label, width=width)
    outputs, targets = torch.randn(5, 63), torch.randn(5, 7)
    expected = torch.zeros(5, 7)
    for i in range(5):
        for d in range(7):
            y = oracle.label(float(targets[i, d]), _LOWER[d], _UPPER[d], 9)
            phi = _LABELS[soft_label](y, 9, width)
            scores = outputs[i, 9 * d : 9 * (d + 1)].tolist()
            expected[i, d] = oracle.cross_entropy(phi, scores)
    torch.testing.assert_close(regression.loss(outputs, targets), expected)


def test_with_theta_the_scores_are_a_linear_layer_for_each_residual():
    regression = _regression(theta=4)
    assert regression.num_outputs == 28
    outputs = torch.randn(3, 28)
    weight, bias = regression.expansion.weight, regression.expansion.bias
    expected = torch.stack(
        [outputs[:, 4 * d : 4 * (d + 1)] @ weight[d] + bias[d] for d in range(7)], dim=1
    )
    torch.testing.assert_close(regression.codes(outputs), expected)


def test_without_theta_there_are_no_parameters():
    regression = _regression()
    assert regression.num_outputs == 63
    assert not regression.state_dict()


def test_density_has_the_masses_of_the_softmax():
    regression = _regression()
    outputs = torch.randn(3, 63)
    density = regression.density(outputs)
    assert isinstance(density, HistogramDensity)
    torch.testing.assert_close(
        density.log_masses.exp(), torch.softmax(outputs.reshape(3, 7, 9), -1)
    )


def test_with_linear_labels_the_least_loss_has_the_target_as_its_point():
    regression = _regression()
    target = 0.37 * torch.tensor(_UPPER)[None]
    outputs = torch.zeros(1, 63, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        regression.loss(outputs, target).sum().backward()
        optimizer.step()
    torch.testing.assert_close(regression.density(outputs).point, target, atol=2e-3, rtol=0)


def test_loss_is_differentiable():
    regression = _regression()
    outputs = torch.randn(2, 63, requires_grad=True)
    targets = torch.rand(2, 7) - 0.5
    assert torch.autograd.gradcheck(lambda o: regression.loss(o, targets), (outputs,))


@pytest.mark.parametrize("soft_label", SOFT_LABELS)
@pytest.mark.parametrize("far", [1e6, -1e6])
def test_far_targets_saturate_at_the_end_of_the_range(soft_label: str, far: float):
    regression = _regression(soft_label=soft_label)
    outputs = torch.randn(3, 63)
    end = torch.tensor(_UPPER if far > 0 else _LOWER).expand(3, 7)
    loss = regression.loss(outputs, torch.full((3, 7), far))
    torch.testing.assert_close(loss, regression.loss(outputs, end))


def test_saturated_targets_are_counted_while_training():
    regression = _regression()
    assert bool(torch.isnan(regression.saturated_fraction).all())
    inside = torch.zeros(3, 7)
    beyond = inside.clone()
    beyond[0, 2] = 5.0
    regression.loss(torch.zeros(3, 63), beyond)
    regression.loss(torch.zeros(3, 63), inside)
    expected = torch.tensor([0.0, 0.0, 1 / 6, 0.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(regression.saturated_fraction.double(), expected, atol=1e-7, rtol=0)


def test_targets_are_not_counted_while_evaluating():
    regression = _regression().eval()
    regression.loss(torch.zeros(3, 63), torch.full((3, 7), 5.0))
    assert int(regression.num_targets) == 0


def test_no_boxes_cost_nothing():
    regression = _regression()
    assert regression.loss(torch.zeros(0, 63), torch.zeros(0, 7)).shape == (0, 7)
    assert len(regression.density(torch.zeros(0, 63)).point) == 0


def test_a_wrong_option_is_named():
    with pytest.raises(ValueError, match="soft_labels must be one of laplace"):
        _regression(soft_label="hard")
    with pytest.raises(ValueError, match="width must be positive"):
        _regression(width=0.0)
