"""What must not change the figures, and the legal extremes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ebm3d.datasets.kitti_frames import KittiFrames, stack_frames
from ebm3d.evaluation import evaluate_kitti, resolve_iou_thresholds
from tests.evaluation.scenes import make_frames, many_cars, random_scene


def _with_scores(frames: KittiFrames, scores: np.ndarray) -> KittiFrames:
    return replace(frames, objects=replace(frames.objects, score=scores))


def _disjoint_scene(rng: np.random.Generator) -> tuple[KittiFrames, KittiFrames]:
    """Cars apart from each other, each detected up to three times, and false positives."""
    labels, detections = [], []
    for _ in range(60):
        cars = [{"x": 8.0 * k, "z": rng.uniform(8, 50)} for k in range(rng.integers(0, 5))]
        detections.append(
            [
                {"x": car["x"] + rng.normal() * 0.3, "z": car["z"] + rng.normal() * 0.1}
                for car in cars
                for _ in range(rng.integers(0, 4))
            ]
        )
        detections[-1] += [{"x": 100.0 + 8 * k} for k in range(rng.integers(0, 3))]
        labels.append(cars)
    scored = make_frames(detections, scores=True)
    num = len(scored.objects)  # scores that all differ: order decides between equal ones
    scored = _with_scores(scored, (rng.permutation(num) + 1.0) / num)
    return make_frames(labels, scores=False), scored


def test_the_order_of_frames_does_not_matter(rng: np.random.Generator) -> None:
    labels, detections = random_scene(rng, 40)
    order = [labels.frame_ids[i] for i in rng.permutation(40)]
    before = evaluate_kitti(labels, detections).as_dict()
    after = evaluate_kitti(labels.select(order), detections.select(order)).as_dict()
    assert before["Car"]["3d"] == after["Car"]["3d"]
    assert before["Car"]["bbox"] == after["Car"]["bbox"]


def test_the_order_of_boxes_does_not_matter_where_labels_are_disjoint(
    rng: np.random.Generator,
) -> None:
    labels, detections = _disjoint_scene(rng)

    def shuffled(frames: KittiFrames, scores: bool) -> KittiFrames:
        parts = {}
        for index, frame_id in enumerate(frames.frame_ids):
            objects = frames.frame(index)
            parts[frame_id] = objects.select(rng.permutation(len(objects)))
        return stack_frames(parts, scores=scores)

    before = evaluate_kitti(labels, detections, classes=["Car"]).as_dict()["Car"]
    after = evaluate_kitti(
        shuffled(labels, False), shuffled(detections, True), classes=["Car"]
    ).as_dict()["Car"]
    for metric in ("bev", "3d"):
        assert before[metric] == after[metric]
    assert 0 < before["3d"]["0.70"]["easy"]["ap_r40"] < 100


def test_a_monotone_change_of_scores_does_not_matter(rng: np.random.Generator) -> None:
    labels, detections = _disjoint_scene(rng)
    changed = _with_scores(detections, np.log(detections.objects.score) * 3 - 40)
    before = evaluate_kitti(labels, detections, classes=["Car"]).as_dict()
    assert evaluate_kitti(labels, changed, classes=["Car"]).as_dict() == before


def test_arguments_are_not_changed(rng: np.random.Generator) -> None:
    labels, detections = random_scene(rng, 10)
    before = {name: np.copy(value) for name, value in vars(detections.objects).items()}
    evaluate_kitti(labels, detections)
    for name, value in vars(detections.objects).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("labels", "detections", "note"),
    [
        (many_cars(50), [[]] * 50, "Car: nothing is detected"),
        ([[]] * 5, many_cars(5), "no label counts"),
        (many_cars(7), [[]] * 7, "only 7 labels count"),
        (many_cars(1), [[{"hwl": (-1.0, -1.0, -1.0)}]], "no detection gives a 3D box"),
        (many_cars(1), [[{"pixels": 0.0}]], "1 of 1 detections have a 2D box without height"),
        (many_cars(1), [[{"alpha": -10.0}]], "AOS is not evaluated"),
        ([], [], "no label counts"),
    ],
)
def test_extremes_score_zero_and_say_so(labels: list, detections: list, note: str) -> None:
    frames = make_frames(labels, scores=False), make_frames(detections, scores=True)
    evaluation = evaluate_kitti(*frames, classes=["Car"])
    assert evaluation.average_precision("Car", "3d", 0.7, "hard") == 0.0
    assert any(note in text for text in evaluation.notes)


def test_detections_of_other_frames_without_or_with_unknown_scores_are_refused() -> None:
    labels = make_frames(many_cars(3), scores=False)
    with pytest.raises(ValueError, match="2 frames for 3 labeled ones, in one set only: '000002'"):
        evaluate_kitti(labels, make_frames(many_cars(2), scores=True))
    with pytest.raises(ValueError, match="detections must be scored"):
        evaluate_kitti(labels, labels)
    with pytest.raises(ValueError, match=r"score of detections must be finite.*'000000'"):
        evaluate_kitti(labels, make_frames(many_cars(3, score=np.nan), scores=True))


def test_thresholds_are_for_all_classes_or_by_class() -> None:
    classes = ["car", "CYCLIST"]
    by_class = {"car": [0.7], "cyclist": [0.5, 0.3, 0.5]}
    expected = {"Car": (0.7,), "Cyclist": (0.3, 0.5)}
    assert resolve_iou_thresholds(classes, by_class) == expected
    assert resolve_iou_thresholds(classes, [0.4]) == {"Car": (0.4,), "Cyclist": (0.4,)}
    assert resolve_iou_thresholds(classes, None)["Car"][-1] == 0.9
    for refused in (["Bus"], None), ([], None):
        with pytest.raises(ValueError, match="classes"):
            resolve_iou_thresholds(*refused)
    for thresholds in ([], [0.5, 1.0], {"Cyclist": [0.5]}):
        with pytest.raises(ValueError, match="iou thresholds"):
            resolve_iou_thresholds(["Car"], thresholds)
