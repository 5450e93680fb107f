from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebm3d.datasets import DataError
from ebm3d.datasets.nuscenes import NuScenesTables, read_tables, records
from ebm3d.datasets.nuscenes.velocities import velocities
from tests.datasets.nuscenes_world import NUM_SAMPLES, Tables, write_tables, write_world

VERSION = "v1.0-mini"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_world(tmp_path)
    return tmp_path


def _assert_equal_to_devkit(tables: NuScenesTables) -> None:
    devkit = pytest.importorskip("nuscenes").NuScenes(VERSION, str(tables.root), verbose=False)
    labels = tables.annotations
    tokens = [token for sample in devkit.sample for token in sample["anns"]]
    expected = np.array([devkit.box_velocity(token) for token in tokens])
    np.testing.assert_allclose(labels.velocities, expected, rtol=0, atol=1e-12)
    records = [devkit.get("sample_annotation", token) for token in tokens]
    np.testing.assert_array_equal(labels.translations, [r["translation"] for r in records])
    np.testing.assert_array_equal(labels.sizes, [r["size"] for r in records])
    assert [tables.categories[c] for c in labels.categories] == [
        r["category_name"] for r in records
    ]
    assert [tables.instances[i] for i in labels.instances] == [r["instance_token"] for r in records]
    assert [tables.samples.tokens[i] for i in labels.samples] == [
        r["sample_token"] for r in records
    ]
    for i, sample in enumerate(devkit.sample):
        data = devkit.get("sample_data", sample["data"]["LIDAR_TOP"])
        row = tables.samples.sweeps[i]
        assert tables.sweeps.tokens[row] == data["token"]
        assert tables.sweeps.filenames[row] == data["filename"]
        pose = devkit.get("ego_pose", data["ego_pose_token"])
        np.testing.assert_array_equal(tables.sweeps.ego_rotations[row], pose["rotation"])
        before = tables.sweeps.previous[row]
        assert (tables.sweeps.tokens[before] if before >= 0 else "") == data["prev"]


def test_real_tables_are_read_as_the_devkit_does(shared_data: Path) -> None:
    _assert_equal_to_devkit(read_tables(shared_data / "nuscenes_mini_val", VERSION))


def test_tables_are_read_as_the_devkit_does(root: Path) -> None:
    tables = read_tables(root, VERSION)
    path = root / VERSION / "map.json"
    path.write_text(json.dumps([{"token": "m", "filename": "m.png", "log_tokens": []}]))
    (root / "m.png").touch()
    for table in ("scene", "sample_annotation"):  # what the devkit reads beside
        content = json.loads((root / VERSION / f"{table}.json").read_text())
        content = [r | {"log_token": "", "visibility_token": ""} for r in content]
        (root / VERSION / f"{table}.json").write_text(json.dumps(content))
    for record in (content := json.loads((root / VERSION / "sample_data.json").read_text())):
        record["fileformat"] = "pcd"
    (root / VERSION / "sample_data.json").write_text(json.dumps(content))
    _assert_equal_to_devkit(tables)


def test_records_of_cameras_are_passed_over(root: Path) -> None:
    tables = read_tables(root, VERSION)
    assert not any("camera" in token for token in tables.sweeps.tokens)
    assert tables.sweeps.is_key_frame.sum() == len(tables.samples.tokens) == 2 * NUM_SAMPLES


def test_velocities_by_the_time_between_annotations() -> None:
    """One object each: at most 1.5 s to one side, 3 s to both, unknown alone."""
    times = np.array([0, 1.5, 0, 1.6, 0, 1.5, 3.0, 0, 1.5, 3.1, 0])
    first = np.array([-1, 0, -1, 2, -1, 4, 5, -1, 7, 8, -1])
    last = np.array([1, -1, 3, -1, 5, 6, -1, 8, 9, -1, -1])
    places = np.column_stack([2 * times, -times, 0 * times])
    known = np.array([1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0], dtype=bool)
    result = velocities(places, times, first, last)
    np.testing.assert_allclose(result[known], np.tile([2.0, -1.0, 0.0], (6, 1)), atol=1e-12)
    assert np.isnan(result[~known]).all()


def test_memory_holds_a_part_of_a_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_tables(root, VERSION).annotations
    monkeypatch.setattr(records, "_CHUNK", 700)  # characters, of records of about 500
    read = read_tables(root, VERSION).annotations
    np.testing.assert_array_equal(read.translations, expected.translations)


def test_all_missing_tables_are_named_at_once(root: Path) -> None:
    for table in ("sensor", "ego_pose", "log", "visibility", "map"):
        (root / VERSION / f"{table}.json").unlink()
    with pytest.raises(DataError) as info:
        read_tables(root, VERSION)
    assert [problem.file.name for problem in info.value.problems] == [
        "sensor.json",
        "ego_pose.json",
    ]


def test_a_test_version_needs_no_labels(tmp_path: Path) -> None:
    tables = write_world(tmp_path, "v1.0-test")
    for table in ("attribute", "category", "instance", "sample_annotation"):
        (tmp_path / "v1.0-test" / f"{table}.json").unlink()
        del tables[table]
    read = read_tables(tmp_path, "v1.0-test")
    assert len(read.annotations.samples) == 0
    (tmp_path / "v1.0-test" / "sample_annotation.json").write_text("[]")
    with pytest.raises(DataError, match=r"instance\.json.*the table instance"):
        read_tables(tmp_path, "v1.0-test")
    assert read.annotations.rows_of(2) == slice(0, 0)


def _set(table: str, field: str, value: Any, record: int = 1) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        tables[table][record][field] = value

    return change


def _take_out(table: str, field: str) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        del tables[table][1][field]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("sample_annotation", "rotation", [2.0, 0, 0, 0]), "unit quaternions"),
        (_set("sample_annotation", "rotation", [float("nan"), 0, 0, 1]), "unit quaternions"),
        (_set("sample_annotation", "size", [1.0, 0.0, 1.0]), "positive finite 'size'"),
        (_set("sample_annotation", "size", [1.0, float("nan"), 1.0]), "positive finite 'size'"),
        (_set("sample_annotation", "translation", [0, float("inf"), 0]), "finite .* 'translation'"),
        (_set("sample_annotation", "translation", [0, 0]), r"a field 'translation'.*record 1"),
        (_set("sample_annotation", "num_lidar_pts", -1), "no negative numbers"),
        (_set("sample_annotation", "sample_token", "x"), "a 'sample_token' that sample.json has"),
        (_set("sample_annotation", "instance_token", "x"), "a 'instance_token' that instance"),
        (_set("sample_annotation", "next", "x"), "'next' of the same table"),
        (_set("sample_annotation", "attribute_tokens", ["x"]), "at most one attribute"),
        (_set("sample_annotation", "attribute_tokens", ["parked"] * 2), "at most one attribute"),
        (_set("instance", "category_token", "x"), "a 'category_token' that category.json has"),
        (_set("sample", "scene_token", "x"), "a 'scene_token' that scene.json has"),
        (_set("sample", "token", "scene-0061 sample 0"), "every token once"),
        (_set("sample_annotation", "translation", [1e300, 0, 0]), "numbers below 1e.09"),
        (_set("sample_annotation", "size", [1.0, 1e300, 1.0]), "positive finite 'size'"),
        (lambda t: t["sample_annotation"].append(t["sample_annotation"][0]), "every token once"),
        (lambda t: t["sample_data"].append(t["sample_data"][0]), "every token once"),
        (lambda t: t["sample_data"][2].update(filename=t["sample_data"][0]["filename"]), "every f"),
        (_set("scene", "name", "scene-0061"), "every name once"),
        (_set("ego_pose", "rotation", [0.0, 0, 0, 0]), "unit quaternions"),
        (_set("sample_data", "calibrated_sensor_token", None), None),
        (_take_out("sample_annotation", "size"), "a field 'size' .* none in record 1"),
        (_take_out("sample_data", "calibrated_sensor_token"), "a field 'calibrated_sensor_token'"),
        (_set("sample_data", "is_key_frame", False, 0), "one key frame of LIDAR_TOP"),
        (lambda tables: tables["ego_pose"].pop(0), "a 'ego_pose_token' that ego_pose.json has"),
        (_set("sample", "timestamp", 0), "'prev' of an earlier"),
        (_set("sample_data", "timestamp", 2**60, 0), "'prev' of an earlier sweep"),
    ],
)
def test_defects_are_named(
    tmp_path: Path, change: Callable[[Tables], None], message: str | None
) -> None:
    tables = write_world(tmp_path)
    change(tables)
    write_tables(tmp_path / VERSION, tables)
    if message is None:  # of a camera: not read
        read_tables(tmp_path, VERSION)
        return
    with pytest.raises(DataError, match=message):
        read_tables(tmp_path, VERSION)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a list of records"),
        ("<html>", "a list of records"),
        ('[{"token": "a", "name": "b"}, {"token": "c", "na', "expected JSON.*record 1"),
        ('[{"token": "a", "name": "b"}', "expected JSON.*record 1"),
        ("[1]", "records with named fields"),
        ("[] []", "one list of records.*after it"),
        ("\x80[]", "JSON in UTF-8"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_damaged_files_are_named(root: Path, content: str, message: str) -> None:
    (root / VERSION / "scene.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=rf"scene\.json.*{message}"):
        read_tables(root, VERSION)
