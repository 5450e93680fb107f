"""Regressions of nine residuals: velocities of which some targets are unknown (NaN)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ebm3d.regressions import (
    BoxRegression,
    DirectBoxRegression,
    PROPELBoxRegression,
    RLELBoxRegression,
)
from ebm3d.regressions.label_encoded import LOWER, UPPER, LabelEncodedBoxRegression
from tests.oracles import label_encodings as oracle
from tests.regressions.examples import EXAMPLES

pytestmark = pytest.mark.usefixtures("float64")

every_example = pytest.mark.parametrize("name", EXAMPLES)


def _of_nine(name: str) -> BoxRegression:
    """The example of nine residuals."""
    levels = isinstance(EXAMPLES[name](), LabelEncodedBoxRegression)
    ranges = {"lower": (*LOWER, -2.0, -1.0), "upper": (*UPPER, 2.0, 1.0)} if levels else {}
    return EXAMPLES[name](num_residuals=9, **ranges)


def _inputs(regression: BoxRegression, rows: int = 6) -> tuple[Tensor, Tensor]:
    # Near each other, so that no component's share of a gradient underflows.
    return 0.1 * torch.randn(rows, regression.num_outputs), 0.1 * torch.randn(rows, 9)


def _with_unknown(targets: Tensor) -> Tensor:
    """Both velocities of the first rows unknown, one of another."""
    targets = targets.clone()
    targets[:2, 7:], targets[3, 8] = math.nan, math.nan
    return targets


@every_example
def test_outputs_and_densities_are_in_proportion_to_the_residuals(name: str):
    regression = _of_nine(name)
    assert 7 * regression.num_outputs == 9 * EXAMPLES[name]().num_outputs
    outputs, targets = _inputs(regression)
    assert regression.loss(outputs, targets).shape in ((6, 9), (6, 1))
    density = regression.eval().density(outputs)
    assert density.point.shape == density.variance.shape == density.cdf(targets).shape == (6, 9)
    assert bool(torch.isfinite(density.log_prob(targets)).all())


@every_example
def test_unknown_velocities_add_no_loss_and_no_gradient_and_change_no_other(name: str):
    regression = _of_nine(name).eval()
    outputs, complete = _inputs(regression)
    outputs.requires_grad_()
    targets = _with_unknown(complete)
    known = ~targets.isnan()
    loss = regression.loss(outputs, targets)
    (gradient,) = torch.autograd.grad(loss.sum(), outputs)
    assert bool(torch.isfinite(gradient).all())
    # The outputs of an unknown residual, and only they, have no gradient.
    per_residual = regression.num_outputs // 9
    zeros = (gradient == 0).sum(dim=1)
    assert zeros[:2].tolist() == [2 * per_residual] * 2
    assert zeros[2:].tolist() == [0, per_residual, 0, 0]
    if loss.shape == known.shape:
        assert bool((loss[~known] == 0).all())
        whole = regression.loss(outputs, complete)
        assert torch.equal(loss[known], whole[known])
        (expected,) = torch.autograd.grad(whole[known].sum(), outputs)
        torch.testing.assert_close(gradient, expected)


def test_joint_overlap_with_unknown_velocities_is_that_of_the_other_residuals():
    regression, seven = PROPELBoxRegression(3, num_residuals=9), PROPELBoxRegression(3)
    outputs, targets = _inputs(regression)
    targets[:, 7:] = math.nan
    without = outputs.unflatten(1, (3, 2, 9))[..., :7].flatten(1)
    expected = seven.loss(without, targets[:, :7])
    torch.testing.assert_close(regression.loss(outputs, targets), expected)


@every_example
@pytest.mark.parametrize("column", [0, 6])
def test_other_targets_of_nan_stay_nan(name: str, column: int):
    regression = _of_nine(name)
    outputs, targets = _inputs(regression)
    targets[1, column] = math.nan
    assert bool(regression.loss(outputs, targets)[1].isnan().any())
    assert bool(torch.isfinite(regression.loss(outputs, targets)[0]).all())


def test_scales_are_means_over_the_known_targets():
    regression = DirectBoxRegression("l1", momentum=0.2, num_residuals=9)
    batches = [(torch.randn(rows, 9), torch.randn(rows, 9)) for rows in (10, 30)]
    sums, counts = torch.zeros(9), torch.zeros(9)
    for outputs, complete in batches:
        targets = _with_unknown(complete)
        regression.loss(outputs, targets)
        sums = 0.8 * sums + (outputs - targets).abs().nansum(dim=0)
        counts = 0.8 * counts + (~targets.isnan()).sum(dim=0)
    torch.testing.assert_close(regression.scales, sums / counts)


def test_checkpoints_of_one_number_of_targets_load():
    regression = DirectBoxRegression()
    state = {"loss_sums": torch.arange(1.0, 8.0), "num_targets": torch.tensor(4.0)}
    regression.load_state_dict(state)
    torch.testing.assert_close(regression.eval().scales, _scales_of(state["loss_sums"] / 4))


def _scales_of(mean_losses: Tensor) -> Tensor:
    regression = DirectBoxRegression().eval()
    regression.loss_sums, regression.num_targets = mean_losses, torch.ones(7)
    return regression.scales


def test_distance_of_codes_leaves_out_pairs_with_an_unknown_label():
    regression = RLELBoxRegression(
        5, 4, (*LOWER, -2.0, -1.0), (*UPPER, 2.0, 1.0), 3, 0.3, 0.0, num_residuals=9
    )
    outputs, complete = _inputs(regression)
    targets = _with_unknown(complete)
    codes, labels = regression.codes(outputs), regression.quantizer.labels(complete)
    expected = 0.0
    for d in range(9):
        rows = (~targets[:, d].isnan()).nonzero()[:, 0].tolist()
        pairs = oracle.distance_penalty(codes[rows, d].tolist(), labels[rows, d].tolist())
        expected += pairs * len(rows) / 6  # the mean over all rows
    terms = regression.regularizers(outputs, targets)
    assert terms["code_distance"].item() == pytest.approx(0.3 * expected, rel=1e-12)


@pytest.mark.parametrize("name", ["bel", "rlel", "binned"])
def test_ranges_of_seven_residuals_are_refused(name: str):
    with pytest.raises(ValueError, match="lower must be 9 numbers"):
        EXAMPLES[name](num_residuals=9)


@every_example
def test_other_numbers_of_residuals_are_refused(name: str):
    with pytest.raises(ValueError, match=r"^num_residuals must be 7, or 9 with velocities"):
        EXAMPLES[name](num_residuals=8)
