from __future__ import annotations

import math

import pytest
import torch

from ebm3d.codecs import CODEBOOKS
from ebm3d.densities import HistogramDensity
from ebm3d.regressions import BELBoxRegression
from ebm3d.regressions.bel import LOSSES
from tests.oracles import label_encodings as oracle

pytestmark = pytest.mark.usefixtures("float64")

_LOWER = [-1.0, -0.8, -0.6, -0.5, -0.4, -0.3, -1.5]
_UPPER = [1.0, 0.9, 0.8, 0.5, 0.6, 0.7, 1.5]


def _regression(**changes: object) -> BELBoxRegression:
    options = {"codebook": "johnson", "num_levels": 9, "lower": _LOWER, "upper": _UPPER, "theta": 3}
    return BELBoxRegression(**{**options, **changes})


def _direct_loss(regression: BELBoxRegression, z: list[float], y: float, width: float) -> float:
    """The loss of one residual, from its logits and label, written out."""
    rows = CODEBOOKS[regression.codebook](9).tolist()
    phi = oracle.linear_labels(y, 9)
    if regression.kind == "bce":
        bits = [sum(p * row[m] for p, row in zip(phi, rows, strict=True)) for m in range(len(z))]
        return oracle.bit_cross_entropy(z, bits)
    scores = oracle.correlation(z, rows)
    if regression.kind == "ce":
        return oracle.cross_entropy(phi, scores)
    error = (sum(k * p for k, p in enumerate(oracle.softmax(scores))) - y) * width
    return abs(error) if regression.kind == "expected_l1" else error**2 / 2


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_loss_is_the_formula_box_by_box(codebook: str, kind: str):
    regression = _regression(codebook=codebook, loss=kind)
    outputs, targets = torch.randn(6, 21), torch.randn(6, 7)
    logits = regression.codes(outputs)
    expected = torch.zeros(6, 7)
    for i in range(6):
        for d in range(7):
            y = oracle.label(float(targets[i, d]), _LOWER[d], _UPPER[d], 9)
            width = (_UPPER[d] - _LOWER[d]) / 8
            expected[i, d] = _direct_loss(regression, logits[i, d].tolist(), y, width)
    torch.testing.assert_close(regression.loss(outputs, targets), expected)


def test_logits_are_a_linear_layer_for_each_residual():
    regression = _regression()
    outputs = torch.randn(4, 21)
    weight, bias = regression.expansion.weight, regression.expansion.bias
    expected = torch.zeros(4, 7, 5)
    for i in range(4):
        for d in range(7):
            for m in range(5):
                terms = (outputs[i, 3 * d + t] * weight[d, t, m] for t in range(3))
                expected[i, d, m] = sum(terms) + bias[d, m]
    torch.testing.assert_close(regression.codes(outputs), expected)


def test_bce_at_a_level_is_that_of_its_code():
    regression = _regression(loss="bce")
    outputs = torch.randn(9, 21)
    targets = torch.lerp(
        torch.tensor(_LOWER), torch.tensor(_UPPER), torch.linspace(0, 1, 9)[:, None]
    )
    logits = regression.codes(outputs)
    probabilities = torch.sigmoid(logits)
    bits = CODEBOOKS["johnson"](9)[:, None]
    likelihood = torch.where(bits == 1, probabilities, 1 - probabilities).prod(-1)
    torch.testing.assert_close(regression.loss(outputs, targets), -torch.log(likelihood))


@pytest.mark.parametrize("kind", LOSSES)
def test_loss_is_differentiable_in_outputs_and_layers(kind: str):
    regression = _regression(loss=kind)
    outputs = torch.randn(2, 21, requires_grad=True)
    targets = torch.rand(2, 7) - 0.5
    assert torch.autograd.gradcheck(lambda o: regression.loss(o, targets), (outputs,))
    regression.loss(outputs, targets).sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in regression.parameters())


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("far", [1e6, -1e6])
def test_far_targets_saturate_at_the_end_of_the_range(kind: str, far: float):
    regression = _regression(loss=kind)
    outputs = torch.randn(3, 21)
    end = torch.tensor(_UPPER if far > 0 else _LOWER).expand(3, 7)
    loss = regression.loss(outputs, torch.full((3, 7), far))
    torch.testing.assert_close(loss, regression.loss(outputs, end))


@pytest.mark.parametrize("kind", LOSSES)
def test_loss_and_gradient_of_large_outputs_are_finite(kind: str):
    regression = _regression(loss=kind)
    outputs = (1e4 * torch.randn(5, 21)).requires_grad_()
    loss = regression.loss(outputs, torch.randn(5, 7))
    loss.sum().backward()
    assert bool(torch.isfinite(loss).all() and torch.isfinite(outputs.grad).all())


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_density_is_the_posterior_of_the_bits(codebook: str):
    regression = _regression(codebook=codebook)
    outputs = torch.randn(4, 21)
    probabilities = torch.sigmoid(regression.codes(outputs))[..., None, :]
    likelihood = torch.where(regression.code == 1, probabilities, 1 - probabilities).prod(-1)
    density = regression.density(outputs)
    assert isinstance(density, HistogramDensity)
    posterior = likelihood / likelihood.sum(-1, keepdim=True)
    torch.testing.assert_close(density.log_masses.exp(), posterior)


def test_point_of_gen_ex_is_the_expected_residual():
    regression = _regression(decoder="gen_ex")
    density = regression.density(torch.randn(4, 21))
    levels = torch.stack([torch.linspace(a, b, 9) for a, b in zip(_LOWER, _UPPER, strict=True)])
    torch.testing.assert_close(density.point, (density.log_masses.exp() * levels).sum(-1))


def test_point_of_gen_is_the_likeliest_level_and_the_density_is_unchanged():
    outputs, targets = torch.randn(4, 21), torch.randn(4, 7)
    regression = _regression(decoder="gen")
    expected = _regression(decoder="gen_ex")
    expected.load_state_dict(regression.state_dict())
    density, base = regression.density(outputs), expected.density(outputs)
    likeliest = regression.quantizer.residuals(base.log_masses.argmax(-1).double())
    torch.testing.assert_close(density.point, likeliest)
    assert torch.equal(density.log_prob(targets), base.log_prob(targets))
    assert torch.equal(density.cdf(targets), base.cdf(targets))
    assert torch.equal(density.mean, base.mean)
    assert torch.equal(density.covariance, base.covariance)


def test_point_of_counting_is_the_number_of_ones_of_a_unary_code():
    regression = _regression(codebook="unary", decoder="custom")
    outputs = torch.randn(6, 21)
    ones = (regression.codes(outputs) > 0).sum(-1).clamp_max(8).double()
    torch.testing.assert_close(
        regression.density(outputs).point, regression.quantizer.residuals(ones)
    )


@pytest.mark.parametrize("decoder", ["gen", "gen_ex", "custom"])
def test_point_of_outputs_that_are_no_numbers_is_none(decoder: str):
    outputs = torch.randn(3, 21)
    outputs[1] = math.nan
    point = _regression(decoder=decoder).density(outputs).point
    assert torch.isnan(point).all(1).tolist() == [False, True, False]


@pytest.mark.parametrize("kind", ["bce", "ce"])
def test_the_label_is_found_by_descending_the_loss(kind: str):
    regression = _regression(codebook="johnson", loss=kind)
    target = 0.7 * torch.tensor(_UPPER)[None]
    outputs = torch.zeros(1, 21, requires_grad=True)
    optimizer = torch.optim.Adam([outputs, *regression.parameters()], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        regression.loss(outputs, target).sum().backward()
        optimizer.step()
    torch.testing.assert_close(regression.density(outputs).point, target, atol=0.02, rtol=0)


def test_best_unary_bits_of_scattered_labels_give_a_density_too_narrow_as_stated():
    # Each bit's best logit is the log odds of its own probability; labels are N(100, 12^2) levels.
    spread = 12.0
    level = torch.arange(200)
    z = (99.5 - level) / spread
    log_odds = torch.special.log_ndtr(z) - torch.special.log_ndtr(-z)
    code = CODEBOOKS["unary"](201)[:, :200]
    masses = torch.softmax(code @ log_odds, -1)
    mean = masses @ torch.arange(201.0)
    std = float((masses @ (torch.arange(201.0) - mean).square()).sqrt())
    assert std == pytest.approx(math.sqrt(spread / 1.6), rel=0.02)


def test_no_boxes_cost_nothing():
    regression = _regression()
    assert regression.loss(torch.zeros(0, 21), torch.zeros(0, 7)).shape == (0, 7)
    assert len(regression.density(torch.zeros(0, 21)).point) == 0


def test_there_are_no_further_terms():
    assert _regression().regularizers(torch.zeros(2, 21), torch.zeros(2, 7)) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebook": "gray"}, "codebook must be one of unary, johnson"),
        ({"decoder": "median"}, "decoder must be one of custom, gen, gen_ex"),
        ({"loss": "l1"}, "loss must be one of bce, ce"),
        ({"codebook": "hadamard", "decoder": "custom"}, "decode Hadamard codes by gen"),
        ({"lower": [0.0] * 6}, "lower must be 7 numbers"),
        ({"theta": 0}, "theta must be at least 1"),
        ({"num_levels": 1}, "num_levels must be at least 2"),
    ],
)
def test_a_wrong_option_is_named(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        _regression(**changes)


def test_outputs_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"outputs must have shape \(N, 21\)"):
        _regression().loss(torch.zeros(2, 20), torch.zeros(2, 7))


def test_targets_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"targets must have shape \(2, 7\)"):
        _regression().loss(torch.zeros(2, 21), torch.zeros(3, 7))
