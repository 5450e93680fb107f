from __future__ import annotations

import hashlib
import importlib.util
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebm3d.datasets import DataError
from ebm3d.datasets.nuscenes import prepare_nuscenes, read_tables
from ebm3d.datasets.nuscenes.frames import lidar_boxes
from tests.datasets.nuscenes_world import (
    OBJECTS,
    POINTS,
    STEPS,
    Tables,
    write_tables,
    write_world,
)

VERSION = "v1.0-mini"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared world; tests do not change it."""
    root = tmp_path_factory.mktemp("world")
    write_world(root)
    prepare_nuscenes(root, version=VERSION)
    return root


def _load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())


def _digests(folder: Path) -> dict[str, str]:
    files = [p for p in folder.rglob("nuscenes_*") if p.is_file()]
    files += (folder / "nuscenes_gt_database").glob("*.bin")
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in set(files)
    }


def test_sweeps_of_a_static_object_fall_onto_one_another(root: Path) -> None:
    """Its points in 11 clouds, seen by a turning and tilted sensor, are the same within 0.1 mm."""
    for category, name in (("vehicle.car", "car"), ("movable_object.trafficcone", "traffic_cone")):
        row = [record[0] for record in OBJECTS].index(category)
        points = np.fromfile(root / f"nuscenes_gt_database/2_{name}_{row}.bin", "<f4")
        points = points.reshape(-1, 5)
        clouds = points.reshape(2 * STEPS + 1, POINTS, 5)  # in the order of the clouds
        assert np.abs(clouds[:, :, :3] - clouds[0, :, :3]).max() < 1e-4
        lags = np.arange(2 * STEPS + 1) * 0.05
        np.testing.assert_allclose(clouds[:, :, 4], np.tile(lags[:, None], POINTS), atol=1e-6)


def test_points_of_a_moving_object_lie_behind_it_by_velocity_times_lag(root: Path) -> None:
    infos = _load(root / "nuscenes_dbinfos_train.pkl")["car"]
    info = next(info for info in infos if info["image_idx"] == 2 and info["gt_idx"] == 1)
    points = np.fromfile(root / info["path"], "<f4").reshape(-1, 5)
    assert len(points) > 2 * POINTS
    key, behind = points[:POINTS], points[POINTS : 2 * POINTS]  # these have not left the box
    velocity = info["box3d_lidar"][7:]
    np.testing.assert_allclose(np.hypot(*velocity), np.hypot(4, 1), rtol=5e-3)
    moved = key[:, :2] - behind[:, :2]
    np.testing.assert_allclose(moved, behind[:, 4:] * velocity, atol=2e-3)


def test_the_database_has_objects_with_points_and_known_velocity(root: Path) -> None:
    infos = _load(root / "nuscenes_dbinfos_train.pkl")
    counts = {name: len(of_class) for name, of_class in infos.items() if of_class}
    assert counts == {"car": 6, "pedestrian": 3, "traffic_cone": 3}
    boxes = {s: lidar_boxes(read_tables(root, VERSION), s) for s in range(3)}
    groups = []
    for name, of_class in infos.items():
        for info in of_class:
            groups.append(info["group_id"])
            assert info["name"] == name
            box = boxes[info["image_idx"]][info["gt_idx"]]
            box = box - [0, 0, box[5] / 2, 0, 0, 0, 0, 0, 0]
            np.testing.assert_allclose(info["box3d_lidar"], box, atol=1e-4)
            points = np.fromfile(root / info["path"], "<f4").reshape(-1, 5)
            assert info["num_points_in_gt"] == len(points) >= POINTS
    assert sorted(groups) == list(range(12))
    assert len(list((root / "nuscenes_gt_database").iterdir())) == 12


def test_bytes_do_not_depend_on_the_workers_and_inputs_are_linked(
    root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = prepare_nuscenes(root, version=VERSION, out=out, workers=2)
    expected = _digests(root)
    assert _digests(out) == expected
    assert len(expected) == 15
    assert (out / "samples/LIDAR_TOP").samefile(root / "samples/LIDAR_TOP")
    assert (out / VERSION).samefile(root / VERSION)
    assert report.num_frames == {"mini_train": 3, "mini_val": 3}
    assert report.num_scenes == {"mini_train": 1, "mini_val": 1}
    assert report.num_sweeps == 2 * 2 * (STEPS - 1)
    assert report.classes["car"].number == 12
    assert report.classes["car"].num_moving == 6
    assert report.classes["barrier"].num_empty == 6
    (warning,) = report.warnings
    assert "none of truck, trailer" in warning.got


@pytest.mark.parametrize("version", ["", "..", "v1.0-mini/", "../v1.0-mini", "/v1.0-mini"])
def test_a_version_that_is_a_path_is_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(ValueError, match="version must be the name of a folder in the root"):
        prepare_nuscenes(tmp_path, version=version)


def test_every_bad_cloud_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    write_world(tmp_path)
    clouds = sorted(tmp_path.glob("s*/LIDAR_TOP/*.bin"))
    clouds[0].unlink()
    clouds[5].write_bytes(b"")
    clouds[-1].write_bytes(clouds[-1].read_bytes()[:-3])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError) as info:
        prepare_nuscenes(tmp_path, version=VERSION)
    got = {problem.file: problem.got for problem in info.value.problems}
    assert got.keys() == {clouds[0], clouds[5], clouds[-1]}
    assert got[clouds[0]] == "no such file"
    assert got[clouds[5]] == "0 bytes"
    assert "cut off within a point" in got[clouds[-1]]
    assert sorted(tmp_path.rglob("*")) == before


def test_values_that_are_not_finite_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    write_world(tmp_path)
    path = tmp_path / "sweeps/LIDAR_TOP/scene-0061_7.pcd.bin"
    points = np.fromfile(path, "<f4")
    points[12] = np.nan
    points.tofile(path)
    with pytest.raises(DataError, match=r"scene-0061_7\.pcd\.bin.*finite values"):
        prepare_nuscenes(tmp_path, version=VERSION)
    assert not list(tmp_path.glob("nuscenes_*"))


def _rename(tables: Tables, name: str) -> None:
    tables["sample_data"][0]["filename"] = name


@pytest.mark.parametrize("name", ["LIDAR_TOP/a.pcd.bin", "sweeps/LIDAR_TOP/samples.pcd.bin"])
def test_files_where_the_host_does_not_look_are_refused(tmp_path: Path, name: str) -> None:
    tables = write_world(tmp_path)
    _rename(tables, name)
    write_tables(tmp_path / VERSION, tables)
    with pytest.raises(DataError, match="clouds in samples/LIDAR_TOP or sweeps/LIDAR_TOP"):
        prepare_nuscenes(tmp_path, version=VERSION)


def test_a_test_version_gets_infos_without_labels(tmp_path: Path) -> None:
    write_world(tmp_path, "v1.0-test", ("scene-0077",))
    (tmp_path / "v1.0-test/sample_annotation.json").unlink()
    report = prepare_nuscenes(tmp_path, version="v1.0-test", max_sweeps=3)
    infos = _load(tmp_path / "nuscenes_infos_test.pkl")
    assert infos["metainfo"]["split"] == "test"
    assert [info["instances"] for info in infos["data_list"]] == [[]] * 3
    assert [len(info.get("lidar_sweeps", ())) for info in infos["data_list"]] == [0, 3, 3]
    assert [path.name for path in tmp_path.glob("nuscenes_*")] == ["nuscenes_infos_test.pkl"]
    assert report.warnings == ()


def test_the_command_prepares_splits_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(__file__).resolve().parents[2] / "tools/create_data.py"
    spec = importlib.util.spec_from_file_location("create_data", path)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    write_world(tmp_path, "v1.0-drives", ("a", "b", "c"))
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"my_train": ["b"], "my_val": ["a"]}))
    arguments = ["nuscenes", "--root", str(tmp_path), "--version", "v1.0-drives", "--workers", "1"]
    assert tool.main([*arguments, "--splits", str(splits)]) == 0
    printed = capsys.readouterr()
    assert "my_train: 1 scenes, 3 frames" in printed.out
    assert "1 in none: c" in printed.err
    assert _load(tmp_path / "nuscenes_infos_val.pkl")["metainfo"]["split"] == "my_val"
    assert tool.main(arguments) == 1
    assert "splits.json" in capsys.readouterr().err
