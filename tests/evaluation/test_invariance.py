"""What must not change the figures, and the legal extremes."""

from __future__ import annotations

import numpy as np
import pytest

from ebm3d.datasets.kitti_frames import KittiFrames, stack_frames
from ebm3d.evaluation import evaluate_kitti
from tests.evaluation.scenes import make_frames, many_cars, random_scene


def _distinct(frames: KittiFrames, rng: np.random.Generator) -> KittiFrames:
    """The same detections with scores that all differ: order decides between equal ones."""
    objects = frames.objects
    scores = (rng.permutation(len(objects)) + 1.0) / len(objects)
    values = {name: getattr(objects, name) for name in vars(objects)} | {"score": scores}
    return KittiFrames(frames.frame_ids, frames.starts, type(objects)(**values))


def _disjoint_scene(rng: np.random.Generator) -> tuple[KittiFrames, KittiFrames]:
    """Cars that do not overlap each other, each found up to three times, and false positives."""
    labels, detections = [], []
    for _ in range(60):
        cars = [{"x": 8.0 * k, "z": rng.uniform(8, 50)} for k in range(rng.integers(0, 5))]
        found = [
            {"x": car["x"] + rng.normal() * 0.3, "z": car["z"] + rng.normal() * 0.1}
            for car in cars
            for _ in range(rng.integers(0, 4))
        ]
        found += [{"x": 100.0 + 8 * k} for k in range(rng.integers(0, 3))]
        labels.append(cars)
        detections.append(found)
    scored = _distinct(make_frames(detections, scores=True), rng)
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
    objects = detections.objects
    values = {name: getattr(objects, name) for name in vars(objects)}
    values["score"] = np.log(objects.score) * 3 - 40
    changed = KittiFrames(detections.frame_ids, detections.starts, type(objects)(**values))
    before = evaluate_kitti(labels, detections, classes=["Car"]).as_dict()
    assert evaluate_kitti(labels, changed, classes=["Car"]).as_dict() == before


def test_thresholds_evaluated_together_score_as_alone(rng: np.random.Generator) -> None:
    labels, detections = random_scene(rng, 40)
    together = evaluate_kitti(labels, detections, iou_thresholds=[0.3, 0.5, 0.7]).as_dict()
    for threshold in (0.3, 0.5, 0.7):
        alone = evaluate_kitti(labels, detections, iou_thresholds=[threshold]).as_dict()
        for metric in ("bbox", "bev", "3d", "aos"):
            key = f"{threshold:.2f}"
            assert alone["Car"][metric][key] == together["Car"][metric][key]


def test_arguments_are_not_changed(rng: np.random.Generator) -> None:
    labels, detections = random_scene(rng, 10)
    before = {name: np.copy(value) for name, value in vars(detections.objects).items()}
    evaluate_kitti(labels, detections)
    for name, value in vars(detections.objects).items():
        np.testing.assert_array_equal(value, before[name])


def test_no_detections_score_zero_and_say_so() -> None:
    found = evaluate_kitti(
        make_frames(many_cars(50), scores=False),
        make_frames([[] for _ in range(50)], scores=True),
        classes=["Car"],
    )
    assert found.average_precision("Car", "3d", 0.7, "easy") == 0.0
    assert "Car: nothing is detected, so AP is 0." in found.notes


def test_no_labels_score_zero_and_say_so() -> None:
    found = evaluate_kitti(
        make_frames([[] for _ in range(5)], scores=False),
        make_frames(many_cars(5), scores=True),
        classes=["Car"],
    )
    assert found.average_precision("Car", "3d", 0.7, "hard") == 0.0
    assert any("no label counts" in note for note in found.notes)


def test_no_frames_are_legal() -> None:
    nothing = make_frames([], scores=False), make_frames([], scores=True)
    assert evaluate_kitti(*nothing).average_precision("Car", "3d", 0.7, "hard") == 0.0


def test_fewer_than_41_labels_are_pointed_out() -> None:
    cars = many_cars(7)
    found = evaluate_kitti(
        make_frames(cars, scores=False), make_frames(cars, scores=True), classes=["Car"]
    )
    assert any("only 7 labels count" in note for note in found.notes)


def test_detections_of_other_frames_are_refused() -> None:
    labels = make_frames(many_cars(3), scores=False)
    detections = make_frames(many_cars(2), scores=True)
    with pytest.raises(ValueError, match="2 frames for 3 labeled ones, in one set only: '000002'"):
        evaluate_kitti(labels, detections)


def test_detections_without_scores_are_refused() -> None:
    labels = make_frames(many_cars(2), scores=False)
    with pytest.raises(ValueError, match="detections must be scored"):
        evaluate_kitti(labels, labels)


@pytest.mark.parametrize(
    ("classes", "thresholds", "message"),
    [
        (["Bus"], None, "classes must be among Car, Pedestrian, Cyclist, but got 'Bus'"),
        ([], None, "classes must be one or more"),
        (["Car"], [], "iou thresholds must be one or more values between 0 and 1"),
        (["Car"], [0.5, 1.0], "iou thresholds must be one or more values between 0 and 1"),
        (["Car"], {"Cyclist": [0.5]}, "iou thresholds must be given for Car"),
    ],
)
def test_unknown_classes_and_thresholds_are_refused(
    classes: list[str], thresholds: object, message: str
) -> None:
    frames = make_frames(many_cars(2), scores=False), make_frames(many_cars(2), scores=True)
    with pytest.raises(ValueError, match=message):
        evaluate_kitti(*frames, classes=classes, iou_thresholds=thresholds)  # type: ignore[arg-type]


def test_thresholds_can_be_given_by_class() -> None:
    frames = make_frames(many_cars(2), scores=False), make_frames(many_cars(2), scores=True)
    found = evaluate_kitti(
        *frames, classes=["Car", "Cyclist"], iou_thresholds={"car": [0.7], "cyclist": [0.5, 0.3]}
    ).as_dict()
    assert list(found["Car"]["3d"]) == ["0.70"]
    assert list(found["Cyclist"]["3d"]) == ["0.30", "0.50"]
