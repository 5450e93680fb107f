"""The rules of the KITTI protocol, one by one.

Every scene has 50 easy cars, detected perfectly in separate frames, so that AP R40 is 100 unless
the object under test changes it: an unmatched label that counts makes recall fall short, a false
positive of high score makes precision fall short.
"""

from __future__ import annotations

from typing import Any

import pytest

from ebm3d.evaluation import KittiEvaluation, evaluate_kitti
from tests.evaluation.scenes import make_frames, many_cars

_METRICS = ("bbox", "bev", "3d")
FALSE_POSITIVE = {"x": 30.0, "z": 20.0, "score": 0.99}
HIDDEN = {"x": 30.0, "z": 20.0, "occluded": 2}
REGION = {"name": "DontCare", "bbox": (3900.0, 50.0, 4400.0, 300.0)}


def _evaluate(
    labels: list[dict[str, Any]],
    detections: list[dict[str, Any]],
    threshold: float = 0.7,
    name: str = "Car",
) -> KittiEvaluation:
    """50 perfect frames and one with the objects under test."""
    perfect = [[{"name": name, "score": 0.9 - i / 100}] for i in range(50)]
    return evaluate_kitti(
        make_frames([*many_cars(50, name=name), labels], scores=False),
        make_frames([*perfect, detections], scores=True),
        classes=[name],
        iou_thresholds=[threshold],
    )


def _is_perfect(
    evaluation: KittiEvaluation,
    difficulty: str = "easy",
    threshold: float = 0.7,
    name: str = "Car",
) -> list[bool]:
    """Whether AP of the 2D box, BEV and 3D is 100."""
    values = [evaluation.average_precision(name, m, threshold, difficulty) for m in _METRICS]
    assert all(value < 99 or value == pytest.approx(100, abs=1e-12) for value in values)
    return [value > 99 for value in values]


def _recall(evaluation: KittiEvaluation, metric: str = "3d", difficulty: str = "easy") -> float:
    return float(evaluation.curves["Car", metric, 0.7, difficulty].recall[-1])


@pytest.mark.parametrize(
    ("labels", "detections", "difficulty", "is_perfect"),
    [
        ([], [FALSE_POSITIVE], "easy", [0, 0, 0]),
        ([FALSE_POSITIVE], [FALSE_POSITIVE, dict(FALSE_POSITIVE, x=30.02)], "easy", [0, 0, 0]),
        ([dict(FALSE_POSITIVE, name="VAN")], [FALSE_POSITIVE], "easy", [1, 1, 1]),
        ([dict(FALSE_POSITIVE, name="Van")], [], "easy", [1, 1, 1]),
        ([dict(FALSE_POSITIVE, name="Truck")], [FALSE_POSITIVE], "easy", [0, 0, 0]),
        ([dict(FALSE_POSITIVE, name="Pedestrian")], [FALSE_POSITIVE], "easy", [0, 0, 0]),
        ([dict(FALSE_POSITIVE, name="car")], [FALSE_POSITIVE], "easy", [1, 1, 1]),
        ([FALSE_POSITIVE], [dict(FALSE_POSITIVE, name="CAR")], "easy", [1, 1, 1]),
        ([HIDDEN], [FALSE_POSITIVE], "moderate", [1, 1, 1]),
        ([HIDDEN], [], "moderate", [1, 1, 1]),
        ([], [dict(FALSE_POSITIVE, pixels=39.9)], "easy", [1, 1, 1]),
        ([], [dict(FALSE_POSITIVE, pixels=39.9)], "moderate", [0, 0, 0]),
        ([], [dict(FALSE_POSITIVE, pixels=24.9)], "moderate", [1, 1, 1]),
        ([], [dict(FALSE_POSITIVE, pixels=40.0)], "easy", [0, 0, 0]),
        ([REGION], [FALSE_POSITIVE], "easy", [1, 0, 0]),
        ([REGION] * 2, [FALSE_POSITIVE, {"x": -8.0, "z": 20.0, "score": 0.98}], "easy", [0, 0, 0]),
    ],
    ids=["false positive", "second detection", "van", "missed van", "truck", "pedestrian",
         "label in lower case", "detection in upper case", "hidden", "missed hidden",
         "low, easy", "low, moderate", "too low for moderate", "exactly the least height",
         "DontCare in the image alone", "two regions spare one detection once"],
)  # fmt: skip
def test_false_positives(
    labels: list, detections: list, difficulty: str, is_perfect: list[int]
) -> None:
    assert _is_perfect(_evaluate(labels, detections), difficulty) == is_perfect


@pytest.mark.parametrize(
    ("labels", "detections", "metric", "difficulty", "recall"),
    [
        ([{"x": 30.0}], [], "3d", "easy", 50 / 51),
        ([HIDDEN], [], "3d", "hard", 50 / 51),
        ([{"x": 30.0}], [{"x": 30.0, "pixels": 39.0, "score": 0.99}], "3d", "easy", 1.0),
        # The official tool asks for the height before the class.
        (
            [{"x": 30.0}],
            [{"name": "Pedestrian", "x": 30.0, "pixels": 39.0, "score": 0.99}],
            *("3d", "easy", 1.0),
        ),
        (
            [{"x": 30.0}, {"name": "DontCare", "bbox": (0.0, 0.0, 9000.0, 1000.0)}],
            [{"x": 30.0, "score": 0.99}],
            *("bbox", "easy", 1.0),
        ),
    ],
    ids=["missed", "hidden", "low detection", "low of another class", "in a DontCare region"],
)
def test_missed_labels(
    labels: list, detections: list, metric: str, difficulty: str, recall: float
) -> None:
    assert _recall(_evaluate(labels, detections), metric, difficulty) == pytest.approx(recall)


def test_the_overlap_must_exceed_the_threshold() -> None:
    # Half of the label's 2D box: IoU exactly 1/2, also in float64.
    label = {"x": 30.0, "bbox": (4000.0, 100.0, 4200.0, 200.0)}
    half = {"x": 30.0, "bbox": (4000.0, 100.0, 4100.0, 200.0), "score": 0.99}
    assert not _is_perfect(_evaluate([label], [half], 0.5), threshold=0.5)[0]
    assert all(_is_perfect(_evaluate([label], [half], 0.49), threshold=0.49))


def test_a_sitting_person_is_ignored_for_pedestrians() -> None:
    evaluation = _evaluate(
        [{"name": "Person_sitting", "x": 30.0}],
        [{"name": "Pedestrian", "x": 30.0, "score": 0.99}],
        name="Pedestrian",
    )
    assert all(_is_perfect(evaluation, name="Pedestrian"))


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
    evaluation = _evaluate([{"x": 30.0, **change}], [])
    counted = [evaluation.num_labels["Car", d] - 50 for d in ("easy", "moderate", "hard")]
    assert counted == [easy, moderate, hard]


def test_a_detection_that_counts_is_preferred_to_a_low_one_of_larger_overlap() -> None:
    detections = [
        {"x": 30.0, "pixels": 39.0, "score": 0.5},
        {"x": 30.2, "score": 0.6, "bbox": (4000.0, 100.0, 4100.0, 160.0)},
    ]
    curve = _evaluate([{"x": 30.0}], detections).curves["Car", "3d", 0.7, "easy"]
    assert curve.recall[-1] == curve.precision[40] == pytest.approx(1.0)
    assert len(curve.scores) == 41


@pytest.mark.parametrize(("share", "spared"), [(0.71, True), (0.7, False), (0.6, False)])
def test_the_share_of_the_detection_in_the_region_decides(share: float, spared: bool) -> None:
    detection = dict(FALSE_POSITIVE, bbox=(1000.0, 100.0, 1100.0, 200.0))
    region = {"name": "DontCare", "bbox": (1000.0, 0.0, 1000.0 + 100.0 * share, 1000.0)}
    assert _is_perfect(_evaluate([region], [detection]))[0] is spared


def test_orientation_is_not_evaluated_where_a_detection_has_none() -> None:
    tree = _evaluate([], [dict(FALSE_POSITIVE, alpha=-10.0)]).as_dict()["Car"]
    assert tree["aos"]["0.70"]["easy"] == {"ap_r40": None, "ap_r11": None}
    assert tree["bbox"]["0.70"]["easy"]["ap_r40"] > 0
