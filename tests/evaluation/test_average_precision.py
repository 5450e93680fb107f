"""Average precision by hand, and the free oracle of a perfect detector."""

from __future__ import annotations

import numpy as np
import pytest

from ebm3d.evaluation import KittiEvaluation, evaluate_kitti
from ebm3d.evaluation.average_precision import sample_cutoffs
from tests.evaluation.scenes import make_frames, many_cars
from tests.oracles.kitti_protocol import cutoff_ranks


def _evaluate(labels: list, detections: list, threshold: float = 0.7) -> KittiEvaluation:
    return evaluate_kitti(
        make_frames(labels, scores=False),
        make_frames(detections, scores=True),
        classes=["Car"],
        iou_thresholds=[threshold],
    )


def _ap(evaluation: KittiEvaluation, name: str, metric: str = "3d") -> float:
    return evaluation.average_precision("Car", metric, 0.7, "easy", name)


@pytest.mark.parametrize(
    ("num", "r11", "r40"), [(1, 100 / 11, 0.0), (10, 300 / 11, 22.5), (40, 1000 / 11, 97.5)]
)
@pytest.mark.parametrize("metric", ["bbox", "bev", "3d", "aos", "ahs_bev", "ahs_3d"])
def test_perfect_detections_of_few_objects_score_the_capped_value(
    num: int, r11: float, r40: float, metric: str
) -> None:
    # N true positives give N cutoffs and so N samples of precision 1, from recall sample 0 on.
    # R40 leaves out sample 0, hence (N - 1) / 40; R11 takes samples 0, 4, ..., hence
    # ceil(N / 4) / 11: 1, 3 and 10 of 11.
    found = _evaluate(many_cars(num), [[{"score": 0.9 - 0.01 * i}] for i in range(num)])
    assert _ap(found, "ap_r40", metric) == pytest.approx(r40, abs=1e-12)
    assert _ap(found, "ap_r11", metric) == pytest.approx(r11, abs=1e-12)


@pytest.mark.parametrize("num", [41, 60, 200])
@pytest.mark.parametrize("yaw", [0.0, 0.7, -2.9, 40.0])
def test_ground_truth_as_detections_scores_100_from_41_objects_on(num: int, yaw: float) -> None:
    cars = many_cars(num, yaw=yaw, x=3.3, z=31.7)
    scored = [[dict(frame[0], score=1.0 - i / 1000)] for i, frame in enumerate(cars)]
    found = _evaluate(cars, scored)
    for metric in ("bbox", "bev", "3d", "aos", "ahs_bev", "ahs_3d"):
        assert _ap(found, "ap_r40", metric) == pytest.approx(100.0, abs=1e-12)
        assert _ap(found, "ap_r11", metric) == pytest.approx(100.0, abs=1e-12)


@pytest.mark.parametrize(
    ("num", "false_positives", "r40", "r11"),
    [
        # All four cars are detected, at 0.9, 0.8, 0.7, 0.6. The recalls 1/4, 2/4, 3/4, 1 are each
        # further apart than 1/40, so every score is a cutoff: 1 of 1, 2 of 2, 3 of 4, 4 of 6.
        # Samples 0 to 3 hold 1, 1, 3/4, 2/3 (already descending), the other 37 hold 0.
        (4, [0.75, 0.65], (1 + 3 / 4 + 2 / 3) / 40, 1 / 11),
        # Precision 1/2, 2/3, 3/4 rises: samples 0 to 2 all take the best from there on, 3/4.
        (3, [0.95], 2 * 0.75 / 40, 0.75 / 11),
    ],
)
def test_precision_is_as_worked_by_hand(
    num: int, false_positives: list[float], r40: float, r11: float
) -> None:
    detections = [[{"score": 0.9 - 0.1 * i}] for i in range(num)]
    detections[0] += [{"x": 50.0 * (-1) ** i, "score": s} for i, s in enumerate(false_positives)]
    evaluation = _evaluate(many_cars(num), detections)
    assert _ap(evaluation, "ap_r40") == pytest.approx(100 * r40, abs=1e-12)
    assert _ap(evaluation, "ap_r11") == pytest.approx(100 * r11, abs=1e-12)


def test_missed_objects_leave_the_last_samples_at_zero() -> None:
    # 30 of 60 cars found, no false positive. The k-th found has recall k/60, and the samples sought
    # are 0, 1/40, ... A score is passed over while the next recall is closer to the one sought:
    # sample s takes the smallest k with (2k + 1) / 120 >= s / 40, that is k >= (3s - 1) / 2; the
    # 30th is always taken. s = 0, 1, 2, ..., 20 take k = 1, 2, 3, 4, 6, 7, 9, 10, 12, ..., 30:
    # 21 samples of precision 1.
    labels = many_cars(60)
    detections = [[{"score": 1.0 - i / 100}] if i < 30 else [] for i in range(60)]
    found = _evaluate(labels, detections)
    assert len(found.curves["Car", "3d", 0.7, "easy"].scores) == 21
    assert _ap(found, "ap_r40") == pytest.approx(100 * 20 / 40, abs=1e-12)
    assert _ap(found, "ap_r11") == pytest.approx(100 * 6 / 11, abs=1e-12)


def test_orientation_similarity_is_weighted_by_the_angle() -> None:
    # All alphas are off by 60 degrees: (1 + cos 60) / 2 = 3/4 of the AP.
    labels = many_cars(50)
    detections = [[{"alpha": 0.3 + np.pi / 3, "score": 1 - i / 100}] for i in range(50)]
    found = _evaluate(labels, detections)
    assert _ap(found, "ap_r40", "bbox") == pytest.approx(100.0, abs=1e-12)
    assert _ap(found, "ap_r40", "aos") == pytest.approx(75.0, abs=1e-12)
    assert _ap(found, "ap_r40", "ahs_3d") == pytest.approx(100.0, abs=1e-12)


@pytest.mark.parametrize("num", [1, 39, 40, 41, 42, 500, 7874])
@pytest.mark.parametrize("recall", [1.0, 0.73])
def test_cutoffs_are_those_of_the_official_rule(num: int, recall: float) -> None:
    num_labels = int(num / recall)
    expected = cutoff_ranks(num, num_labels)
    assert len(expected) <= 41
    counts = np.arange(1, num + 1)
    for cutoffs in (sample_cutoffs, sample_cutoffs.py_func):
        assert (cutoffs(counts, num_labels) + 1).tolist() == expected
