from __future__ import annotations

import json
from pathlib import Path

import pytest

from ebm3d.datasets import DataError
from ebm3d.datasets.nuscenes.splits import (
    OFFICIAL_SPLITS,
    kind_of_split,
    scenes_of_split,
    splits_to_prepare,
)

SIMULATED = {"sim_train": ["sim-0001", "sim-0002"], "sim_val": ["sim-0003"]}
SCENES = ("sim-0001", "sim-0002", "sim-0003")


def _write(folder: Path, content: object) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "splits.json"
    path.write_text(json.dumps(content))
    return path


def test_official_splits_are_those_of_the_devkit() -> None:
    devkit = pytest.importorskip("nuscenes.utils.splits").create_splits_scenes()
    assert {name: tuple(sorted(scenes)) for name, scenes in devkit.items()} == OFFICIAL_SPLITS


def test_official_scenes_of_the_tables_are_chosen(tmp_path: Path) -> None:
    folder = tmp_path / "v1.0-mini"
    _write(folder, SIMULATED)
    splits = splits_to_prepare(folder, ("scene-0061", "scene-0916", "scene-0001"))
    assert splits == {"mini_train": ("scene-0061",), "mini_val": ("scene-0916",)}


def test_other_scenes_are_those_of_the_file_beside_the_tables(tmp_path: Path) -> None:
    folder = tmp_path / "v1.0-mini"
    _write(folder, SIMULATED)
    assert splits_to_prepare(folder, SCENES)["sim_train"] == ("sim-0001", "sim-0002")
    assert scenes_of_split("sim_val", tmp_path, "v1.0-mini") == ("sim-0003",)
    assert scenes_of_split("mini_val", tmp_path, "none") == ("scene-0103", "scene-0916")
    with pytest.raises(ValueError, match=r"split must be one of .*sim_val"):
        scenes_of_split("sim_test", tmp_path, "v1.0-mini")


def test_a_file_goes_before_official_splits(tmp_path: Path) -> None:
    path = _write(tmp_path, {"my_val": ["scene-0061"]})
    splits = splits_to_prepare(tmp_path / "v1.0-mini", ("scene-0061", "scene-0103"), path)
    assert splits == {"my_val": ("scene-0061",)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**SIMULATED, "sim_test": []}, "at least one scene.*'sim_test'"),
        ({"sim_val": ["sim-0009"]}, "scenes of the tables.*sim-0009"),
        ({**SIMULATED, "sim_val": ["sim-0001"]}, "sim-0001 in 'sim_train' and again in 'sim_val'"),
        ({**SIMULATED, "train": ["sim-0003"]}, "'train' beside 'sim_train'"),
        ({"night": ["sim-0001"]}, "whose name ends with train, val or test"),
        ({}, "a JSON object of lists"),
        ({"sim_val": "sim-0001"}, "a JSON object of lists"),
        ([], "a JSON object of lists"),
    ],
)
def test_defects_of_a_file_are_named(tmp_path: Path, content: object, message: str) -> None:
    path = _write(tmp_path, content)
    with pytest.raises(DataError, match=message):
        splits_to_prepare(tmp_path, SCENES, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"sim_val": ["sim-0001"], "sim_val": ["sim-0002"]}', "'sim_val' twice"),
        ("[" * 100_000, "a JSON object of lists"),
        ('{"sim_val": ["sim', "a JSON object of lists"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(DataError, match=rf"s\.json.*{message}"):
        splits_to_prepare(tmp_path, SCENES, tmp_path / "s.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"splits\.json.*none of the tables' scenes"):
        splits_to_prepare(tmp_path / "v1.0-mini", SCENES)


@pytest.mark.parametrize(
    ("split", "kind"), [("mini_train", "train"), ("sim_val", "val"), ("test", "test"), ("x", "")]
)
def test_infos_are_named_by_the_end_of_a_split(split: str, kind: str) -> None:
    assert kind_of_split(split) == kind
