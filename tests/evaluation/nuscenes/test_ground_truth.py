"""Ground truth from tables and infos."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebm3d.datasets.nuscenes.infos import frame_info, metainfo, write_infos
from ebm3d.datasets.nuscenes.tables import read_tables
from ebm3d.datasets.problems import DataError
from ebm3d.evaluation.nuscenes import evaluate_nuscenes, read_ground_truth, read_results
from ebm3d.evaluation.nuscenes.boxes import NuScenesBoxes
from tests.evaluation.nuscenes.drives import VERSION, random_results, write_drives


@pytest.fixture
def drives(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A root with tables."""
    write_drives(tmp_path / "drives", rng, num_labels=20)
    return tmp_path / "drives"


def own_infos(root: Path) -> Path:
    """Infos of all samples as ``create_data`` writes them."""
    tables = read_tables(root, VERSION)
    infos = (frame_info(tables, i, i, 10) for i in range(len(tables.samples.tokens)))
    write_infos(root / "infos.pkl", metainfo(VERSION, "mini_val"), infos)
    return root / "infos.pkl"


def as_host(path: Path) -> Path:
    """The same without the fields that the host does not write."""
    content = pickle.loads(path.read_bytes())
    for info in content["data_list"]:
        for part in info["instances"]:
            for name in ("global_box", "attr_label", "category", "velocity_isvalid"):
                del part[name]
    del content["metainfo"]["split"]
    path.write_bytes(pickle.dumps(content))
    return path


def test_infos_hold_what_the_tables_hold(drives: Path) -> None:
    tables, infos = read_ground_truth(drives), read_ground_truth(own_infos(drives))
    assert tables.tokens == infos.tokens
    assert (infos.version, infos.split, infos.notes) == (VERSION, "mini_val", ())
    np.testing.assert_array_equal(tables.ego_translation, infos.ego_translation)
    np.testing.assert_array_equal(tables.scene, infos.scene)
    for field in fields(NuScenesBoxes):
        expected, actual = (getattr(truth.labels, field.name) for truth in (tables, infos))
        np.testing.assert_array_equal(actual, expected, err_msg=field.name)
    np.testing.assert_array_equal(tables.racks.translation, infos.racks.translation)


def test_infos_of_the_host_tell_what_they_lack(drives: Path, rng: np.random.Generator) -> None:
    tables, infos = read_ground_truth(drives), read_ground_truth(as_host(own_infos(drives)))
    assert [note.split(",")[0].split(":")[0] for note in infos.notes] == [
        "The infos have no attr_label",
        "The infos have no category",
        "The infos have no global_box",
    ]
    np.testing.assert_allclose(infos.labels.translation, tables.labels.translation, atol=1e-9)
    np.testing.assert_allclose(infos.labels.velocity, tables.labels.velocity, atol=1e-9)
    turn = (infos.labels.yaw - tables.labels.yaw + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(turn).max() < 0.02
    (drives / "results.json").write_text(json.dumps(random_results(drives, rng)))
    detections, _ = read_results(drives / "results.json").boxes_of(infos)
    with np.errstate(all="raise"):
        figures = evaluate_nuscenes(infos, detections).figures.as_dict()
    assert np.isnan(figures["nd_score"])
    assert np.isnan(figures["tp_errors"]["attr_err"])
    assert figures["mean_ap"] > 0


def test_infos_that_begin_within_a_scene_count_it(drives: Path) -> None:
    path = own_infos(drives)
    content = pickle.loads(path.read_bytes())
    del content["data_list"][0]
    content["data_list"][0]["lidar_sweeps"] = [{}]
    path.write_bytes(pickle.dumps(content))
    scene = read_ground_truth(path).scene
    assert scene[0] == 0
    assert (np.diff(scene) >= 0).all()


def test_a_file_with_scenes_is_a_split(drives: Path) -> None:
    (drives / "scenes.txt").write_text("scene-0916\n\n")
    truth = read_ground_truth(drives / VERSION, split=str(drives / "scenes.txt"))
    assert {token[:10] for token in truth.tokens} == {"scene-0916"}
    assert truth.num_scenes == 1
    assert truth.follows_samples


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "val"}, "split must be of scenes that v1.0-mini holds"),
        ({"split": "other"}, "split must be one of"),
        ({"version": "v1.0-trainval"}, "version must be a folder with scene.json"),
    ],
)
def test_unknown_splits_and_versions_are_refused(
    drives: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_ground_truth(drives, **options)


def test_a_version_without_annotations_is_refused(drives: Path) -> None:
    (drives / VERSION).rename(drives / "v1.0-test")
    (drives / "v1.0-test" / "sample_annotation.json").unlink()
    with pytest.raises(DataError, match=r"annotations of v1\.0-test.*leaderboard"):
        read_ground_truth(drives, "v1.0-test", "test")


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps([]), pickle.dumps({"metainfo": 1})])
def test_a_file_that_is_no_info_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "infos.pkl").write_bytes(content)
    with pytest.raises(DataError, match="expected an info file"):
        read_ground_truth(tmp_path / "infos.pkl")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bbox_label_3d": -5}, "bbox_label_3d from -1 to 9, but got -5"),
        ({"bbox_label_3d": 99}, "bbox_label_3d from -1 to 9, but got 99"),
        ({"bbox_label_3d": 0, "global_box": [0.0, 0, 0, 1, 0, 1, 0, 0, 0]}, "boxes of positive"),
        ({"bbox_label_3d": 0, "global_box": [float("nan")] * 9}, "finite boxes"),
    ],
)
def test_labels_of_infos_that_cannot_be_are_refused(
    drives: Path, changes: dict[str, Any], message: str
) -> None:
    path = own_infos(drives)
    content = pickle.loads(path.read_bytes())
    next(info for info in content["data_list"] if info["instances"])["instances"][0] |= changes
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=rf"infos\.pkl.*{message}"):
        read_ground_truth(path)


def test_samples_and_poses_of_infos_that_cannot_be_are_refused(drives: Path) -> None:
    path = own_infos(drives)
    content = pickle.loads(path.read_bytes())
    first, second = content["data_list"][:2]
    for changes, message in (
        ({"token": second["token"]}, "each sample once"),
        ({"token": "a", "ego2global": np.full((4, 4), np.nan).tolist()}, "finite ego2global"),
    ):
        first |= changes
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match=message):
            read_ground_truth(path)
    content["metainfo"]["categories"] = {"Pedestrian": 0, "Cyclist": 1, "Car": 2}
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=r"classes among car.*Pedestrian"):
        read_ground_truth(path)


def test_the_split_of_infos_is_not_another(drives: Path) -> None:
    with pytest.raises(ValueError, match="split must be mini_val"):
        read_ground_truth(own_infos(drives), split="val")
