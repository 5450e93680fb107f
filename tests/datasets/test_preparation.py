from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebm3d.datasets import (
    DataError,
    boxes_from_camera,
    prepare_kitti,
    read_calibration,
    read_cloud,
    read_labels,
)
from ebm3d.datasets import preparation as preparation_module
from ebm3d.datasets.atomic import is_published
from ebm3d.datasets.point_clouds import in_camera_view
from tests.datasets.conftest import TRAIN, VAL, Tree

OUTPUTS = (
    "kitti_infos_train.pkl",
    "kitti_infos_val.pkl",
    "kitti_infos_trainval.pkl",
    "kitti_dbinfos_train.pkl",
    "kitti_gt_database",
    "training/velodyne_reduced",
)


def _load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())


def _hashes(folder: Path) -> dict[str, str]:
    """Content of every file below a folder, links followed."""
    return {
        str((Path(place) / name).relative_to(folder)): hashlib.sha256(
            (Path(place) / name).read_bytes()
        ).hexdigest()
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
    }


def _output_hashes(root: Path) -> dict[str, str]:
    """Content of every output file below a root."""
    return {name: digest for name, digest in _hashes(root).items() if name.startswith(OUTPUTS)}


def _reduce_in_place(tree: Tree) -> None:
    """Turn full scans into camera-view clouds of the data set's own."""
    prepare_kitti(tree.root)
    shutil.copytree(tree.root / "training" / "velodyne_reduced", tree.root / "own")
    for name in OUTPUTS:
        (tree.root / name).unlink()
    shutil.rmtree(tree.root / "training" / "velodyne")
    (tree.root / "own").rename(tree.root / "training" / "velodyne_reduced")


def test_the_report_counts_frames_and_objects(kitti_tree: Tree) -> None:
    report = prepare_kitti(kitti_tree.root)
    assert report.num_frames == {"train": 4, "val": 2}
    assert report.num_objects["Car"] == 3
    assert report.num_objects["DontCare"] == 3
    assert report.num_database_objects["Car"] == 2
    assert report.num_database_objects["Person_sitting"] == 1
    assert report.num_empty_frames == 2
    assert report.num_default_sizes == 6
    assert report.reduced


def test_splits_go_to_their_files_in_order(kitti_tree: Tree) -> None:
    prepare_kitti(kitti_tree.root)
    for split, ids in (("train", TRAIN), ("val", VAL), ("trainval", TRAIN + VAL)):
        infos = _load(kitti_tree.root / f"kitti_infos_{split}.pkl")["data_list"]
        assert [info["sample_idx"] for info in infos] == [int(frame_id) for frame_id in ids]
        assert [info["lidar_points"]["lidar_path"] for info in infos] == [f"{i}.bin" for i in ids]


def test_reduced_clouds_hold_the_points_in_view(kitti_tree: Tree) -> None:
    prepare_kitti(kitti_tree.root)
    for frame_id in TRAIN + VAL:
        calibration = read_calibration(kitti_tree.calibration(frame_id))
        full = read_cloud(kitti_tree.cloud(frame_id))
        reduced = read_cloud(kitti_tree.cloud(frame_id, "velodyne_reduced"))
        seen = in_camera_view(full, calibration, 1242, 375)
        np.testing.assert_array_equal(reduced, full[seen])
        assert 0 < len(reduced) < len(full)


def test_the_size_of_a_picture_sets_the_view(kitti_tree: Tree) -> None:
    prepare_kitti(kitti_tree.root)
    wide = len(read_cloud(kitti_tree.cloud("000000", "velodyne_reduced")))
    kitti_tree.write_image_header("000000", 700, 370)
    report = prepare_kitti(kitti_tree.root)
    assert report.num_default_sizes == 5
    assert len(read_cloud(kitti_tree.cloud("000000", "velodyne_reduced"))) < wide
    camera = _load(kitti_tree.root / "kitti_infos_train.pkl")["data_list"][0]["images"]["CAM2"]
    assert (camera["width"], camera["height"]) == (700, 370)


def test_database_files_hold_the_points_of_a_box_from_its_bottom_centre(
    kitti_tree: Tree,
) -> None:
    prepare_kitti(kitti_tree.root)
    objects = read_labels(kitti_tree.label("000000"))
    calibration = read_calibration(kitti_tree.calibration("000000"))
    fields = (objects.location, objects.dimensions, objects.rotation_y)
    box = boxes_from_camera(*fields, calibration)[1]
    points = read_cloud(kitti_tree.cloud("000000", "velodyne_reduced"))
    turned = (points[:, :2] - box[:2]) @ np.array([1, 1j]) * np.exp(-1j * box[6])
    up = points[:, 2] - box[2]
    inside = (np.abs(turned.real) < box[3] / 2) & (np.abs(turned.imag) < box[4] / 2)
    inside &= (up > 0) & (up < box[5])
    (first, _) = _load(kitti_tree.root / "kitti_dbinfos_train.pkl")["Car"]
    stored = read_cloud(kitti_tree.root / first["path"])
    assert len(stored) >= 20
    np.testing.assert_allclose(first["box3d_lidar"], box, rtol=1e-6)
    np.testing.assert_allclose(stored[:, :3] + box[:3], points[inside, :3], atol=1e-5)
    np.testing.assert_array_equal(stored[:, 3], points[inside, 3])
    assert first["num_points_in_gt"] == len(stored)


def test_the_database_holds_training_objects_only(kitti_tree: Tree) -> None:
    prepare_kitti(kitti_tree.root)
    database = _load(kitti_tree.root / "kitti_dbinfos_train.pkl")
    infos = [info for of_class in database.values() for info in of_class]
    assert {info["image_idx"] for info in infos} == {0, 3}
    files = {
        f"kitti_gt_database/{p.name}" for p in (kitti_tree.root / "kitti_gt_database").iterdir()
    }
    assert {info["path"] for info in infos} == files
    assert sorted(info["group_id"] for info in infos) == list(range(9))


def test_dont_care_is_kept_without_points_and_level(kitti_tree: Tree) -> None:
    prepare_kitti(kitti_tree.root)
    instances = _load(kitti_tree.root / "kitti_infos_train.pkl")["data_list"][0]["instances"]
    assert [i["bbox_label"] for i in instances] == [-1, 2, 2]
    assert [i["index"] for i in instances] == [-1, 0, 1]
    assert instances[0]["num_lidar_pts"] == -1
    assert instances[0]["difficulty"] == -1


def test_a_frame_without_objects_has_no_instances(kitti_tree: Tree) -> None:
    prepare_kitti(kitti_tree.root)
    assert _load(kitti_tree.root / "kitti_infos_train.pkl")["data_list"][1]["instances"] == []


def test_ground_planes_are_taken_where_they_are(kitti_tree: Tree) -> None:
    planes = kitti_tree.root / "training" / "planes"
    planes.mkdir()
    (planes / "000001.txt").write_text("# Plane\nWidth 4\nHeight 1\n0.01 -0.99 0.02 1.65\n")
    prepare_kitti(kitti_tree.root)
    infos = _load(kitti_tree.root / "kitti_infos_train.pkl")["data_list"]
    assert infos[1]["plane"] == [0.01, -0.99, 0.02, 1.65]
    assert "plane" not in infos[0]


def test_reduced_clouds_give_what_full_scans_give(kitti_tree: Tree, tmp_path: Path) -> None:
    prepare_kitti(kitti_tree.root, out=tmp_path / "from_full")
    from_full = _output_hashes(tmp_path / "from_full")
    _reduce_in_place(kitti_tree)
    report = prepare_kitti(kitti_tree.root, out=tmp_path / "from_reduced")
    assert not report.reduced
    assert _output_hashes(tmp_path / "from_reduced") == from_full


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_workers(kitti_tree: Tree, tmp_path: Path) -> None:
    prepare_kitti(kitti_tree.root, out=tmp_path / "1", workers=1)
    prepare_kitti(kitti_tree.root, out=tmp_path / "2", workers=2)
    assert len(_output_hashes(tmp_path / "1")) == 4 + 9 + 6
    assert _output_hashes(tmp_path / "1") == _output_hashes(tmp_path / "2")


def test_a_second_run_gives_the_same_bytes(kitti_tree: Tree) -> None:
    prepare_kitti(kitti_tree.root)
    first = _output_hashes(kitti_tree.root)
    prepare_kitti(kitti_tree.root)
    assert _output_hashes(kitti_tree.root) == first


def test_a_second_run_drops_objects_that_are_gone(kitti_tree: Tree) -> None:
    prepare_kitti(kitti_tree.root)
    kitti_tree.label("000003").write_text("")
    prepare_kitti(kitti_tree.root)
    assert len(list((kitti_tree.root / "kitti_gt_database").iterdir())) == 2


def test_inputs_are_never_touched(kitti_tree: Tree, tmp_path: Path) -> None:
    before = _hashes(kitti_tree.root)
    prepare_kitti(kitti_tree.root, out=tmp_path / "out")
    assert _hashes(kitti_tree.root) == before


def test_another_output_folder_serves_as_data_root_alone(kitti_tree: Tree, tmp_path: Path) -> None:
    prepare_kitti(kitti_tree.root, out=tmp_path / "out")
    visible = _hashes(tmp_path / "out")
    for name, digest in _hashes(kitti_tree.root).items():
        assert visible[name] == digest
    prepare_kitti(tmp_path / "out")
    assert _output_hashes(tmp_path / "out").keys() <= visible.keys()


def test_links_never_replace_data_of_other_origin(kitti_tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "out" / "training" / "label_2").mkdir(parents=True)
    with pytest.raises(DataError, match=r"label_2: expected a link.*got other data"):
        prepare_kitti(kitti_tree.root, out=tmp_path / "out")


def _spoil_label(tree: Tree) -> None:
    tree.label("000003").write_text(tree.label("000003").read_text() + "Car 0 0\n")


def _spoil_box(tree: Tree) -> None:
    line = "Car 0 0 0 1 2 3 50 0 1 1 0 1 9 0\n"
    tree.label("000004").write_text(line + tree.label("000004").read_text())


def _spoil_class(tree: Tree) -> None:
    text = tree.label("000005").read_text()
    tree.label("000005").write_text("\n" + text.replace("Cyclist", "cyclist"))


def _truncate_cloud(tree: Tree) -> None:
    tree.cloud("000002").write_bytes(tree.cloud("000002").read_bytes()[:-8])


def _spoil_cloud(tree: Tree) -> None:
    cloud = read_cloud(tree.cloud("000005"))
    cloud[9, 1] = np.nan
    tree.cloud("000005").write_bytes(cloud.tobytes())


def _remove_cloud(tree: Tree) -> None:
    tree.cloud("000001").unlink()


def _remove_matrix(tree: Tree) -> None:
    lines = tree.calibration("000002").read_text().splitlines(keepends=True)
    tree.calibration("000002").write_text("".join(x for x in lines if not x.startswith("R0_rect")))


def _remove_label(tree: Tree) -> None:
    tree.label("000000").unlink()


def _spoil_image(tree: Tree) -> None:
    tree.image("000000").parent.mkdir()
    tree.image("000000").write_bytes(b"GIF89a")


def _spoil_plane(tree: Tree) -> None:
    (tree.root / "training" / "planes").mkdir()
    (tree.root / "training" / "planes" / "000002.txt").write_text("a\nb\nc\n0 1 x 2\n")


def _look_away(tree: Tree) -> None:
    cloud = read_cloud(tree.cloud("000003"))
    tree.cloud("000003").write_bytes(cloud[cloud[:, 0] < -1].tobytes())


DEFECTS = {
    _spoil_label: ("label_2/000003.txt:8", "15 columns", "3 columns", "restore the line"),
    _spoil_box: ("label_2/000004.txt:1", "positive sizes", "Car of height 0,", "correct the box"),
    _spoil_class: ("label_2/000005.txt:2", "one of Pedestrian", "cyclist", "mind the capitals"),
    _truncate_cloud: ("velodyne/000002.bin", "multiple of 16", "cut off", "copy the file"),
    _spoil_cloud: ("velodyne/000005.bin", "finite values", "nan as y of point 9", "remove these"),
    _remove_cloud: ("velodyne/000001.bin", "a point cloud", "no such file", "copy the file"),
    _remove_matrix: ("calib/000002.txt", "a line 'R0_rect:'", "no R0_rect", "restore the file"),
    _remove_label: ("label_2/000000.txt", "a label file", "no such file", "restore it"),
    _spoil_image: ("image_2/000000.png", "a PNG picture", "another", "none is needed"),
    _spoil_plane: ("planes/000002.txt:4", "4 finite numbers", "'0 1 x 2'", "none is needed"),
    _look_away: ("velodyne/000003.bin", "in the camera's view", "none", "the same frame"),
}


@pytest.mark.parametrize("spoil", DEFECTS)
def test_a_defect_is_reported_with_place_expected_got_and_remedy(
    kitti_tree: Tree, spoil: Any
) -> None:
    spoil(kitti_tree)
    with pytest.raises(DataError) as caught:
        prepare_kitti(kitti_tree.root)
    (problem,) = caught.value.problems
    place, expected, got, remedy = DEFECTS[spoil]
    assert problem.place == str(kitti_tree.root / "training" / place)
    assert expected in problem.expected
    assert got in problem.got
    assert remedy in problem.remedy


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_defects_of_all_frames_are_reported_together(kitti_tree: Tree, workers: int) -> None:
    for spoil in (_spoil_label, _spoil_box, _truncate_cloud, _remove_matrix, _remove_label):
        spoil(kitti_tree)
    with pytest.raises(DataError) as caught:
        prepare_kitti(kitti_tree.root, workers=workers)
    places = [str(p.place).split("training/")[1] for p in caught.value.problems]
    assert places == [
        "label_2/000000.txt",
        "calib/000002.txt",
        "velodyne/000002.bin",
        "label_2/000003.txt:8",
        "label_2/000004.txt:1",
    ]


def test_defects_leave_the_old_outputs_as_they_were(kitti_tree: Tree) -> None:
    prepare_kitti(kitti_tree.root)
    before = _output_hashes(kitti_tree.root)
    _spoil_label(kitti_tree)
    with pytest.raises(DataError):
        prepare_kitti(kitti_tree.root)
    assert _output_hashes(kitti_tree.root) == before


def test_defects_of_a_first_run_leave_no_output(kitti_tree: Tree) -> None:
    _spoil_label(kitti_tree)
    with pytest.raises(DataError):
        prepare_kitti(kitti_tree.root)
    assert _output_hashes(kitti_tree.root) == {}


def test_a_crash_midway_leaves_the_old_outputs_as_they_were(
    kitti_tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_kitti(kitti_tree.root)
    before = _output_hashes(kitti_tree.root)
    kitti_tree.label("000003").write_text("")
    calls = []

    def crash(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(preparation_module, "write_cloud", crash)
    with pytest.raises(KeyboardInterrupt):
        prepare_kitti(kitti_tree.root)
    assert _output_hashes(kitti_tree.root) == before


def test_missing_clouds_are_one_defect_not_one_a_frame(kitti_tree: Tree) -> None:
    shutil.rmtree(kitti_tree.root / "training" / "velodyne")
    with pytest.raises(DataError, match=r"velodyne: expected a folder of clouds") as caught:
        prepare_kitti(kitti_tree.root)
    assert len(caught.value.problems) == 1


def test_reduced_clouds_made_here_do_not_stand_in_for_full_scans(kitti_tree: Tree) -> None:
    prepare_kitti(kitti_tree.root)
    assert is_published(kitti_tree.root / "training" / "velodyne_reduced")
    shutil.rmtree(kitti_tree.root / "training" / "velodyne")
    with pytest.raises(DataError, match="an output made from it"):
        prepare_kitti(kitti_tree.root)


def test_reduced_clouds_of_other_origin_are_used_and_kept(kitti_tree: Tree) -> None:
    _reduce_in_place(kitti_tree)
    before = _hashes(kitti_tree.root / "training" / "velodyne_reduced")
    prepare_kitti(kitti_tree.root)
    assert not (kitti_tree.root / "training" / "velodyne_reduced").is_symlink()
    assert _hashes(kitti_tree.root / "training" / "velodyne_reduced") == before


def test_no_worker_is_refused(kitti_tree: Tree) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, but got 0"):
        prepare_kitti(kitti_tree.root, workers=0)
