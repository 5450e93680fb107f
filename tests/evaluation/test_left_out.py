"""What is left out is counted; labels without 2D boxes are evaluated without the image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ebm3d.datasets.kitti_frames import KittiFrames
from ebm3d.evaluation import MatchingProblem, compare_kitti, evaluate_kitti, report_kitti
from ebm3d.evaluation.left_out import count_left_out
from ebm3d.evaluation.tables import render, report_tables
from tests.evaluation.scenes import make_frames, many_cars, random_scene

_LEVELS = ("easy", "moderate", "hard")
# Zeros and -1 of labeling tools; boxes that end where, or before, they begin.
_NO_BOXES = [(0.0,) * 4, (-1.0,) * 4, (50.0, 100.0, 50.0, 170.0), (50.0, 170.0, 90.0, 100.0)]


def _frames(*, scores: bool, **changes: Any) -> KittiFrames:
    """50 frames of one car, and one without objects."""
    return make_frames([*many_cars(50, **changes), []], scores=scores)


def _without_2d(frames: KittiFrames) -> KittiFrames:
    objects = frames.objects
    return replace(frames, objects=replace(objects, bbox=np.zeros_like(objects.bbox)))


@pytest.mark.parametrize("bbox", _NO_BOXES)
@pytest.mark.parametrize("detected", [None, (0.0,) * 4])
def test_perfect_boxes_score_100_against_labels_without_2d_boxes(
    bbox: tuple[float, ...], detected: tuple[float, ...] | None
) -> None:
    labels = _frames(scores=False, bbox=bbox)
    detections = _frames(scores=True, **({} if detected is None else {"bbox": detected}))
    evaluation = evaluate_kitti(labels, detections, classes=["Car"])
    tree = evaluation.as_dict()["Car"]
    for level in _LEVELS:
        for metric in ("bev", "3d"):
            assert tree[metric]["0.70"][level]["ap_r40"] == pytest.approx(100)
        for metric in ("bbox", "aos"):
            assert tree[metric]["0.70"][level] == {"ap_r40": None, "ap_r11": None}
    assert len(evaluation.notes) == 1
    assert "no label has a 2D box" in evaluation.notes[0]
    assert "the three levels are equal" in evaluation.notes[0]


@pytest.mark.parametrize(
    ("first", "second", "counted"),
    [
        ({"occluded": 0}, {"occluded": 1}, (25, 50, 50)),
        ({"occluded": 0}, {"truncated": 0.4}, (25, 25, 50)),
        ({"occluded": 3}, {"occluded": -1}, (50, 50, 50)),
        ({"occluded": 3}, {"occluded": 0}, (25, 25, 25)),  # unknown, as in the official tool
        ({"occluded": 3, "truncated": 0.2}, {"occluded": 3}, (25, 50, 50)),
        ({"truncated": -1.0}, {}, (50, 50, 50)),
    ],
)
def test_without_2d_boxes_difficulty_follows_from_occlusion_and_truncation(
    first: dict[str, Any], second: dict[str, Any], counted: tuple[int, ...]
) -> None:
    rows = [{**extra, "bbox": (0.0,) * 4} for extra in (first, second) for _ in range(25)]
    labels = make_frames([[row] for row in rows], scores=False)
    evaluation = evaluate_kitti(labels, make_frames(many_cars(50), scores=True), classes=["Car"])
    assert tuple(evaluation.num_labels["Car", level] for level in _LEVELS) == counted
    equal = any("the three levels are equal" in note for note in evaluation.notes)
    assert equal is (counted[0] == counted[2])


def test_without_2d_boxes_bev_and_3d_are_those_of_large_ones(rng: np.random.Generator) -> None:
    labels, detections = random_scene(rng, 30)
    objects = (labels.objects, detections.objects)
    large = [replace(o, bbox=o.bbox + [0.0, 0.0, 0.0, 1000.0]) for o in objects]
    expected = evaluate_kitti(
        replace(labels, objects=large[0]), replace(detections, objects=large[1])
    ).as_dict()
    found = evaluate_kitti(_without_2d(labels), _without_2d(detections)).as_dict()
    for name in expected:
        for metric in ("3d", "bev", "ahs_3d", "num_labels", "num_detections"):
            assert found[name][metric] == expected[name][metric], (name, metric)
    assert 0 < expected["Car"]["3d"]["0.50"]["easy"]["ap_r40"] < 100


def test_one_2d_box_keeps_the_rules_of_the_image_and_the_others_are_counted() -> None:
    rows = [{} if i < 20 else {"bbox": (0.0,) * 4} for i in range(50)]
    rows += [{"name": "DontCare", "bbox": (0.0, 0.0, 9.0, 9.0)}]
    labels = make_frames([[row] for row in rows], scores=False)
    problem = MatchingProblem(labels, make_frames(many_cars(51), scores=True))
    report = report_kitti(problem, {"Car": (0.7,)})
    assert report.evaluation.num_labels["Car", "hard"] == 20
    assert report.left_out["Car"]["labels"]["without_2d_box"] == dict.fromkeys(_LEVELS, 30)
    assert any("Car: 30 of 50 labels have no 2D box" in note for note in report.evaluation.notes)
    # A DontCare region alone shows no object in the image.
    labels = make_frames([[row] for row in rows[20:]], scores=False)
    assert not MatchingProblem(labels, make_frames(many_cars(31), scores=True)).uses_image


def test_every_label_counts_or_is_left_out_for_one_reason(rng: np.random.Generator) -> None:
    labels, detections = random_scene(rng, 30)
    problem = MatchingProblem(labels, detections)
    names = ("Car", "Pedestrian")
    left_out = count_left_out(problem, names)
    num_labels = evaluate_kitti(labels, detections).num_labels
    seen = set()
    for name in names:
        for level in _LEVELS:
            nums = {reason: n[level] for reason, n in left_out[name]["labels"].items()}
            total = sum(nums.values()) + num_labels[name, level]
            assert total == (labels.objects.names == name).sum()
            seen |= {reason for reason, num in nums.items() if num}
        height = np.abs(np.diff(detections.objects.bbox[:, 1::2], axis=1))[:, 0]
        low = (height < 40) & (detections.objects.names == name)
        assert left_out[name]["detections"]["low_2d_box"]["easy"] == low.sum() > 0
        others = left_out[name]["other_classes"]["labels"]
        assert others["Van"] == (labels.objects.names == "Van").sum() > 0
        assert not {"DontCare", *names} & set(others)
    assert seen == {"low_2d_box", "occluded", "truncated"}


def test_tables_say_what_is_left_out_and_show_no_column_of_the_image() -> None:
    labels = _without_2d(make_frames([[{}, {"name": "Tram"}], [{"occluded": 2}]], scores=False))
    problem = MatchingProblem(
        labels,
        make_frames([[{}], [{"name": "Bus"}]], scores=True),
        dropped={"outside_limits": {"Car": 7, "Bus": 2, "dontcare": 1}},
    )
    report = report_kitti(problem, {"Car": (0.7,)}, num_frames_left_out=5)
    text = " ".join(render(*report_tables(report)).split())
    for part in (
        "labels too occluded 1/1/0",
        "detections outside pcd_limit_range 7",
        "labels of classes that are not evaluated: 1 Tram.",
        "detections of classes that are not evaluated: 3 Bus.",
        "labeled frames without predictions: 5.",
    ):
        assert part in text
    assert "AOS" not in text.replace("bbox and AOS are not", "")
    assert "2D box" not in text.replace("no label has a 2D box", "")


def test_sets_without_2d_boxes_are_compared_in_bev_and_3d() -> None:
    labels = _without_2d(make_frames(many_cars(50), scores=False))
    problem = MatchingProblem(labels, make_frames(many_cars(50), scores=True))
    tree = compare_kitti(problem, problem, {"Car": (0.7,)}, num_replicates=5).as_dict()
    assert {"bev", "3d"} < set(tree["Car"])
    assert "bbox" not in tree["Car"]
    assert tree["Car"]["3d"]["0.70"]["hard"]["first"] == pytest.approx(100)


def test_the_reason_why_no_label_counts_is_said() -> None:
    rows = [[{"pixels": 20.0}], [{"occluded": 3}], [{"occluded": 3}]]
    frames = make_frames(rows, scores=False), make_frames(many_cars(3), scores=True)
    notes = evaluate_kitti(*frames, classes=["Car"]).notes
    assert "Car, hard: no label counts (3 labels: 1 too low" in notes[2]
    assert "2 too occluded)" in notes[2]
