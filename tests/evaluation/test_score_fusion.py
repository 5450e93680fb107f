from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from ebm3d.evaluation.score_fusion import fit_score_fusion

WEIGHTS = (0.8, 0.5, -0.3, -1.2)


def drawn(rng, num=4000):
    """Scores, two features and outcomes of a logistic model of known weights."""
    scores = rng.uniform(0.05, 0.95, num)
    features = np.column_stack((rng.normal(4.0, 3.0, num), rng.gamma(2.0, 1.0, num)))
    chance = expit(inputs_of(scores, features) @ WEIGHTS)
    return scores, features, rng.uniform(size=num) < chance


def inputs_of(scores, features):
    return np.column_stack((logit(scores), features, np.ones(len(scores))))


def fused(fit, scores, features):
    return expit(inputs_of(scores, features) @ fit.weights)


def test_weights_of_a_known_model_are_recovered_within_their_standard_errors(rng):
    scores, features, outcomes = drawn(rng, 20000)
    fit = fit_score_fusion(scores, features, outcomes)
    rows, p = inputs_of(scores, features), fused(fit, scores, features)
    errors = np.sqrt(np.diag(np.linalg.inv((rows * (p * (1 - p))[:, None]).T @ rows)))
    assert (np.abs(fit.weights - WEIGHTS) < 5 * errors).all()
    assert p.mean() == pytest.approx(outcomes.mean(), abs=1e-6)  # the bias is free


def test_no_standardized_weight_alone_can_be_changed_for_the_better(rng):
    scores, features, outcomes = drawn(rng, 200)
    fit = fit_score_fusion(scores, features, outcomes)
    inputs = np.column_stack((logit(scores), features))
    rows = np.column_stack(((inputs - inputs.mean(0)) / inputs.std(0), np.ones(200)))
    standardized = np.append(
        fit.weights[:-1] * inputs.std(0), fit.weights[-1] + fit.weights[:-1] @ inputs.mean(0)
    )
    for index, weight in enumerate(standardized):

        def loss(value, index=index):
            w = standardized.copy()
            w[index] = value
            log_loss = np.logaddexp(0, np.where(outcomes, -1, 1) * (rows @ w)).sum()
            return log_loss + np.square(w[:-1]).sum() / (2 * 10**2)

        best = minimize_scalar(loss, bracket=(weight - 0.1, weight, weight + 0.1), tol=1e-10)
        assert best.x == pytest.approx(weight, abs=1e-5)


def test_units_of_a_feature_do_not_matter(rng):
    scores, features, outcomes = drawn(rng)
    other = np.column_stack((1e4 * features[:, 0] - 3e5, -1e-4 * features[:, 1]))
    first, second = (fit_score_fusion(scores, f, outcomes) for f in (features, other))
    np.testing.assert_allclose(
        fused(second, scores, other), fused(first, scores, features), atol=1e-6
    )


def test_boxes_with_an_unknown_feature_count_for_the_score_alone(rng):
    scores, features, outcomes = drawn(rng)
    plain = fit_score_fusion(scores, features, outcomes)
    features[7, 1] = np.nan
    fit = fit_score_fusion(scores, features, outcomes)
    rest = np.arange(4000) != 7
    without = fit_score_fusion(scores[rest], features[rest], outcomes[rest])
    np.testing.assert_allclose(fit.weights, without.weights, rtol=1e-6)
    np.testing.assert_allclose(fit.alone, plain.alone)
    assert (fit.alone != without.alone).any()


def test_outcomes_that_a_feature_separates_leave_the_weights_finite():
    f = np.linspace(-1, 1, 40)
    fit = fit_score_fusion(np.full(40, 0.5), f[:, None], f > 0)
    assert np.abs(fit.weights).max() < 1e3
    assert fit.weights[1] > 1.0


@pytest.mark.parametrize(
    ("features", "is_true", "message"),
    [
        (np.arange(9.0)[:, None], np.zeros(9, bool), "boxes with features"),
        (np.arange(9.0)[:, None], np.arange(9) == 0, "boxes with features"),
        (np.full((9, 1), np.nan), np.arange(9) % 2 == 0, "boxes with features"),
        (np.ones((7, 1)), np.arange(9) % 2 == 0, "features must have"),
    ],
)
def test_too_few_boxes_and_misshapen_features_are_refused(features, is_true, message):
    with pytest.raises(ValueError, match=message):
        fit_score_fusion(np.full(9, 0.5), features, is_true)
