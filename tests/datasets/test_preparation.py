from __future__ import annotations

import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebm3d.datasets import (
    DataError,
    boxes_from_camera,
    outputs,
    preparation,
    prepare_kitti,
    read_calibration,
    read_cloud,
    read_labels,
)
from ebm3d.datasets.point_clouds import in_camera_view
from tests.datasets.conftest import TRAIN, VAL, Tree

INFOS = tuple(f"kitti_infos_{split}.pkl" for split in ("train", "val", "trainval"))
OUTPUTS = (*INFOS, "kitti_dbinfos_train.pkl", "kitti_gt_database", "training/velodyne_reduced")


def _load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())


def _contents(folder: Path, prefixes: str | tuple[str, ...] = "") -> dict[str, bytes]:
    """Content of every file below a folder, links followed."""
    files = [Path(place) / n for place, _, ns in os.walk(folder, followlinks=True) for n in ns]
    names = {str(file.relative_to(folder)): file for file in files}
    return {name: file.read_bytes() for name, file in names.items() if name.startswith(prefixes)}


def _outputs(root: Path) -> dict[str, bytes]:
    return _contents(root, OUTPUTS)


def test_infos_hold_the_frames_of_their_split_in_order(kitti_tree: Tree) -> None:
    planes = kitti_tree.root / "training" / "planes"
    planes.mkdir()
    (planes / "000001.txt").write_text("# Plane\nWidth 4\nHeight 1\n0.01 -0.99 0.02 1.65\n")
    report = prepare_kitti(kitti_tree.root)
    assert report.num_frames == {"train": 4, "val": 2}
    assert (report.num_objects["Car"], report.num_objects["DontCare"]) == (3, 3)
    assert report.num_database_objects["Car"] == 2
    assert (report.num_empty_frames, report.num_default_sizes, report.reduced) == (2, 6, True)
    for name, ids in zip(INFOS, (TRAIN, VAL, TRAIN + VAL), strict=True):
        infos = _load(kitti_tree.root / name)["data_list"]
        assert [info["sample_idx"] for info in infos] == [int(frame_id) for frame_id in ids]
        assert [info["lidar_points"]["lidar_path"] for info in infos] == [f"{i}.bin" for i in ids]
    first, second, *_ = _load(kitti_tree.root / "kitti_infos_train.pkl")["data_list"]
    assert second["instances"] == []
    assert second["plane"] == [0.01, -0.99, 0.02, 1.65]
    assert "plane" not in first
    assert [(i["bbox_label"], i["index"]) for i in first["instances"]] == [(-1, -1), (2, 0), (2, 1)]
    assert first["instances"][0]["num_lidar_pts"] == first["instances"][0]["difficulty"] == -1


def test_reduced_clouds_hold_the_points_in_view(kitti_tree: Tree) -> None:
    kitti_tree.write_image_header("000000", 700, 370)
    assert prepare_kitti(kitti_tree.root).num_default_sizes == 5
    for frame_id in TRAIN + VAL:
        calibration = read_calibration(kitti_tree.calibration(frame_id))
        full = read_cloud(kitti_tree.cloud(frame_id))
        reduced = read_cloud(kitti_tree.cloud(frame_id, "velodyne_reduced"))
        size = (700, 370) if frame_id == "000000" else (1242, 375)
        np.testing.assert_array_equal(reduced, full[in_camera_view(full, calibration, *size)])
        assert 0 < len(reduced) < len(full)
    camera = _load(kitti_tree.root / "kitti_infos_train.pkl")["data_list"][0]["images"]["CAM2"]
    assert (camera["width"], camera["height"]) == (700, 370)


def test_the_database_holds_training_objects_with_points_from_the_bottom_center(
    kitti_tree: Tree,
) -> None:
    prepare_kitti(kitti_tree.root)
    database = _load(kitti_tree.root / "kitti_dbinfos_train.pkl")
    infos = [info for of_class in database.values() for info in of_class]
    assert {info["image_idx"] for info in infos} == {0, 3}
    assert {info["path"] for info in infos} == set(_contents(kitti_tree.root, "kitti_gt_database"))
    assert sorted(info["group_id"] for info in infos) == list(range(9))

    objects = read_labels(kitti_tree.label("000000"))
    fields = (objects.location, objects.dimensions, objects.rotation_y)
    box = boxes_from_camera(*fields, read_calibration(kitti_tree.calibration("000000")))[1]
    points = read_cloud(kitti_tree.cloud("000000", "velodyne_reduced"))
    local = (points[:, :2] - box[:2]) @ np.array([1, 1j]) * np.exp(-1j * box[6])
    up = points[:, 2] - box[2]
    inside = (np.abs(local.real) < box[3] / 2) & (np.abs(local.imag) < box[4] / 2)
    inside &= (up > 0) & (up < box[5])
    first = database["Car"][0]
    stored = read_cloud(kitti_tree.root / first["path"])
    assert first["num_points_in_gt"] == len(stored) >= 20
    np.testing.assert_allclose(first["box3d_lidar"], box, rtol=1e-6)
    np.testing.assert_allclose(stored[:, :3] + box[:3], points[inside, :3], atol=1e-5)
    np.testing.assert_array_equal(stored[:, 3], points[inside, 3])


def test_reduced_clouds_give_the_same_outputs_as_full_scans(
    kitti_tree: Tree, tmp_path: Path
) -> None:
    prepare_kitti(kitti_tree.root, out=tmp_path / "from_full")
    prepare_kitti(kitti_tree.root)
    shutil.rmtree(kitti_tree.root / "training" / "velodyne")
    before = _contents(kitti_tree.root, "training")
    assert not prepare_kitti(kitti_tree.root, out=tmp_path / "from_reduced").reduced
    assert _outputs(tmp_path / "from_reduced") == _outputs(tmp_path / "from_full")
    prepare_kitti(kitti_tree.root)
    assert _contents(kitti_tree.root, "training") == before


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_workers(kitti_tree: Tree, tmp_path: Path) -> None:
    prepare_kitti(kitti_tree.root, out=tmp_path / "1", workers=1)
    prepare_kitti(kitti_tree.root, out=tmp_path / "2", workers=2)
    assert len(_outputs(tmp_path / "1")) == 4 + 9 + 6
    assert _outputs(tmp_path / "1") == _outputs(tmp_path / "2")


def test_another_output_folder_serves_as_data_root_alone(kitti_tree: Tree, tmp_path: Path) -> None:
    inputs = _contents(kitti_tree.root)
    for _ in range(2):
        prepare_kitti(kitti_tree.root, out=tmp_path / "out")
    assert _contents(kitti_tree.root) == inputs
    visible = _contents(tmp_path / "out")
    assert {name: visible[name] for name in inputs} == inputs
    prepare_kitti(tmp_path / "out")
    assert _contents(tmp_path / "out") == visible


def test_data_of_other_origin_is_never_replaced(kitti_tree: Tree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "training" / "label_2").mkdir(parents=True)
    with pytest.raises(DataError, match=r"label_2: expected a link.*got other data"):
        prepare_kitti(kitti_tree.root, out=out)
    shutil.rmtree(out / "training")
    (out / "kitti_infos_val.pkl").write_text("precious")
    with pytest.raises(DataError, match=r"val\.pkl.*choose another output folder"):
        prepare_kitti(kitti_tree.root, out=out)
    assert (out / "kitti_infos_val.pkl").read_text() == "precious"
    with pytest.raises(DataError, match="choose an output folder that can be written"):
        prepare_kitti(kitti_tree.root, out=out / "kitti_infos_val.pkl")


def test_reduced_clouds_of_other_origin_are_used_beside_full_scans(kitti_tree: Tree) -> None:
    shutil.copytree(kitti_tree.cloud("0").parent, kitti_tree.cloud("0", "velodyne_reduced").parent)
    for _ in range(2):
        assert not prepare_kitti(kitti_tree.root).reduced
    assert kitti_tree.cloud("000000", "velodyne_reduced").stat().st_size == (
        kitti_tree.cloud("000000").stat().st_size
    )


@pytest.mark.parametrize("move", [0, 1, 2, 12])
def test_an_interrupted_run_leaves_whole_outputs_and_the_next_repairs_them(
    kitti_tree: Tree, monkeypatch: pytest.MonkeyPatch, move: int
) -> None:
    """Interrupted at the first cloud (move 0), or at one of the moves into place."""
    prepare_kitti(kitti_tree.root)
    before = _outputs(kitti_tree.root)
    kitti_tree.label("000003").write_text("")
    moves = []

    def interrupt(source: Path, target: Any) -> None:
        if move and source.parent != target.parent:
            moves.append(source)
        if len(moves) == move:
            raise KeyboardInterrupt
        replace(source, target)

    replace = os.replace
    with monkeypatch.context() as patch:
        if move:
            patch.setattr(outputs.os, "replace", interrupt)
        else:
            patch.setattr(preparation, "write_cloud", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_kitti(kitti_tree.root)
    if move <= 1:
        assert _outputs(kitti_tree.root) == before
    (kitti_tree.root / ".prepared" / "run-killed").mkdir()
    prepare_kitti(kitti_tree.root)
    repaired = _outputs(kitti_tree.root)
    assert set(before) - set(repaired) == {n for n in before if "database/000003" in n}
    assert os.listdir(kitti_tree.root / ".prepared") == ["outputs.txt"]


def _look_away(cloud: bytes) -> bytes:
    points = np.frombuffer(cloud, dtype=np.float32).reshape(-1, 4)
    return points[points[:, 0] < -1].tobytes()


# Place of the defect: how it is made of the file's content, then what the report must say.
DEFECTS: dict[str, tuple[Callable[[bytes], bytes | None], str, str, str]] = {
    "label_2/000000.txt": (lambda old: None, "a label file", "no such file", "restore it"),
    "calib/000002.txt": (
        lambda old: re.sub(rb"R0_rect.*\n", b"", old),
        *("a line 'R0_rect:'", "no R0_rect", "restore the file"),
    ),
    "velodyne/000002.bin": (lambda old: old[:-8], "multiple of 16", "cut off", "copy the file"),
    "label_2/000003.txt:8": (
        lambda old: old + b"Car 0 0\n",
        *("15 columns", "3 columns", "restore the line"),
    ),
    "label_2/000005.txt:2": (
        lambda old: b"\n" + old.replace(b"Cyclist", b"cyclist"),
        *("one of Pedestrian", "cyclist", "write Cyclist"),
    ),
    "image_2/000000.png": (lambda old: b"GIF89a", "a PNG image", "another", "none is needed"),
    "planes/000002.txt:4": (
        lambda old: b"a\nb\nc\n0 1 x 2\n",
        *("4 finite numbers", "'0 1 x 2'", "none is needed"),
    ),
    "velodyne/000003.bin": (_look_away, "in the camera's view", "none", "the same frame"),
}


@pytest.mark.parametrize(
    "form", ["{:d}\n", "{:06d}.bin\n", "training/velodyne/{:06d}.bin,", "[{:d}];"]
)
def test_frames_are_found_by_their_numbers_however_lists_spell_them(
    kitti_tree: Tree, form: str
) -> None:
    for name, ids in (("train", TRAIN), ("val", VAL)):
        text = "# frames\n" + "".join(form.format(int(frame_id)) for frame_id in ids)
        (kitti_tree.root / "ImageSets" / f"{name}.txt").write_text(text, encoding="utf-16")
    assert prepare_kitti(kitti_tree.root).num_frames == {"train": 4, "val": 2}
    infos = _load(kitti_tree.root / "kitti_infos_val.pkl")["data_list"]
    assert [info["lidar_points"]["lidar_path"] for info in infos] == ["000004.bin", "000005.bin"]


def _spoil(tree: Tree, place: str) -> None:
    file = tree.root / "training" / place.split(":")[0]
    file.parent.mkdir(exist_ok=True)
    content = DEFECTS[place][0](file.read_bytes() if file.exists() else b"")
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


@pytest.mark.parametrize("place", DEFECTS)
def test_a_defect_is_reported_with_place_expected_got_and_remedy(
    kitti_tree: Tree, place: str
) -> None:
    _spoil(kitti_tree, place)
    with pytest.raises(DataError) as caught:
        prepare_kitti(kitti_tree.root)
    (problem,) = caught.value.problems
    assert problem.place == str(kitti_tree.root / "training" / place)
    texts = (problem.expected, problem.got, problem.remedy)
    assert all(part in text for part, text in zip(DEFECTS[place][1:], texts, strict=True)), problem
    assert _outputs(kitti_tree.root) == {}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_defects_of_all_frames_are_reported_together(kitti_tree: Tree, workers: int) -> None:
    places = list(DEFECTS)[:5]
    for place in places:
        _spoil(kitti_tree, place)
    with pytest.raises(DataError) as caught:
        prepare_kitti(kitti_tree.root, workers=workers)
    training = kitti_tree.root / "training"
    assert [p.place for p in caught.value.problems] == [f"{training}/{place}" for place in places]


def test_missing_clouds_are_one_defect_not_one_per_frame(kitti_tree: Tree) -> None:
    shutil.rmtree(kitti_tree.root / "training" / "velodyne")
    with pytest.raises(DataError, match=r"velodyne: expected a folder of clouds") as caught:
        prepare_kitti(kitti_tree.root)
    assert len(caught.value.problems) == 1
    assert "training are calib, label_2" in caught.value.problems[0].got
    with pytest.raises(ValueError, match="workers"):
        prepare_kitti(kitti_tree.root, workers=0)


@pytest.mark.parametrize("place", ["", "training", "ImageSets/train.txt", "nowhere"])
def test_a_root_that_is_another_place_is_said_with_what_lies_there(
    kitti_tree: Tree, place: str
) -> None:
    root = kitti_tree.root.parent if not place else kitti_tree.root / place
    with pytest.raises(DataError, match=r"no such folder; in .* (are|is).*holds training"):
        prepare_kitti(root)


@pytest.mark.parametrize(
    ("suffix", "message"),
    [(".npz", "000000.npz exists; convert it to .bin"), (".las", "las exists"), ("", "but other0")],
)
def test_clouds_of_other_names_are_said(kitti_tree: Tree, suffix: str, message: str) -> None:
    for path in (kitti_tree.root / "training" / "velodyne").iterdir():
        path.rename(path.with_suffix(suffix) if suffix else path.with_name(f"other{path.name}"))
    with pytest.raises(DataError, match=message) as caught:
        prepare_kitti(kitti_tree.root)
    assert suffix or len(caught.value.problems) == 1
