from __future__ import annotations

import math

import numpy as np
import pytest

from ebm3d.evaluation.kitti_evaluation import MatchingProblem
from ebm3d.evaluation.score_calibration import calibration_of_scores, detection_outcomes
from tests.evaluation.scenes import make_frames


def test_figures_of_four_boxes_are_those_worked_by_hand():
    # Bins [0.2, 0.3): scores 0.2 and 0.29, one of two true. [0.9, 1]: 0.9 true, 1.0 true.
    scores, is_true = np.array([0.2, 0.29, 0.9, 1.0]), np.array([False, True, True, True])
    result = calibration_of_scores(scores, is_true)
    assert result.brier == pytest.approx((0.2**2 + 0.71**2 + 0.1**2) / 4)
    assert result.log_loss == pytest.approx(-math.log(0.8 * 0.29 * 0.9) / 4)
    assert result.ece == pytest.approx(0.5 * abs(0.245 - 0.5) + 0.5 * (1 - 0.95))
    assert [row["low"] for row in result.reliability] == [0.2, 0.9]
    assert result.reliability[0]["score"] == pytest.approx(0.245)
    assert result.reliability[0]["share_true"] == 0.5
    assert result == calibration_of_scores(scores, is_true.astype(int))


def test_scores_that_are_the_chances_are_calibrated(rng):
    scores = rng.uniform(size=20000)
    result = calibration_of_scores(scores, rng.uniform(size=20000) < scores)
    assert result.brier == pytest.approx(1 / 6, abs=5 * 0.15 / math.sqrt(20000))  # E p (1 - p)
    assert result.ece < 5 * 0.5 / math.sqrt(2000)


@pytest.mark.parametrize("outcome", [False, True])
def test_a_wrong_certainty_costs_27_6_nats(outcome):
    result = calibration_of_scores(np.full(3, 1.0 - outcome), np.full(3, outcome))
    assert result.brier == 1.0
    assert result.log_loss == pytest.approx(-math.log(1e-12), rel=1e-4)
    assert calibration_of_scores(np.zeros(0), np.zeros(0, dtype=bool)).as_dict()["brier"] is None


@pytest.mark.parametrize(
    ("scores", "is_true", "message"),
    [
        ([0.5, -0.1], [True, True], r"scores must be in \[0, 1\]"),
        ([0.5, math.nan], [True, True], r"scores must be in \[0, 1\]"),
        ([[0.5], [0.2]], [[True], [False]], r"scores must have shape \(N,\)"),
        ([0.5, 0.2], [True], "is_true must have shape"),
        ([0.5, 0.2], [0.2, 1.0], "is_true must be booleans"),
    ],
)
def test_bad_scores_and_outcomes_are_refused(scores, is_true, message):
    with pytest.raises(ValueError, match=message):
        calibration_of_scores(np.array(scores), np.array(is_true))


VAN, CYCLIST = {"name": "Van"}, {"name": "Cyclist"}
HARD = {"occluded": 3, "pixels": 10.0, "truncated": 0.9}
BOX = {"bbox": (1000.0, 100.0, 1100.0, 160.0)}


def moved(distance):
    """A car of 4 m moved by d overlaps by (4 - d) / (4 + d): 0.7 at d = 12 / 17."""
    return {"x": distance}


def region(right):
    return {"name": "DontCare", "bbox": (900.0, 0.0, right, 400.0)}


@pytest.mark.parametrize(
    ("labels", "detections", "is_true", "is_judged"),
    [
        ([[{}]] * 3, [[moved(0.0)], [moved(0.70)], [moved(0.71)]], [1, 1, 0], [1, 1, 1]),
        ([[{}]], [[{"score": 0.9}, {"score": 0.2}]], [1, 1], [1, 1]),
        ([[HARD]], [[{}]], [1], [1]),
        ([[{}], []], [[], [{}]], [0], [1]),
        ([[CYCLIST]], [[CYCLIST, {}]], [0, 0], [0, 1]),
        ([[VAN]], [[{}]], [0], [0]),
        ([[VAN, {}]], [[{}]], [1], [1]),
        ([[region(1049.0)]], [[BOX]], [0], [1]),
        ([[region(1051.0)]], [[BOX]], [0], [0]),
        ([[], [{}]], [[], []], [], []),
        ([[{}, {"x": 9.0}], [], [{"x": 3.0}]], [[{"x": 9.0}, {"x": 5.0}], [{}], [{"x": 3.0}]],
         [1, 0, 0, 1], [1, 1, 1, 1]),
    ],
    ids=["overlap", "two", "hard", "other frame", "other class", "van", "van and car",
         "not by half", "by half", "empty", "many"],
)  # fmt: skip
def test_boxes_that_overlap_their_class_are_true(labels, detections, is_true, is_judged):
    problem = MatchingProblem(
        make_frames(labels, scores=False), make_frames(detections, scores=True)
    )
    outcomes = detection_outcomes(problem, {"Car": 0.7})
    assert [part.tolist() for part in outcomes] == [is_true, is_judged]
