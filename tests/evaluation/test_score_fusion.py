from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from ebm3d.evaluation.score_fusion import (
    FusionFit,
    ScoreFusion,
    fit_score_fusion,
    read_score_fusion,
    write_score_fusion,
)

MIN_IOU = {"Car": 0.7}
WEIGHTS = (0.8, 0.5, -0.3, -1.2)


def drawn(rng, num=4000, weights=WEIGHTS):
    """Scores, two features and outcomes of a logistic model of known weights."""
    scores = rng.uniform(0.05, 0.95, num)
    f, spread = rng.normal(4.0, 3.0, num), rng.gamma(2.0, 1.0, num)
    chance = expit(weights[0] * logit(scores) + weights[1] * f + weights[2] * spread + weights[3])
    return scores, {"f": f, "spread": spread}, rng.uniform(size=num) < chance


def fused(fit, scores, features):
    columns = np.column_stack(list(features.values()))
    return fit.fusion(torch.from_numpy(scores), torch.from_numpy(columns)).numpy()


def test_fusion_is_the_logistic_function_of_its_inputs(rng):
    fusion = ScoreFusion(("f", "spread"), WEIGHTS)
    scores, features = rng.uniform(0.1, 0.9, 6), rng.normal(size=(6, 2))
    found = fusion(torch.from_numpy(scores), torch.from_numpy(features))
    for index in range(6):
        a, b, d, c = WEIGHTS
        odds = a * math.log(scores[index] / (1 - scores[index])) + c
        odds += b * features[index, 0] + d * features[index, 1]
        assert float(found[index]) == pytest.approx(1 / (1 + math.exp(-odds)), rel=1e-12)


def test_weights_of_a_known_model_are_found_within_their_standard_errors(rng):
    scores, features, outcomes = drawn(rng, 20000)
    fit = fit_score_fusion(scores, features, outcomes, MIN_IOU)
    rows = np.column_stack((logit(scores), *features.values(), np.ones(len(scores))))
    p = fused(fit, scores, features)
    errors = np.sqrt(np.diag(np.linalg.inv((rows * (p * (1 - p))[:, None]).T @ rows)))
    assert (np.abs(np.array(fit.fusion.weights) - WEIGHTS) < 5 * errors).all()


def test_no_weight_alone_can_be_changed_for_the_better(rng):
    scores, features, outcomes = drawn(rng)
    fit = fit_score_fusion(scores, features, outcomes, MIN_IOU)
    rows = np.column_stack((logit(scores), *features.values(), np.ones(len(scores))))
    for index in range(4):

        def log_loss(value, index=index):
            w = np.array(fit.fusion.weights)
            w[index] = value
            return np.logaddexp(0, np.where(outcomes, -1, 1) * (rows @ w)).mean()

        own = fit.fusion.weights[index]
        best = minimize_scalar(log_loss, bracket=(own - 0.1, own, own + 0.1), tol=1e-10)
        # The prior takes a hundredth of a standardized weight off the gradient of the sum.
        assert best.x == pytest.approx(own, abs=2e-3)


def test_fused_scores_are_as_many_as_there_are_true_boxes(rng):
    scores, features, outcomes = drawn(rng)
    fit = fit_score_fusion(scores, features, outcomes, MIN_IOU)
    assert fused(fit, scores, features).mean() == pytest.approx(outcomes.mean(), abs=1e-6)


def test_scores_that_are_not_calibrated_become_so(rng):
    scores, features, outcomes = drawn(rng)
    fit = fit_score_fusion(scores, features, outcomes, MIN_IOU)
    assert fit.before.ece > 0.05
    assert fit.after.ece < 0.02
    assert fit.after.brier < fit.before.brier
    assert fit.after.log_loss < fit.before.log_loss


def test_units_of_a_feature_do_not_matter(rng):
    scores, features, outcomes = drawn(rng)
    first = fit_score_fusion(scores, features, outcomes, MIN_IOU)
    other = {"f": 1e4 * features["f"] - 3e5, "spread": -1e-4 * features["spread"]}
    second = fit_score_fusion(scores, other, outcomes, MIN_IOU)
    np.testing.assert_allclose(
        fused(second, scores, other), fused(first, scores, features), atol=1e-6
    )


def test_feature_that_says_nothing_gets_no_weight(rng):
    scores, features, outcomes = drawn(rng)
    fit = fit_score_fusion(scores, {**features, "constant": np.ones(4000)}, outcomes, MIN_IOU)
    assert fit.fusion.weights[3] == pytest.approx(0.0, abs=1e-9)


def test_boxes_without_a_feature_get_what_their_score_alone_says(rng):
    scores, features, outcomes = drawn(rng)
    plain = fit_score_fusion(scores, features, outcomes, MIN_IOU)
    missing = {name: np.append(column, np.nan) for name, column in features.items()}
    scores, outcomes = np.append(scores, 0.3), np.append(outcomes, True)
    fit = fit_score_fusion(scores, missing, outcomes, MIN_IOU)
    assert fit.num_known == 4000
    assert fit.fusion.weights == pytest.approx(plain.fusion.weights)
    slope, bias = fit.fusion.alone
    expected = expit(slope * logit(0.3) + bias)
    assert fused(fit, scores, missing)[-1] == pytest.approx(expected)


def test_outcomes_that_a_feature_separates_leave_the_weights_finite():
    f = np.linspace(-1, 1, 40)
    fit = fit_score_fusion(np.full(40, 0.5), {"f": f}, f > 0, MIN_IOU)
    assert all(abs(w) < 1e3 for w in fit.fusion.weights)
    assert (np.diff(fused(fit, np.full(40, 0.5), {"f": f})) > 0).all()


@pytest.mark.parametrize("num", [20, 1000, 100_000])
def test_maximum_is_found_whatever_the_number_of_boxes(num):
    # Rounding of the sum over many boxes hides the gain of the last steps.
    for seed in range(5):
        scores, features, outcomes = drawn(np.random.default_rng(seed), num)
        fit = fit_score_fusion(scores, features, outcomes, MIN_IOU)
        assert fit.after.log_loss < fit.before.log_loss


def test_maximum_that_is_not_found_is_told_with_its_reason(rng, monkeypatch):
    from ebm3d.evaluation import score_fusion

    found = score_fusion.minimize

    def stopped(*args, **kwargs):
        return found(*args, **{**kwargs, "options": {"maxiter": 1}})

    monkeypatch.setattr(score_fusion, "minimize", stopped)
    scores, features, outcomes = drawn(rng)
    with pytest.raises(ValueError, match=r"must be converged.*4000 boxes: Maximum number"):
        fit_score_fusion(scores, features, outcomes, MIN_IOU)


def test_certain_scores_are_taken_as_nearly_certain():
    fusion = ScoreFusion(("f",), (1.0, 1.0, 0.0))
    found = fusion(torch.tensor([0.0, 1.0]), torch.zeros(2, 1))
    torch.testing.assert_close(found, torch.tensor([1e-6, 1 - 1e-6]), rtol=1e-3, atol=1e-7)


def test_no_boxes_have_no_scores():
    assert ScoreFusion(("f",), (1.0, 1.0, 0.0))(torch.zeros(0), torch.zeros(0, 1)).shape == (0,)


@pytest.mark.parametrize("is_true", [np.zeros(9, bool), np.ones(9, bool), np.arange(9) == 0])
def test_outcomes_of_one_kind_are_refused(is_true):
    with pytest.raises(ValueError, match="boxes with features must be two or more true"):
        fit_score_fusion(np.full(9, 0.5), {"f": np.arange(9.0)}, is_true, MIN_IOU)


def test_boxes_of_which_no_feature_is_known_are_refused():
    with pytest.raises(ValueError, match="boxes with features"):
        fit_score_fusion(np.full(8, 0.5), {"f": np.full(8, np.nan)}, np.arange(8) % 2 == 0, MIN_IOU)


def test_columns_of_another_length_are_refused():
    with pytest.raises(ValueError, match="f must have shape"):
        fit_score_fusion(np.full(8, 0.5), {"f": np.ones(7)}, np.arange(8) % 2 == 0, MIN_IOU)


def test_features_of_another_number_are_refused():
    with pytest.raises(ValueError, match="features must have shape"):
        ScoreFusion(("f",), (1.0, 1.0, 0.0))(torch.rand(3), torch.zeros(3, 2))


@pytest.mark.parametrize(
    ("features", "weights", "alone"),
    [
        ((), (1.0, 0.0), (1.0, 0.0)),
        (("f", "f"), (1.0, 1.0, 1.0, 0.0), (1.0, 0.0)),
        (("f",), (1.0, 0.0), (1.0, 0.0)),
        (("f",), (1.0, math.nan, 0.0), (1.0, 0.0)),
        (("f",), (1.0, 1.0, 0.0), (1.0,)),
    ],
)
def test_weights_that_do_not_fit_the_features_are_refused(features, weights, alone):
    with pytest.raises(ValueError, match="must be"):
        ScoreFusion(features, weights, alone)


@pytest.fixture
def fitted(rng) -> FusionFit:
    return fit_score_fusion(*drawn(rng, 500), MIN_IOU)


def test_weights_are_read_as_they_were_written(tmp_path, fitted):
    file = tmp_path / "deep" / "fusion.json"
    write_score_fusion(file, fitted)
    assert read_score_fusion(file) == fitted.fusion
    tree = json.loads(file.read_text())
    assert tree["min_iou"] == MIN_IOU
    assert tree["before"]["brier"] == fitted.before.brier
    assert tree["after"]["reliability"]


def test_missing_file_names_what_writes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="--fit-fusion"):
        read_score_fusion(tmp_path / "none.json")


@pytest.mark.parametrize(
    "tree",
    [
        "{",
        "[]",
        '{"weights": {"logit": 1, "bias": 0}, "alone": {"logit": 1, "bias": 0}}',
        '{"weights": {"logit": 1, "f": 1}, "alone": {"logit": 1, "bias": 0}}',
        '{"weights": {"logit": 1, "f": "1", "bias": 0}, "alone": {"logit": 1, "bias": 0}}',
        '{"weights": {"logit": 1, "f": NaN, "bias": 0}, "alone": {"logit": 1, "bias": 0}}',
        '{"weights": {"logit": 1, "f": 1, "bias": 0}}',
    ],
)
def test_file_without_weights_is_refused_with_the_remedy(tmp_path, tree):
    file = tmp_path / "fusion.json"
    file.write_text(tree)
    with pytest.raises(ValueError, match="--fit-fusion"):
        read_score_fusion(file)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"features": "ab", "weights": (1, 1, 1, 0)}, "features must be a list, but got 'ab'"),
        ({"features": ["logit"], "weights": (1, 1, 0)}, "none of them logit or bias"),
        ({"features": [3], "weights": (1, 1, 0)}, "features must be one or more names"),
        ({"features": ["f"], "weights": 3}, "weights must be a list, but got 3"),
        ({"features": ["f"], "weights": (1, 10**400, 0)}, "weights must be 3 finite numbers"),
    ],
)
def test_weights_of_another_kind_are_refused(given: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ScoreFusion(**given)


def test_scores_of_another_kind_are_refused():
    fusion, features = ScoreFusion(("f",), (1.0, 1.0, 0.0)), torch.zeros(3, 1)
    for scores in (torch.ones(3, dtype=torch.int64), torch.ones(3, 1)):
        with pytest.raises(ValueError, match=r"scores must be \(N,\) of a floating-point type"):
            fusion(scores, features)
