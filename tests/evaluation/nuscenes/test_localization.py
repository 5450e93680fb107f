"""What NDS does not see, and its comparison between two result sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ebm3d.boxes.iou import iou_3d
from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.evaluation.nuscenes import (
    PROTOCOL,
    GroundTruth,
    NuScenesBoxes,
    evaluate_nuscenes,
    read_ground_truth,
    read_results,
)
from ebm3d.evaluation.nuscenes.comparison import compare_nuscenes
from ebm3d.evaluation.nuscenes.evaluation import weighted_figures
from ebm3d.evaluation.nuscenes.localization import match_by_iou
from ebm3d.evaluation.nuscenes.matching import match_boxes
from ebm3d.evaluation.nuscenes.protocol import IOU_THRESHOLDS
from tests.evaluation.nuscenes.drives import random_results, write_drives


@pytest.fixture
def truth(tmp_path: Path, rng: np.random.Generator) -> GroundTruth:
    """Ground truth of two scenes."""
    write_drives(tmp_path / "drives", rng, num_labels=60)
    return read_ground_truth(tmp_path / "drives")


@pytest.fixture
def detections(truth: GroundTruth, tmp_path: Path, rng: np.random.Generator) -> NuScenesBoxes:
    """Random detections of it."""
    (tmp_path / "r.json").write_text(json.dumps(random_results(tmp_path / "drives", rng)))
    return read_results(tmp_path / "r.json").boxes_of(truth)[0]


def as_detections(truth: GroundTruth, **changes: np.ndarray) -> NuScenesBoxes:
    """The labels as detections."""
    scores = np.linspace(0.1, 1, len(truth.labels))
    return NuScenesBoxes(**{**vars(truth.labels), "score": scores, **changes})


def test_labels_as_detections_are_perfect(truth: GroundTruth) -> None:
    report = evaluate_nuscenes(truth, as_detections(truth))
    tree = report.as_dict()
    present = {CLASSES[i] for i in report.matching.labels.class_index}
    for name in present:
        assert [*tree["label_aps"][name].values()] == pytest.approx([1.0] * 4)
        figures = report.localization["classes"][name]
        assert figures["num_matched"] == figures["num_labels"]
        assert figures["mean_iou_3d"] == pytest.approx(1.0)
        assert report.localization["iou_aps"][name]["strict"] == pytest.approx(1.0)
    errors = {k: v for k, v in tree["tp_errors"].items() if k != "attr_err"}
    assert len(present) == len(CLASSES)
    assert max(errors.values()) < 1e-9


def test_a_heading_turned_by_pi_is_an_error_of_pi_and_of_none_modulo_pi(
    truth: GroundTruth,
) -> None:
    report = evaluate_nuscenes(truth, as_detections(truth, yaw=truth.labels.yaw + np.pi))
    errors = report.localization["classes"]["car"]["errors"]
    assert errors["yaw"]["mean_abs"] == pytest.approx(np.pi)
    assert errors["yaw_mod_pi"]["mean_abs"] == pytest.approx(0, abs=1e-9)
    own = report.as_dict()["label_tp_errors"]["barrier"]
    assert own["orient_err"] == pytest.approx(0, abs=1e-9)


def test_velocities_are_measured_along_and_across(truth: GroundTruth) -> None:
    yaw = truth.labels.yaw
    shift = np.column_stack([2 * np.cos(yaw) - np.sin(yaw), 2 * np.sin(yaw) + np.cos(yaw)])
    report = evaluate_nuscenes(truth, as_detections(truth, velocity=truth.labels.velocity + shift))
    errors = report.localization["classes"]["car"]["errors"]
    assert errors["velocity_along"]["mean"] == pytest.approx(2)
    assert errors["velocity_across"]["mean"] == pytest.approx(1)
    assert errors["velocity"]["quantiles"]["0.50"] == pytest.approx(np.sqrt(5))


def test_matching_by_iou_is_that_of_two_loops(
    truth: GroundTruth, detections: NuScenesBoxes
) -> None:
    matching = match_boxes(truth, detections, PROTOCOL)
    labels, found = matching.labels, matching.detections
    ious = iou_3d(labels.upright_boxes, found.upright_boxes)
    for level, partner in enumerate(match_by_iou(matching)):
        free = np.ones(len(labels), dtype=bool)
        for j in range(len(found)):
            same = (labels.sample == found.sample[j]) & (labels.class_index == found.class_index[j])
            overlaps = np.where(same & free, ious[:, j], 0.0)
            best = int(overlaps.argmax())
            expected = -1
            if overlaps[best] > IOU_THRESHOLDS[CLASSES[found.class_index[j]]][level]:
                expected = best
                free[best] = False
            assert partner[j] == expected
        assert (partner >= 0).any()


def test_weights_of_one_scene_give_the_figures_of_that_scene(
    truth: GroundTruth, detections: NuScenesBoxes
) -> None:
    weights = np.array([[0, 1], [0, 3]], dtype=np.int32)
    figures = weighted_figures(match_boxes(truth, detections, PROTOCOL), weights[:1])
    inside = [boxes.select(truth.scene[boxes.sample] == 1) for boxes in (truth.labels, detections)]
    alone = GroundTruth(**{**vars(truth), "labels": inside[0]})
    expected = evaluate_nuscenes(alone, inside[1]).figures
    np.testing.assert_allclose(figures.aps, expected.aps, atol=1e-12)
    np.testing.assert_allclose(figures.errors, expected.errors, atol=1e-12)


def test_boxes_moved_towards_the_labels_improve(truth: GroundTruth) -> None:
    places = [truth.labels.translation + [shift, 0.0, 0.0] for shift in (0.6, 0.1)]
    before, after = (evaluate_nuscenes(truth, as_detections(truth, translation=p)) for p in places)
    tree = compare_nuscenes(before, after, num_replicates=50)
    assert tree["means"]["mean_ap_0.5"]["low"] > 0.5
    assert tree["means"]["mean_ap_4.0"]["difference"] == pytest.approx(
        0, abs=0.05
    )  # some leave the range
    assert tree["means"]["trans_err"]["difference"] == pytest.approx(-0.5, abs=0.05)
    assert tree["same_pairs"]["all"]["iou_3d"]["low"] > 0
    assert tree["same_pairs"]["all"]["vertical"]["difference"] == pytest.approx(0)
    json.dumps(tree, allow_nan=False)


def test_a_set_compared_with_itself_does_not_differ(
    truth: GroundTruth, detections: NuScenesBoxes
) -> None:
    report = evaluate_nuscenes(truth, detections)
    tree = compare_nuscenes(report, report, num_replicates=20)
    changes = [part["difference"] for part in tree["means"].values()]
    assert changes == [0.0] * len(changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": -1.0}, "score must be finite"),
        ({"translation": np.nan}, "translation must be finite"),
        ({"sample": 99}, "sample must be from 0"),
    ],
)
def test_detections_in_memory_are_checked(
    truth: GroundTruth, changes: dict[str, float], message: str
) -> None:
    boxes = as_detections(truth)
    for name, value in changes.items():
        getattr(boxes, name)[3] = value
    with pytest.raises(ValueError, match=message):
        evaluate_nuscenes(truth, boxes)
