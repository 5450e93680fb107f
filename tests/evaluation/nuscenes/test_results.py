"""Result files of any writer are read, and refused as the development kit refuses them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.datasets.problems import DataError
from ebm3d.evaluation.nuscenes import json_pieces, read_results
from ebm3d.evaluation.nuscenes.boxes import GroundTruth, no_boxes

BOX: dict[str, Any] = {
    "sample_token": "a",
    "translation": [1.0, 2.0, 3.0],
    "size": [2, 4.5, 1.5],
    "rotation": [math.cos(0.25), 0.0, 0.0, math.sin(0.25)],
    "velocity": [math.nan, 0.5],
    "detection_name": "bus",
    "detection_score": 0.5,
    "attribute_name": "",
}


def write(path: Path, results: Any, **others: Any) -> Path:
    """Write a result file with ``meta``."""
    path.write_text(json.dumps({"meta": {"use_lidar": True}, **others, "results": results}))
    return path


def test_values_are_read_as_written(tmp_path: Path) -> None:
    boxes = read_results(write(tmp_path / "r.json", {"a": [BOX], "b": []})).boxes
    assert (len(boxes), CLASSES[boxes.class_index[0]], boxes.attribute[0]) == (1, "bus", -1)
    np.testing.assert_array_equal(boxes.translation[0], BOX["translation"])
    np.testing.assert_array_equal(boxes.velocity[0], BOX["velocity"])
    np.testing.assert_allclose(boxes.yaw, 0.5)


@pytest.mark.parametrize("block", [1, 7, 1 << 24])
def test_any_json_of_the_same_content_reads_alike(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_pieces, "_BLOCK", block)
    monkeypatch.setattr(json_pieces, "_PIECE", 1)
    b = json.dumps({**BOX, "sample_token": 'b"]}\\é', "own": {"x": [[1], {"y": "]}"}]}})
    a = json.dumps(dict(reversed(BOX.items())), indent=3)
    key = '"b\\"]}\\\\\\u00e9"'
    text = (
        f'\ufeff \n{{"own": [1, {{"results": "}}"}}], "\\u0072esults"\t: {{ "a" :\n[{a},{a}] , '
        f'{key}: [{b}],"c":[ ]}} , "meta":{{}}}}\r\n'
    )
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    results = read_results(path)
    assert results.tokens == ("a", 'b"]}\\é', "c")
    assert results.boxes.sample.tolist() == [0, 0, 1]


def test_no_sample_and_no_box_are_read(tmp_path: Path) -> None:
    assert read_results(write(tmp_path / "r.json", {})).tokens == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"translation": [1.0, math.nan, 3.0]}, "translation: finite numbers"),
        ({"translation": [1.0, 2.0]}, "translation: a list of 3"),
        ({"translation": ["1", 2.0, 3.0]}, "translation: a list of 3"),
        ({"translation": [1e300, 0.0, 0.0]}, "translation: numbers below 1e.09"),
        ({"size": [1.0, 0.0, 1.0]}, "size: positive"),
        ({"size": None}, "size: a list"),
        ({"rotation": [0.0, 0.0, 0.0, 0.0]}, "rotation: a quaternion"),
        ({"velocity": [math.inf, 0.0]}, "velocity: finite"),
        ({"detection_name": "van"}, "detection_name: one of 'car'"),
        ({"attribute_name": "moving"}, "attribute_name: one of"),
        ({"attribute_name": ["x"]}, "attribute_name: one of"),
        ({"detection_score": "0.5"}, "detection_score: a finite number"),
        ({"detection_score": math.nan}, "detection_score: a finite number"),
        ({"detection_score": -0.1}, "detection_score: a finite number"),
        ({"sample_token": "b"}, "sample_token of the list"),
        ({"translation": [10**400, 0, 0]}, "translation: finite numbers"),
        ({"detection_score": 10**400}, "detection_score: a finite number"),
        ({"num_pts": math.nan}, "num_pts: a whole number"),
        ({"num_pts": 10**400}, "num_pts: a whole number"),
    ],
)
def test_a_box_that_is_refused_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "r.json", {"a": [BOX, BOX | change]})
    with pytest.raises(DataError, match=f"{message}.*box 1 of sample a"):
        read_results(path)


@pytest.mark.parametrize("key", BOX)
def test_a_key_that_is_missing_is_named(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "r.json", {"a": [{k: v for k, v in BOX.items() if k != key}]})
    with pytest.raises(DataError, match=f"expected {key} of each box"):
        read_results(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"results": {}}', "an object meta"),
        ('{"meta": {}}', "no results, only meta"),
        ('{"meta": {}, "results": []}', "results that are no object"),
        ('{"meta": {}, "results": {"a": [], "a": []}}', "1 sample tokens twice, the first a"),
        ('{"meta": {}, "results": {"a": []}, "results": {}}', "results twice"),
        ('{"meta": {}, "results": {"a": [}}', "JSON"),
        ('{"meta": {}, "results": {"a": [], }}', "no JSON"),
        ('{"meta": {} "results": {"a": []}}', "JSON"),
        ('{"meta": {}, "results": {"a": []', "cut off"),
        ('{"meta": {}, "results": {"a": []}} x', "something else"),
        ('{"meta": {}, "results": {"a": []}}' + 99 * " " + "x", "something else"),
        ("\x1f{", "something else"),
        ('{"meta": {}, "results": {"a": {}}}', "dict in place of the list of boxes of sample a"),
        ('{"meta": {}, "results": {"a": [1]}}', "an object for each box"),
        ("[]", "something else"),
        ("", "no JSON object"),
    ],
)
def test_a_file_that_is_refused_is_described(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_results(path)


def test_more_than_500_boxes_are_refused(tmp_path: Path) -> None:
    read_results(write(tmp_path / "r.json", {"a": [BOX] * 500}))
    with pytest.raises(DataError, match="501 in sample a"):
        read_results(write(tmp_path / "r.json", {"a": [BOX] * 501}))


def test_samples_of_another_split_are_counted_and_named(tmp_path: Path) -> None:
    results = read_results(write(tmp_path / "r.json", {"a": [BOX], "c": []}))
    tokens = {"tokens": ("a", "b"), "scene": np.zeros(2, np.int64)}
    truth = GroundTruth(ego_translation=np.zeros((2, 3)), labels=no_boxes(), **tokens)
    with pytest.raises(DataError, match=r"1 samples without results, the first b; 1 .* first c"):
        results.boxes_of(truth)


def test_a_split_of_the_user_leaves_other_samples_out(tmp_path: Path) -> None:
    results = read_results(write(tmp_path / "r.json", {"a": [BOX], "c": []}))
    tokens = {"tokens": ("a",), "scene": np.zeros(1, np.int64), "follows_samples": True}
    truth = GroundTruth(ego_translation=np.zeros((1, 3)), labels=no_boxes(), **tokens)
    boxes, num_left_out = results.boxes_of(truth)
    assert (len(boxes), num_left_out) == (1, 1)
