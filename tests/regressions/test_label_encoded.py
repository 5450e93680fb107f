"""BEL, RLEL and binned regression: losses, densities and codes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ebm3d.codecs import CODEBOOKS, SOFT_LABELS, build_codebook
from ebm3d.densities import HistogramDensity
from ebm3d.regressions import BELBoxRegression, BinnedBoxRegression, RLELBoxRegression
from ebm3d.regressions.bel import LOSSES
from ebm3d.regressions.label_encoded import LabelEncodedBoxRegression
from tests.oracles import label_encodings as oracle

pytestmark = pytest.mark.usefixtures("float64")

_LOWER = [-1.0, -0.8, -0.6, -0.5, -0.4, -0.3, -1.5]
_UPPER = [1.0, 0.9, 0.8, 0.5, 0.6, 0.7, 1.5]
_OPTIONS = {"num_levels": 9, "lower": _LOWER, "upper": _UPPER}


def _bel(**changes: object) -> BELBoxRegression:
    return BELBoxRegression(**{**_OPTIONS, "theta": 3, **changes})


def _rlel(**changes: object) -> RLELBoxRegression:
    weights = {"distance_weight": 0.0, "smoothness_weight": 0.0}
    return RLELBoxRegression(**{**_OPTIONS, "num_bits": 5, "theta": 3, **weights, **changes})


def _binned(**changes: object) -> BinnedBoxRegression:
    return BinnedBoxRegression(**{**_OPTIONS, **changes})


EXAMPLES: dict[str, Callable[[], LabelEncodedBoxRegression]] = {
    **{
        f"bel {codebook} {loss}": lambda codebook=codebook, loss=loss: _bel(
            codebook=codebook, loss=loss
        )
        for codebook in CODEBOOKS
        for loss in LOSSES
    },
    "rlel": _rlel,
    "binned with theta": lambda: _binned(theta=4),
    **{
        f"binned {label} {width}": lambda label=label, width=width: _binned(
            soft_label=label, width=width
        )
        for label in SOFT_LABELS
        for width in (0.5, 1.5)
    },
}
every_example = pytest.mark.parametrize("name", EXAMPLES)


def _inputs(regression: LabelEncodedBoxRegression, rows: int = 5) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, regression.num_outputs), torch.randn(rows, 7)


def _labels(targets: Tensor) -> list[list[float]]:
    return [
        [oracle.label(t, a, b, 9) for t, a, b in zip(row, _LOWER, _UPPER, strict=True)]
        for row in targets.tolist()
    ]


def _scores(regression: LabelEncodedBoxRegression, z: list[float], d: int) -> list[float]:
    """Scores of the levels of residual d, written out."""
    if isinstance(regression, BELBoxRegression):
        return oracle.correlation(z, build_codebook(regression.codebook, 9).tolist())
    if isinstance(regression, RLELBoxRegression):
        return oracle.correlation(z, regression.codebook[d].T.tolist())
    return z


def _loss(regression: LabelEncodedBoxRegression, z: list[float], y: float, d: int) -> float:
    """The loss of residual d, from its codes and label, written out."""
    scores = _scores(regression, z, d)
    if isinstance(regression, RLELBoxRegression):
        return oracle.cross_entropy(oracle.laplace_labels(y, 9), scores)
    if isinstance(regression, BinnedBoxRegression):
        phi = oracle.SOFT_LABELS[regression.soft_label](y, 9, regression.width)
        return oracle.cross_entropy(phi, scores)
    phi = oracle.linear_labels(y, 9)
    if regression.kind == "bce":
        rows = build_codebook(regression.codebook, 9).tolist()
        bits = [sum(p * row[m] for p, row in zip(phi, rows, strict=True)) for m in range(len(z))]
        return oracle.bit_cross_entropy(z, bits)
    if regression.kind == "ce":
        return oracle.cross_entropy(phi, scores)
    level = sum(k * p for k, p in enumerate(oracle.softmax(scores)))
    error = (level - y) * (_UPPER[d] - _LOWER[d]) / 8
    return abs(error) if regression.kind == "expected_l1" else error**2 / 2


@every_example
def test_loss_is_the_formula_box_by_box(name: str):
    regression = EXAMPLES[name]()
    outputs, targets = _inputs(regression)
    codes, labels = regression.codes(outputs), _labels(targets)
    expected = [
        [_loss(regression, codes[i, d].tolist(), labels[i][d], d) for d in range(7)]
        for i in range(len(targets))
    ]
    torch.testing.assert_close(regression.loss(outputs, targets), torch.tensor(expected))


@every_example
def test_density_has_the_masses_of_the_softmax_and_their_mean_as_point(name: str):
    regression = EXAMPLES[name]()
    outputs, _ = _inputs(regression)
    density, codes = regression.density(outputs), regression.codes(outputs)
    assert isinstance(density, HistogramDensity)
    masses = torch.tensor(
        [
            [oracle.softmax(_scores(regression, codes[i, d].tolist(), d)) for d in range(7)]
            for i in range(len(outputs))
        ]
    )
    torch.testing.assert_close(density.log_masses.exp(), masses)
    levels = torch.stack([torch.linspace(a, b, 9) for a, b in zip(_LOWER, _UPPER, strict=True)])
    torch.testing.assert_close(density.point, (masses * levels).sum(-1))


@every_example
def test_loss_is_differentiable_and_finite(name: str):
    regression = EXAMPLES[name]()
    outputs, targets = _inputs(regression, rows=2)
    outputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda o: regression.loss(o, targets / 4), (outputs,))
    regression.loss(outputs, targets).sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in regression.parameters())
    large = (1e4 * outputs.detach()).requires_grad_()
    loss = regression.loss(large, targets)
    loss.sum().backward()
    assert bool(torch.isfinite(loss).all() and torch.isfinite(large.grad).all())


@pytest.mark.parametrize("make", [_bel, _rlel, lambda: _binned(theta=3)])
def test_codes_are_a_linear_layer_for_each_residual(make: Callable[[], LabelEncodedBoxRegression]):
    regression = make()
    outputs, _ = _inputs(regression)
    weight, bias = regression.expansion.weight, regression.expansion.bias
    parts = [outputs[:, 3 * d : 3 * (d + 1)] @ weight[d] + bias[d] for d in range(7)]
    torch.testing.assert_close(regression.codes(outputs), torch.stack(parts, dim=1))


def test_parameters_are_the_checkpoint():
    layers = {"expansion.weight", "expansion.bias"}
    assert set(_bel().state_dict()) == layers
    assert set(_rlel().state_dict()) == {"codebook", *layers}
    assert not _binned().state_dict()


def test_decoders_change_the_point_estimate_alone():
    outputs, targets = torch.randn(6, 21), torch.randn(6, 7)
    regression = _bel(codebook="unary", decoder="gen")
    base = _bel(codebook="unary")
    base.load_state_dict(regression.state_dict())
    density, expected = regression.density(outputs), base.density(outputs)
    likeliest = regression.quantizer.residuals(expected.log_masses.argmax(-1).double())
    torch.testing.assert_close(density.point, likeliest)
    torch.testing.assert_close(density.log_prob(targets), expected.log_prob(targets))
    torch.testing.assert_close(density.mean, expected.mean)
    counting = _bel(codebook="unary", decoder="custom")
    ones = (counting.codes(outputs) > 0).sum(-1).clamp_max(8).double()
    torch.testing.assert_close(counting.density(outputs).point, counting.quantizer.residuals(ones))


@pytest.mark.parametrize("decoder", ["gen", "gen_ex", "custom"])
def test_point_of_outputs_of_nan_is_nan(decoder: str):
    outputs = torch.randn(3, 21)
    outputs[1] = math.nan
    point = _bel(decoder=decoder).density(outputs).point
    assert torch.isnan(point).all(1).tolist() == [False, True, False]


def test_spread_of_a_density_that_is_the_soft_label_is_as_stated():
    phi = torch.tensor(oracle.laplace_labels(50.0, 101))
    spread = (phi @ (torch.arange(101.0) - 50).square()).sqrt()
    assert float(spread) == pytest.approx(1.36, abs=0.005)


def test_distance_term_is_the_formula_over_pairs_of_evenly_spaced_rows():
    regression = _rlel(distance_weight=0.3, loss_weight=2.0, max_pairs=4)
    outputs, targets = _inputs(regression, rows=10)
    rows = [0, 2, 5, 7]
    codes, labels = regression.codes(outputs[rows]), _labels(targets[rows])
    expected = sum(
        oracle.distance_penalty(codes[:, d].tolist(), [row[d] for row in labels]) for d in range(7)
    )
    terms = regression.regularizers(outputs, targets)
    assert list(terms) == ["code_distance"]
    assert terms["code_distance"].item() == pytest.approx(2.0 * 0.3 * expected, rel=1e-12)


@pytest.mark.parametrize(("smoothness", "power"), [("l1", 1), ("squared", 2)])
def test_smoothness_term_is_the_formula_bit_by_bit(smoothness: str, power: int):
    regression = _rlel(smoothness_weight=0.2, smoothness=smoothness, loss_weight=3.0)
    expected = sum(oracle.smoothness_penalty(d.tolist(), power) for d in regression.codebook)
    terms = regression.regularizers(torch.zeros(0, 21), torch.zeros(0, 7))
    assert list(terms) == ["code_smoothness"]
    assert terms["code_smoothness"].item() == pytest.approx(3.0 * 0.2 * expected, rel=1e-12)


def test_without_weights_or_boxes_there_is_no_distance_term():
    none = torch.zeros(0, 21), torch.zeros(0, 7)
    assert _rlel().regularizers(*none) == _bel().regularizers(*none) == {}
    assert _rlel(distance_weight=1.0).regularizers(*none)["code_distance"].item() == 0


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (_bel, {"codebook": "gray"}),
        (_bel, {"decoder": "median"}),
        (_bel, {"loss": "l1"}),
        (_bel, {"codebook": "hadamard", "decoder": "custom"}),
        (_bel, {"lower": [0.0] * 6}),
        (_bel, {"theta": 0}),
        (_bel, {"num_levels": 1}),
        (_rlel, {"num_bits": 0}),
        (_rlel, {"max_pairs": 0}),
        (_rlel, {"distance_weight": -1.0}),
        (_rlel, {"smoothness_weight": -1.0}),
        (_rlel, {"smoothness": "l2"}),
        (_binned, {"soft_label": "hard"}),
    ],
)
def test_a_wrong_option_is_named(make: Callable[..., object], changes: dict[str, object]):
    with pytest.raises(ValueError, match=next(iter(changes))):
        make(**changes)
