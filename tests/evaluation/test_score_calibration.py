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
    found = calibration_of_scores(scores, is_true)
    assert found.brier == pytest.approx((0.2**2 + 0.71**2 + 0.1**2) / 4)
    assert found.log_loss == pytest.approx(-math.log(0.8 * 0.29 * 0.9) / 4)
    assert found.ece == pytest.approx(0.5 * abs(0.245 - 0.5) + 0.5 * (1 - 0.95))
    assert [entry["low"] for entry in found.reliability] == [0.2, 0.9]
    assert found.reliability[0]["score"] == pytest.approx(0.245)
    assert found.reliability[0]["share_true"] == 0.5


def test_scores_that_are_the_chances_are_calibrated(rng):
    scores = rng.uniform(size=20000)
    found = calibration_of_scores(scores, rng.uniform(size=20000) < scores)
    assert found.brier == pytest.approx(1 / 6, abs=5 * 0.15 / math.sqrt(20000))  # E p (1 - p)
    assert found.ece < 5 * 0.5 / math.sqrt(2000)


def test_constant_score_has_the_variance_of_the_outcomes():
    is_true = np.arange(10) < 3
    found = calibration_of_scores(np.full(10, 0.3), is_true)
    assert found.brier == pytest.approx(0.21)
    assert found.ece == pytest.approx(0.0)


def test_without_boxes_nothing_is_known():
    found = calibration_of_scores(np.zeros(0), np.zeros(0, dtype=bool))
    assert found.num_boxes == 0
    assert math.isnan(found.brier)
    assert found.as_dict()["brier"] is None


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan])
def test_scores_that_are_no_probabilities_are_refused(score):
    with pytest.raises(ValueError, match=r"scores must be in \[0, 1\]"):
        calibration_of_scores(np.array([0.5, score]), np.ones(2, dtype=bool))


def outcomes(labels, detections, limit=0.7):
    problem = MatchingProblem(
        make_frames(labels, scores=False), make_frames(detections, scores=True)
    )
    found = detection_outcomes(problem, {"Car": limit})
    return [part.tolist() for part in found]


def test_box_is_true_from_the_overlap_on():
    # A car of 4 m moved by d overlaps by (4 - d) / (4 + d): 0.7 at d = 12 / 17.
    moved = [{"z": 10 + d} for d in (0.0, 0.70, 0.71)]
    labels = [[{"yaw": math.pi / 2}]] * 3
    detections = [[{**m, "yaw": math.pi / 2}] for m in moved]
    assert outcomes(labels, detections) == [[True, True, False], [True] * 3]


def test_both_of_two_boxes_on_one_true_box_are_true():
    assert outcomes([[{}]], [[{"score": 0.9}, {"score": 0.2}]]) == [[True, True], [True, True]]


def test_labels_of_every_difficulty_are_true_boxes():
    hard = {"occluded": 3, "pixels": 10.0, "truncated": 0.9}
    assert outcomes([[hard]], [[{}]]) == [[True], [True]]


def test_boxes_of_other_frames_do_not_count():
    assert outcomes([[{}], []], [[], [{}]]) == [[False], [True]]


def test_boxes_of_other_classes_are_not_judged():
    labels, detections = [[{"name": "Cyclist"}]], [[{"name": "Cyclist"}, {}]]
    assert outcomes(labels, detections) == [[False, False], [False, True]]


def test_box_on_a_neighboring_class_is_not_judged():
    assert outcomes([[{"name": "Van"}]], [[{}]]) == [[False], [False]]
    assert outcomes([[{"name": "Van"}, {}]], [[{}]]) == [[True], [True]]


def test_box_in_a_region_without_labels_is_not_judged():
    box = (1000.0, 100.0, 1100.0, 160.0)
    for right, judged in ((1049.0, True), (1051.0, False)):
        region = {"name": "DontCare", "bbox": (900.0, 0.0, right, 400.0)}
        assert outcomes([[region]], [[{"bbox": box}]]) == [[False], [judged]]


def test_frames_without_boxes_have_no_outcomes():
    assert outcomes([[], [{}]], [[], []]) == [[], []]


def test_scores_and_outcomes_of_another_kind_are_refused():
    scores = np.array([0.2, 0.6])
    with pytest.raises(ValueError, match=r"scores must have shape \(N,\)"):
        calibration_of_scores(scores[:, None], np.array([[True], [False]]))
    with pytest.raises(ValueError, match="is_true must be truth values"):
        calibration_of_scores(scores, np.array([0.2, 1.0]))
    assert calibration_of_scores(scores, np.array([0, 1])) == calibration_of_scores(
        scores, np.array([False, True])
    )
