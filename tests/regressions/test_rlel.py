from __future__ import annotations

import pytest
import torch

from ebm3d.densities import HistogramDensity
from ebm3d.losses import code_distance_penalty, code_smoothness_penalty, soft_cross_entropy
from ebm3d.regressions import RLELBoxRegression
from tests.oracles import label_encodings as oracle

pytestmark = pytest.mark.usefixtures("float64")

_LOWER = [-1.0, -0.8, -0.6, -0.5, -0.4, -0.3, -1.5]
_UPPER = [1.0, 0.9, 0.8, 0.5, 0.6, 0.7, 1.5]


def _regression(**changes: object) -> RLELBoxRegression:
    options = {"num_levels": 9, "num_bits": 5, "lower": _LOWER, "upper": _UPPER, "theta": 3}
    options |= {"distance_weight": 0.0, "smoothness_weight": 0.0}
    return RLELBoxRegression(**{**options, **changes})


def _labels(targets: torch.Tensor) -> list[list[float]]:
    return [
        [oracle.label(t, a, b, 9) for t, a, b in zip(row, _LOWER, _UPPER, strict=True)]
        for row in targets.tolist()
    ]


def test_loss_is_the_formula_box_by_box():
    regression = _regression()
    outputs, targets = torch.randn(6, 21), torch.randn(6, 7)
    codes, labels = regression.codes(outputs), _labels(targets)
    expected = torch.zeros(6, 7)
    for i in range(6):
        for d in range(7):
            scores = oracle.correlation(codes[i, d].tolist(), regression.codebook[d].T.tolist())
            phi = oracle.laplace_labels(labels[i][d], 9)
            expected[i, d] = oracle.cross_entropy(phi, scores)
    torch.testing.assert_close(regression.loss(outputs, targets), expected)


def test_distance_term_is_the_formula_over_pairs_of_labels():
    regression = _regression(distance_weight=0.3, loss_weight=2.0)
    outputs, targets = torch.randn(6, 21), torch.randn(6, 7)
    codes, labels = regression.codes(outputs), _labels(targets)
    expected = sum(
        oracle.distance_penalty(codes[:, d].tolist(), [row[d] for row in labels]) for d in range(7)
    )
    terms = regression.regularizers(outputs, targets)
    assert list(terms) == ["code_distance"]
    assert terms["code_distance"].item() == pytest.approx(2.0 * 0.3 * expected, rel=1e-12)


def test_distance_term_does_not_depend_on_the_order_of_the_boxes():
    regression = _regression(distance_weight=1.0)
    outputs, targets = torch.randn(20, 21), torch.randn(20, 7)
    order = torch.randperm(20)
    shuffled = regression.regularizers(outputs[order], targets[order])["code_distance"]
    torch.testing.assert_close(shuffled, regression.regularizers(outputs, targets)["code_distance"])


def test_distance_penalty_vanishes_where_codes_are_twice_as_far_as_labels():
    labels = torch.tensor([[0.0], [1.5], [4.0]])
    codes = torch.cat((labels, labels), dim=1)[:, None]  # L1 distance 2 |y_i - y_j| exactly
    assert float(code_distance_penalty(codes, labels)) == 0
    assert float(code_distance_penalty(0.5 * codes, labels)) == pytest.approx(2 * 8 / 3)


def test_distance_penalty_and_its_gradient_of_equal_codes_are_finite():
    codes = torch.zeros(4, 2, 3, requires_grad=True)
    labels = torch.rand(4, 2)
    code_distance_penalty(codes, labels).sum().backward()
    assert bool(torch.isfinite(codes.grad).all())


def test_distance_penalty_is_differentiable_in_the_codes():
    labels = 8 * torch.rand(5, 2)
    codes = torch.randn(5, 2, 3, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: code_distance_penalty(z, labels), (codes,))


def test_distance_term_takes_evenly_spaced_rows_of_many():
    regression = _regression(distance_weight=1.0, max_pairs=4)
    outputs, targets = torch.randn(10, 21), torch.randn(10, 7)
    rows = [0, 2, 5, 7]
    expected = code_distance_penalty(
        regression.codes(outputs[rows]), regression.quantizer.labels(targets[rows])
    )
    torch.testing.assert_close(
        regression.regularizers(outputs, targets)["code_distance"], expected.sum()
    )


@pytest.mark.parametrize(("smoothness", "power"), [("l1", 1), ("squared", 2)])
def test_smoothness_term_is_the_formula_bit_by_bit(smoothness: str, power: int):
    regression = _regression(smoothness_weight=0.2, smoothness=smoothness, loss_weight=3.0)
    expected = sum(oracle.smoothness_penalty(d.tolist(), power) for d in regression.codebook)
    terms = regression.regularizers(torch.zeros(2, 21), torch.zeros(2, 7))
    assert list(terms) == ["code_smoothness"]
    assert terms["code_smoothness"].item() == pytest.approx(3.0 * 0.2 * expected, rel=1e-12)


def test_smoothness_penalty_counts_the_turns_of_a_code_of_bits():
    # 0011, 0101 and 1111 turn once, three times and never.
    codebook = torch.tensor([[0.0, 0, 1, 1], [0.0, 1, 0, 1], [1.0, 1, 1, 1]])
    assert float(code_smoothness_penalty(codebook)) == 4


def test_without_weights_there_are_no_further_terms():
    assert _regression().regularizers(torch.zeros(2, 21), torch.zeros(2, 7)) == {}


def test_with_the_identity_as_code_and_sharp_labels_it_is_plain_cross_entropy():
    scores = torch.randn(4, 9)
    classes = torch.tensor([0, 3, 8, 5])
    one_hot = torch.nn.functional.one_hot(classes, 9).double()
    plain = torch.nn.functional.cross_entropy(scores @ torch.eye(9), classes, reduction="none")
    torch.testing.assert_close(soft_cross_entropy(scores, one_hot), plain)


def test_loss_is_never_below_the_entropy_of_the_soft_labels():
    phi = torch.tensor(oracle.laplace_labels(3.3, 9))
    entropy = -(phi * phi.log()).sum()
    torch.testing.assert_close(soft_cross_entropy(phi.log() + 5, phi), entropy)
    assert bool((soft_cross_entropy(torch.randn(50, 9), phi.expand(50, 9)) > entropy).all())


def test_loss_is_differentiable_in_outputs_layers_and_codebook():
    regression = _regression()
    outputs = torch.randn(2, 21, requires_grad=True)
    targets = torch.rand(2, 7) - 0.5
    assert torch.autograd.gradcheck(lambda o: regression.loss(o, targets), (outputs,))
    regression.loss(outputs, targets).sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in regression.parameters())


@pytest.mark.parametrize("far", [1e6, -1e6])
def test_far_targets_saturate_in_loss_and_terms(far: float):
    regression = _regression(distance_weight=1.0, smoothness_weight=1.0)
    outputs = torch.randn(3, 21)
    end = torch.tensor(_UPPER if far > 0 else _LOWER).expand(3, 7)
    targets = torch.full((3, 7), far)
    torch.testing.assert_close(regression.loss(outputs, targets), regression.loss(outputs, end))
    torch.testing.assert_close(
        regression.regularizers(outputs, targets), regression.regularizers(outputs, end)
    )


def test_density_has_the_masses_of_the_softmax_and_their_mean_as_point():
    regression = _regression()
    outputs = torch.randn(3, 21)
    density = regression.density(outputs)
    assert isinstance(density, HistogramDensity)
    codes = regression.codes(outputs)
    for i in range(3):
        for d in range(7):
            scores = oracle.correlation(codes[i, d].tolist(), regression.codebook[d].T.tolist())
            masses = oracle.softmax(scores)
            assert density.log_masses[i, d].exp().tolist() == pytest.approx(masses)
            level = sum(k * p for k, p in enumerate(masses))
            expected = _LOWER[d] + level * (_UPPER[d] - _LOWER[d]) / 8
            assert density.point[i, d].item() == pytest.approx(expected)


def test_spread_of_a_density_that_is_the_soft_label_is_as_stated():
    phi = torch.tensor(oracle.laplace_labels(50.0, 101))
    spread = (phi @ (torch.arange(101.0) - 50).square()).sqrt()
    assert float(spread) == pytest.approx(1.36, abs=0.005)


def test_codebook_starts_uniform_in_the_unit_interval():
    codebook = _regression(num_levels=64, num_bits=None).codebook
    assert codebook.shape == (7, 64, 64)
    assert 0 <= codebook.min().item() < 0.001
    assert 0.999 < codebook.max().item() < 1
    # 5 standard errors of the mean of a uniform variable
    assert codebook.mean().item() == pytest.approx(0.5, abs=5 * (1 / 12 / codebook.numel()) ** 0.5)


def test_no_boxes_cost_nothing_but_the_smoothness_of_the_code():
    regression = _regression(distance_weight=1.0, smoothness_weight=1.0)
    outputs, targets = torch.zeros(0, 21), torch.zeros(0, 7)
    assert regression.loss(outputs, targets).shape == (0, 7)
    terms = regression.regularizers(outputs, targets)
    assert terms["code_distance"].item() == 0
    assert terms["code_smoothness"].item() > 0


def test_code_and_layers_are_the_checkpoint():
    names = {"codebook", "expansion.weight", "expansion.bias"}
    assert set(_regression().state_dict()) == names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_bits": 0}, "num_bits must be at least 1"),
        ({"max_pairs": 0}, "max_pairs must be at least 1"),
        ({"distance_weight": -1.0}, "distance_weight must be at least 0"),
        ({"smoothness_weight": -1.0}, "smoothness_weight must be at least 0"),
        ({"smoothness": "l2"}, "smoothness must be l1 or squared"),
    ],
)
def test_a_wrong_option_is_named(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        _regression(**changes)


def test_shapes_that_do_not_match_are_named():
    with pytest.raises(ValueError, match="soft_labels must have shape"):
        soft_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="labels must have shape"):
        code_distance_penalty(torch.zeros(4, 2, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="kind must be l1 or squared"):
        code_smoothness_penalty(torch.zeros(2, 3), "l3")
