"""Errors of matched pairs, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ebm3d.evaluation import MatchingProblem, report_kitti
from ebm3d.evaluation.kitti_protocol import DIFFICULTIES
from ebm3d.evaluation.localization import (
    ERRORS,
    find_pairs,
    measure_pairs,
    summarize,
    summarize_bands,
)
from ebm3d.evaluation.overlaps import upright_boxes
from tests.evaluation.scenes import make_frames, make_objects


def _problem(labels: list, detections: list) -> MatchingProblem:
    return MatchingProblem(make_frames(labels, scores=False), make_frames(detections, scores=True))


def _pairs(labels: list, detections: list):
    return find_pairs(_problem(labels, detections), "Car", DIFFICULTIES[0])


def test_upright_boxes_rename_the_axes_of_the_camera() -> None:
    objects = make_objects([{"x": 3.0, "y": 1.7, "z": 20.0, "yaw": -0.4}], scores=False)
    expected = [[20.0, -3.0, -1.7, 4.0, 1.6, 1.5, 0.4 - math.pi / 2]]
    np.testing.assert_allclose(upright_boxes(objects), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("yaw", [0.0, 1.1, -2.5])
@pytest.mark.parametrize(
    ("turn", "full", "half"),
    [(0.07, 0.07, 0.07), (math.pi + 0.1, 0.1 - math.pi, 0.1), (2 * math.pi - 0.1, -0.1, -0.1)],
)
def test_errors_are_along_and_across_the_heading_of_the_label(
    yaw: float, turn: float, full: float, half: float
) -> None:
    label = np.array([[10.0, 5.0, -1.7, 4.0, 1.6, 1.5, yaw]])
    predicted = label.copy()
    predicted[0, 0] += 0.3 * math.cos(yaw) - 0.2 * math.sin(yaw)
    predicted[0, 1] += 0.3 * math.sin(yaw) + 0.2 * math.cos(yaw)
    predicted[0, 2:] += [0.1, 0.4, -0.05, 0.06, turn]
    errors = measure_pairs(label, predicted, np.array([0]), np.array([0])).errors[0]
    expected = [0.3, 0.2, 0.1, 0.4, -0.05, 0.06, full, half]
    np.testing.assert_allclose(errors, expected, rtol=0, atol=1e-12)


def test_a_height_error_does_not_hide_the_pair() -> None:
    pairs = _pairs([[{"y": 1.7}]], [[{"y": 0.5}]])
    assert pairs.errors[0, ERRORS.index("vertical")] == pytest.approx(1.2)
    assert pairs.iou_bev[0] == pytest.approx(1.0)
    assert pairs.iou_3d[0] == pytest.approx(0.3 / 2.7)


@pytest.mark.parametrize(
    ("labels", "detections", "expected"),
    [
        ([{}], [{"x": 0.05, "score": 0.4}, {"x": 0.3, "score": 0.9}], [(0, 1)]),
        ([{"z": 10.0}, {"z": 11.0}], [{"z": 10.8}], [(1, 0)]),
        ([{}], [{"x": 1.3}], [(0, 0)]),
        ([{}], [{"x": 1.4}], []),
        ([{"occluded": 2, "x": 0.1}, {"x": 1.0}], [{"x": 0.1}], []),
    ],
    ids=["best score first", "largest overlap", "half", "less than half", "beyond the difficulty"],
)
def test_detections_choose_labels(labels: list, detections: list, expected: list) -> None:
    pairs = _pairs([labels], [detections])
    assert list(zip(pairs.labels, pairs.detections, strict=True)) == expected


def test_summary_holds_bias_mean_and_quantiles() -> None:
    labels = np.tile([10.0, 5.0, 0.0, 4.0, 2.0, 1.5, 0.0], (5, 1))
    predicted = labels.copy()
    predicted[:, 0] += [-0.4, -0.1, 0.0, 0.2, 0.5]
    pairs = measure_pairs(labels, predicted, np.arange(5), np.arange(5))
    summary = summarize(pairs, 8)
    along = summary["errors"]["along"]
    assert (summary["num_matched"], summary["num_labels"]) == (5, 8)
    assert along["mean"] == pytest.approx(0.04)
    assert along["mean_abs"] == pytest.approx(0.24)
    assert along["quantiles"]["0.50"] == pytest.approx(0.2)
    assert along["quantiles"]["0.75"] == pytest.approx(0.4)
    expected = np.mean([(4 - s) / (4 + s) for s in (0.4, 0.1, 0.0, 0.2, 0.5)])
    assert summary["mean_iou_3d"] == pytest.approx(expected)


def test_bands_hold_their_lower_border() -> None:
    labels = np.tile([10.0, 5.0, -1.7, 4.0, 2.0, 1.5, 3.0], (4, 1))
    pairs = measure_pairs(labels, labels, np.arange(4), np.arange(4))
    values, status = np.array([0.0, 20.0, 39.9, 40.0]), np.zeros(4, dtype=np.int8)
    parts = summarize_bands(pairs, values, status, [0.0, 20.0, 40.0, np.inf])
    assert {k: v["num_matched"] for k, v in parts.items()} == {"0-20": 1, "20-40": 2, "40-": 1}
    (nothing,) = summarize_bands(pairs, values, status, [50.0, 60.0]).values()
    assert nothing["mean_iou_3d"] is nothing["errors"]["yaw"]["quantiles"]["0.90"] is None
    for borders in ([0.0, 20.0, 20.0], [1.0]):
        with pytest.raises(ValueError, match="borders of bands"):
            summarize_bands(pairs, values, status, borders)


def _report(labels: list, detections: list, **options):
    return report_kitti(_problem(labels, detections), {"Car": (0.5,)}, **options)


def test_ap_of_a_band_ignores_what_lies_outside() -> None:
    near = [[{"z": 10.0}] for _ in range(50)]
    near_found = [[{"z": 10.0, "score": 0.9 - i / 100}] for i in range(50)]
    far, far_false = {"z": 50.0}, {"z": 60.0, "score": 0.99}
    report = _report([*near, [far]], [*near_found, [far_false]])
    band = report.by_distance["0-20"]
    assert band.average_precision("Car", "3d", 0.5, "easy") == pytest.approx(100.0)
    assert band.num_labels["Car", "easy"] == 50
    whole = report.evaluation.average_precision("Car", "3d", 0.5, "easy")
    assert whole < 99.0


def test_a_detection_across_the_border_of_a_band_finds_its_label() -> None:
    labels = [[{"z": 19.9}] for _ in range(50)]
    found = [[{"z": 20.1, "score": 0.9 - i / 100}] for i in range(50)]
    report = _report(labels, found)
    near = report.by_distance["0-20"].average_precision("Car", "3d", 0.5, "easy")
    assert near == pytest.approx(100.0)
    assert report.by_distance["20-40"].num_labels["Car", "easy"] == 0
    figures = report.by_distance["20-40"].as_dict()["Car"]["3d"]["0.50"]["easy"]
    assert figures == {"ap_r40": None, "ap_r11": None}  # nothing to find is no failure to find


def test_localization_is_split_by_occlusion_and_points() -> None:
    labels = [[{"occluded": level}] for level in (0, 0, 1, 2, 3)]
    num_points = np.array([5, 20, 100, 500, 7])
    report = _report(labels, [[{"score": 0.5}] for _ in labels], num_points=num_points)
    matched = {
        kind: [part["num_matched"] for part in report.localization["Car"][kind].values()]
        for kind in ("by_occlusion", "by_points")
    }
    assert matched == {"by_occlusion": [2, 1, 1], "by_points": [1, 1, 1, 1]}
    with pytest.raises(ValueError, match="num_points"):
        _report([[{}]], [[{}]], num_points=num_points)
