from __future__ import annotations

import json
import pickle
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from ebm3d.datasets.nuscenes import NuScenesTables, read_tables
from ebm3d.datasets.nuscenes.classes import ATTRIBUTES, CLASSES
from ebm3d.datasets.nuscenes.frames import lidar_boxes, sweep_transforms, sweeps_of
from ebm3d.datasets.nuscenes.infos import frame_info, metainfo, write_infos
from tests.datasets.nuscenes_world import BARRIER, ONCE, STEPS, write_world


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> NuScenesTables:
    root = tmp_path_factory.mktemp("world")
    write_world(root)
    return read_tables(root, "v1.0-mini")


@pytest.fixture(scope="module")
def real_tables(shared_data: Path) -> NuScenesTables:
    return read_tables(shared_data / "nuscenes_mini_val", "v1.0-mini")


def test_sweeps_are_placed_by_the_real_transforms(
    real_tables: NuScenesTables, shared_data: Path
) -> None:
    """What the info holds puts a sweep's points where they are in the key frame, at 100 m too."""
    expected = json.loads((shared_data / "nuscenes_mini_val/sweep_transforms.json").read_text())
    points = np.random.default_rng(0).uniform(-100, 100, (5, 3))
    for sample, frame in enumerate(expected):
        info = frame_info(real_tables, sample, sample, 10)
        assert info["token"] == frame["token"]
        sweeps = info.get("lidar_sweeps", [])
        assert len(sweeps) == len(frame["sweeps"])
        for sweep, real in zip(sweeps, frame["sweeps"], strict=True):
            assert sweep["timestamp"] == real["timestamp"] / 1e6
            to_sweep = np.array(sweep["lidar_points"]["lidar2sensor"])
            placed = (points - to_sweep[:3, 3]) @ to_sweep[:3, :3]
            moved = points @ np.transpose(real["sensor2lidar_rotation"])
            moved += np.ravel(real["sensor2lidar_translation"])
            np.testing.assert_allclose(placed, moved, rtol=0, atol=1e-9)


def test_labels_are_those_of_the_host(real_tables: NuScenesTables) -> None:
    """The devkit's boxes in the LiDAR frame, and velocities as the host's converter turns them."""
    devkit = pytest.importorskip("nuscenes")
    quaternion = pytest.importorskip("pyquaternion").Quaternion
    database = devkit.NuScenes("v1.0-mini", str(real_tables.root), verbose=False)
    for sample, record in enumerate(database.sample[::9]):
        data = database.get("sample_data", record["data"]["LIDAR_TOP"])
        pose = database.get("ego_pose", data["ego_pose_token"])
        sensor = database.get("calibrated_sensor", data["calibrated_sensor_token"])
        expected = []
        for token in record["anns"]:
            box, velocity = database.get_box(token), database.box_velocity(token) * [1, 1, 0]
            for frame in (pose, sensor):
                inverse = quaternion(frame["rotation"]).inverse
                box.translate(-np.array(frame["translation"]))
                box.rotate(inverse)
                velocity = inverse.rotation_matrix @ velocity
            yaw = box.orientation.yaw_pitch_roll[0]
            expected.append([*box.center, *box.wlh[[1, 0, 2]], yaw, *velocity[:2]])
        np.testing.assert_allclose(lidar_boxes(real_tables, 9 * sample), expected, atol=1e-9)


def test_sweeps_are_the_last_ones_newest_first(tables: NuScenesTables) -> None:
    assert [len(sweeps_of(tables, sample, 7)) for sample in range(3)] == [0, STEPS, 7]
    rows = sweeps_of(tables, 2, 7)
    lags = tables.samples.timestamps[2] - tables.sweeps.timestamps[rows]
    assert lags.tolist() == [50_000 * (k + 1) for k in range(7)]
    rotations, translations = sweep_transforms(tables, 0, sweeps_of(tables, 0, 7))
    assert rotations.shape == (0, 3, 3)
    assert translations.shape == (0, 3)


def test_an_info_has_what_evaluation_needs(tables: NuScenesTables) -> None:
    info = frame_info(tables, 1, 8, 10)
    labels, rows = tables.annotations, tables.annotations.rows_of(1)
    assert info["sample_idx"] == 8
    assert info["images"] == {}
    assert len(info["instances"]) == BARRIER + 1
    to_global = np.array(info["ego2global"]) @ info["lidar_points"]["lidar2ego"]
    for row, instance in zip(range(rows.start, rows.stop), info["instances"], strict=True):
        center = to_global[:3, :3] @ instance["bbox_3d"][:3] + to_global[:3, 3]
        np.testing.assert_allclose(center, labels.translations[row], atol=1e-9)
        np.testing.assert_allclose(instance["global_box"][:3], labels.translations[row])
        np.testing.assert_array_equal(instance["global_box"][7:], labels.velocities[row][:2])
        assert instance["velocity_isvalid"] == (not np.isnan(labels.velocities[row][0]))
    once, barrier, rack = (info["instances"][i] for i in (ONCE, BARRIER, 4))
    assert np.isnan(once["velocity"]).all()
    assert not barrier["bbox_3d_isvalid"]
    assert CLASSES[barrier["bbox_label_3d"]] == "barrier"
    assert (rack["bbox_label"], rack["category"]) == (-1, "static_object.bicycle_rack")
    assert rack["attr_label"] == len(ATTRIBUTES)
    assert ATTRIBUTES[info["instances"][0]["attr_label"]] == "vehicle.parked"
    np.testing.assert_allclose(info["instances"][1]["global_box"][6:], [0.24, 4, 1], atol=1e-9)


def test_a_file_written_in_parts_is_the_pickle_of_the_whole(
    tables: NuScenesTables, tmp_path: Path
) -> None:
    path = tmp_path / "infos.pkl"
    infos = [frame_info(tables, sample, sample, 10) for sample in range(6)]
    meta = metainfo("v1.0-mini", "mini_val")
    for count in (6, 0):
        write_infos(path, meta, infos[:count])
        read = pickle.loads(path.read_bytes())
        assert repr(read) == repr({"metainfo": meta, "data_list": infos[:count]})


@pytest.mark.mmdet3d
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_host_reads_infos_below_any_root(tmp_path: Path) -> None:
    pytest.importorskip("mmdet3d")
    import_module("ebm3d.register")  # operators, where mmcv has none
    from mmdet3d.datasets import NuScenesDataset

    from ebm3d.datasets.nuscenes import prepare_nuscenes

    root = tmp_path / "my samples"
    write_world(root)
    prepare_nuscenes(root, version="v1.0-mini")
    dataset = NuScenesDataset(
        data_root=str(root),
        ann_file="nuscenes_infos_train.pkl",
        data_prefix={"pts": "samples/LIDAR_TOP", "sweeps": "sweeps/LIDAR_TOP"},
        use_valid_flag=True,
        pipeline=[],
    )
    assert dataset.metainfo["split"] == "mini_train"
    assert len(dataset) == 3
    info = dataset.get_data_info(2)
    assert len(info["lidar_sweeps"]) == 2 * STEPS
    for points in (info["lidar_points"], *(s["lidar_points"] for s in info["lidar_sweeps"])):
        assert Path(points["lidar_path"]).is_file()
        assert str(root) in points["lidar_path"]
    boxes = info["ann_info"]["gt_bboxes_3d"]
    tables = read_tables(root, "v1.0-mini")
    expected = lidar_boxes(tables, 2)[:ONCE]  # without the barrier, which has no points
    np.testing.assert_allclose(boxes.gravity_center, expected[:, :3], atol=1e-5)
    np.testing.assert_allclose(boxes.tensor[:, 3:], expected[:, 3:], atol=1e-5)
