"""The rules of the KITTI protocol, one by one.

Every scene has 50 easy cars, found perfectly in frames of their own, so that AP R40 is 100 unless
the object under test changes it: an unmatched label that counts makes recall fall short, a false
positive of high score makes precision fall short.
"""

from __future__ import annotations

from typing import Any

import pytest

from ebm3d.evaluation import KittiEvaluation, evaluate_kitti
from tests.evaluation.scenes import make_frames, many_cars

_METRICS = ("bbox", "bev", "3d")


def _evaluate(
    labels: list[dict[str, Any]], detections: list[dict[str, Any]], threshold: float = 0.7
) -> KittiEvaluation:
    """50 perfect frames and one with the objects under test."""
    base = many_cars(50)
    found = [[{"score": 0.9 - i / 100}] for i in range(50)]
    return evaluate_kitti(
        make_frames([*base, labels], scores=False),
        make_frames([*found, detections], scores=True),
        classes=["Car"],
        iou_thresholds=[threshold],
    )


def _ap(found: KittiEvaluation, difficulty: str = "easy", threshold: float = 0.7) -> list[float]:
    return [found.average_precision("Car", m, threshold, difficulty) for m in _METRICS]


PERFECT = pytest.approx([100.0] * 3, abs=1e-12)
FALSE_POSITIVE = {"x": 30.0, "z": 20.0, "score": 0.99}


def _spoiled(values: list[float]) -> bool:
    return all(value < 99.0 for value in values)


def test_an_unmatched_detection_is_a_false_positive() -> None:
    assert _spoiled(_ap(_evaluate([], [FALSE_POSITIVE])))


def test_a_missed_label_lowers_recall() -> None:
    found = _evaluate([{"x": 30.0}], [])
    assert found.curves["Car", "3d", 0.7, "easy"].recall[-1] == pytest.approx(50 / 51)


def test_a_second_detection_of_the_same_object_is_a_false_positive() -> None:
    twice = [{"x": 30.0, "score": 0.99}, {"x": 30.02, "score": 0.98}]
    assert _spoiled(_ap(_evaluate([{"x": 30.0}], twice)))


def test_the_overlap_must_exceed_the_threshold() -> None:
    # Half of the label's 2D box: IoU exactly 1/2, also in float64.
    label = {"x": 30.0, "bbox": (4000.0, 100.0, 4200.0, 200.0)}
    half = {"x": 30.0, "bbox": (4000.0, 100.0, 4100.0, 200.0), "score": 0.99}
    assert _ap(_evaluate([label], [half], 0.5), threshold=0.5)[0] < 99.0
    assert _ap(_evaluate([label], [half], 0.49), threshold=0.49) == PERFECT


@pytest.mark.parametrize("name", ["Van", "van", "VAN"])
def test_finding_a_van_is_neither_right_nor_wrong(name: str) -> None:
    van = {"name": name, "x": 30.0, "z": 20.0}
    assert _ap(_evaluate([van], [FALSE_POSITIVE])) == PERFECT
    assert _ap(_evaluate([van], [])) == PERFECT


@pytest.mark.parametrize("name", ["Truck", "Tram", "Misc", "Pedestrian"])
def test_a_detection_on_another_class_is_a_false_positive(name: str) -> None:
    assert _spoiled(_ap(_evaluate([{"name": name, "x": 30.0, "z": 20.0}], [FALSE_POSITIVE])))


def test_a_sitting_person_is_ignored_for_pedestrians() -> None:
    labels = [*many_cars(50, name="Pedestrian"), [{"name": "Person_sitting", "x": 30.0}]]
    detections = [[{"name": "Pedestrian", "score": 0.9 - i / 100}] for i in range(50)]
    detections.append([{"name": "Pedestrian", "x": 30.0, "score": 0.99}])
    result = evaluate_kitti(make_frames(labels, scores=False), make_frames(detections, scores=True))
    for metric in _METRICS:
        assert result.average_precision("Pedestrian", metric, 0.5, "easy") == pytest.approx(100.0)


@pytest.mark.parametrize("name", ["car", "CAR"])
def test_class_names_are_compared_without_case(name: str) -> None:
    assert _ap(_evaluate([{"name": name, "x": 30.0}], [{"x": 30.0, "score": 0.99}])) == PERFECT
    found = _evaluate([{"x": 30.0}], [{"name": name, "x": 30.0, "score": 0.99}])
    assert _ap(found) == PERFECT
    assert found.num_labels["Car", "easy"] == 51


@pytest.mark.parametrize(
    ("change", "easy", "moderate", "hard"),
    [
        ({}, 1, 1, 1),
        ({"occluded": 1}, 0, 1, 1),
        ({"occluded": 2}, 0, 0, 1),
        ({"occluded": 3}, 0, 0, 0),
        ({"truncated": 0.15}, 1, 1, 1),
        ({"truncated": 0.16}, 0, 1, 1),
        ({"truncated": 0.3}, 0, 1, 1),
        ({"truncated": 0.31}, 0, 0, 1),
        ({"truncated": 0.5}, 0, 0, 1),
        ({"truncated": 0.51}, 0, 0, 0),
        ({"pixels": 40.01}, 1, 1, 1),
        ({"pixels": 40.0}, 0, 1, 1),
        ({"pixels": 25.01}, 0, 1, 1),
        ({"pixels": 25.0}, 0, 0, 0),
    ],
)
def test_a_label_counts_within_the_limits_of_its_difficulty(
    change: dict[str, Any], easy: int, moderate: int, hard: int
) -> None:
    found = _evaluate([{"x": 30.0, **change}], [])
    counted = [found.num_labels["Car", d] - 50 for d in ("easy", "moderate", "hard")]
    assert counted == [easy, moderate, hard]


def test_finding_a_label_beyond_the_difficulty_is_neither_right_nor_wrong() -> None:
    hidden = {"x": 30.0, "z": 20.0, "occluded": 2}
    found = _evaluate([hidden], [FALSE_POSITIVE])
    assert _ap(found, "easy") == PERFECT
    assert _ap(found, "moderate") == PERFECT
    missed = _evaluate([hidden], [])
    assert _ap(missed, "moderate") == PERFECT
    assert missed.curves["Car", "3d", 0.7, "hard"].recall[-1] == pytest.approx(50 / 51)


@pytest.mark.parametrize(("pixels", "easy", "moderate"), [(39.9, True, False), (24.9, True, True)])
def test_a_low_detection_is_no_false_positive(pixels: float, easy: bool, moderate: bool) -> None:
    found = _evaluate([], [dict(FALSE_POSITIVE, pixels=pixels)])
    assert (_ap(found, "easy") == PERFECT) is easy
    assert (_ap(found, "moderate") == PERFECT) is moderate


def test_a_detection_of_exactly_the_least_height_counts() -> None:
    assert _spoiled(_ap(_evaluate([], [dict(FALSE_POSITIVE, pixels=40.0)])))


def test_a_label_found_only_by_a_low_detection_is_not_missed() -> None:
    found = _evaluate([{"x": 30.0}], [{"x": 30.0, "pixels": 39.0, "score": 0.99}])
    assert found.curves["Car", "3d", 0.7, "easy"].recall[-1] == pytest.approx(1.0)


def test_a_low_detection_of_another_class_may_hold_a_label() -> None:
    # The official tool asks for the height before the class.
    other = {"name": "Pedestrian", "x": 30.0, "pixels": 39.0, "score": 0.99}
    curve = _evaluate([{"x": 30.0}], [other]).curves["Car", "3d", 0.7, "easy"]
    assert curve.recall[-1] == pytest.approx(1.0)


def test_a_detection_that_counts_is_preferred_to_a_low_one_of_larger_overlap() -> None:
    detections = [
        {"x": 30.0, "pixels": 39.0, "score": 0.5},
        {"x": 30.2, "score": 0.6, "bbox": (4000.0, 100.0, 4100.0, 160.0)},
    ]
    curve = _evaluate([{"x": 30.0}], detections).curves["Car", "3d", 0.7, "easy"]
    assert curve.recall[-1] == pytest.approx(1.0)
    assert curve.precision[40] == pytest.approx(1.0)
    assert len(curve.scores) == 41


def test_a_detection_in_a_dont_care_region_is_no_false_positive_in_the_picture() -> None:
    region = {"name": "DontCare", "bbox": (3900.0, 50.0, 4400.0, 300.0)}
    found = _ap(_evaluate([region], [FALSE_POSITIVE]))
    assert found[0] == pytest.approx(100.0)
    assert _spoiled(found[1:])


@pytest.mark.parametrize(("share", "spared"), [(0.71, True), (0.7, False), (0.6, False)])
def test_the_share_of_the_detection_in_the_region_decides(share: float, spared: bool) -> None:
    detection = dict(FALSE_POSITIVE, bbox=(1000.0, 100.0, 1100.0, 200.0))
    region = {"name": "DontCare", "bbox": (1000.0, 0.0, 1000.0 + 100.0 * share, 1000.0)}
    assert (_ap(_evaluate([region], [detection]))[0] == pytest.approx(100.0)) is spared


def test_a_detection_that_finds_a_label_in_a_dont_care_region_is_right() -> None:
    region = {"name": "DontCare", "bbox": (0.0, 0.0, 9000.0, 1000.0)}
    labels = [{"x": 30.0}, region]
    found = _evaluate(labels, [{"x": 30.0, "score": 0.99}])
    assert found.curves["Car", "bbox", 0.7, "easy"].recall[-1] == pytest.approx(1.0)


def test_two_dont_care_regions_spare_a_detection_once() -> None:
    region = {"name": "DontCare", "bbox": (3900.0, 50.0, 4400.0, 300.0)}
    both = [FALSE_POSITIVE, {"x": -8.0, "z": 20.0, "score": 0.98}]
    assert _spoiled(_ap(_evaluate([region, dict(region)], both)))


def test_orientation_is_not_evaluated_where_a_detection_gives_none() -> None:
    tree = _evaluate([], [dict(FALSE_POSITIVE, alpha=-10.0)]).as_dict()["Car"]
    assert tree["aos"]["0.70"]["easy"] == {"ap_r40": None, "ap_r11": None}
    assert tree["bbox"]["0.70"]["easy"]["ap_r40"] > 0
