"""Sweeps in the right place, the same at every test, without the ego car, whatever the path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.adapters.drives import EGO_RETURNS, FloatArray, sweep_entry, transform, write_cloud

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

_LIDAR = transform([0.7067, -0.0153, 0.0174, -0.7071], [0.94, 0.0, 1.84])  # on the ego car, tilted


def _drive(rng: np.random.Generator, num: int) -> list[FloatArray]:
    """Poses (4, 4) of a sensor on a car that drives a curve on an uneven road, the last first."""
    poses = []
    for step in range(num):
        tilt = rng.normal(0, 0.02, 2)
        quaternion = [1.0, *tilt, 0.5 - 0.02 * step]
        poses.append(transform(quaternion, [600 - 0.5 * step, 1600 + 0.3 * step, 0.1]) @ _LIDAR)
    return poses


def _load(folder: Path, world: FloatArray, poses: list[FloatArray], **options: Any) -> FloatArray:
    """A world (P, 3) seen in sweeps from poses, loaded in the frame of the first by the host."""
    from mmdet3d.registry import TRANSFORMS
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet3d")
    results: dict[str, Any] = {"timestamp": 1000.0, "lidar_sweeps": []}
    for index, pose in enumerate(poses):
        local = (world - pose[:3, 3]) @ pose[:3, :3]
        path = folder / f"{index}.bin"
        write_cloud(path, np.concatenate([local, EGO_RETURNS]))
        if index == 0:
            results["lidar_points"] = {"lidar_path": str(path)}
        else:
            to_key = np.linalg.inv(poses[0]) @ pose
            entry = sweep_entry(str(path), to_key, 1000.0 - 0.05 * index)
            results["lidar_sweeps"].append(entry)
    loader = {"type": "LoadPointsFromFile", "coord_type": "LIDAR", "load_dim": 5, "use_dim": 5}
    sweeps = {"type": "LoadPointsFromMultiSweeps", "use_dim": 5, "remove_close": True, **options}
    if sweeps.pop("is_training", False):
        results["ann_info"] = {}
    for step in (loader, sweeps):
        results = TRANSFORMS.build(step)(results)
    return results["points"].tensor.double().numpy()


def _wall(rng: np.random.Generator, pose: FloatArray) -> FloatArray:
    """Points (400, 3) of a plane 12 to 60 m before a sensor, in the frame of its pose."""
    local = np.column_stack([rng.uniform(-30, 30, 400), np.zeros(400), rng.uniform(-2, 4, 400)])
    local[:, 1] = 30 + 0.6 * local[:, 0]
    return local @ pose[:3, :3].T + pose[:3, 3]


def _distance(points: FloatArray) -> float:
    """The largest distance from the plane of :func:`_wall`, meters."""
    return float(np.abs(points[:, 1] - 30 - 0.6 * points[:, 0]).max() / np.hypot(1, 0.6))


def test_a_wall_in_ten_sweeps_is_one_plane(tmp_path: Path, rng: np.random.Generator):
    poses = _drive(rng, 11)
    points = _load(tmp_path, _wall(rng, poses[0]), poses)
    assert len(points) == 11 * 400
    assert _distance(points) < 1e-3
    assert np.unique(points[:, 4]) == pytest.approx(np.arange(11) * 0.05, abs=1e-6)


def test_a_wall_in_the_real_drives_is_one_plane(
    tmp_path: Path, rng: np.random.Generator, shared_data: Path
):
    file = shared_data / "nuscenes_mini_val" / "sweep_transforms.json"
    if not file.is_file():
        pytest.skip("sweep_transforms.json is absent")
    frames = [frame for frame in json.loads(file.read_text()) if frame["sweeps"]]
    shifts = []
    for frame in frames[:: len(frames) // 4]:
        sensors = [
            {
                **frame,
                "sensor2ego_translation": frame["lidar2ego_translation"],
                "sensor2ego_rotation": frame["lidar2ego_rotation"],
            },
            *frame["sweeps"],
        ]
        poses = [
            transform(s["ego2global_rotation"], s["ego2global_translation"])
            @ transform(s["sensor2ego_rotation"], s["sensor2ego_translation"])
            for s in sensors
        ]
        for pose, sweep in zip(poses[1:], frame["sweeps"], strict=True):
            to_key = np.linalg.inv(poses[0]) @ pose
            stored = transform(sweep["sensor2lidar_rotation"], sweep["sensor2lidar_translation"])
            np.testing.assert_allclose(to_key, stored, atol=1e-6)
            shifts.append(to_key[:3, 3] - to_key[:3, :3].T @ to_key[:3, 3])
        assert _distance(_load(tmp_path, _wall(rng, poses[0]), poses)) < 1e-3
    assert np.abs(shifts).max() > 0.01  # what the host is off by


def test_tests_take_the_nearest_sweeps_and_training_draws(tmp_path: Path, rng):
    poses = _drive(rng, 11)
    wall = _wall(rng, poses[0])
    tests = [_load(tmp_path, wall, poses, sweeps_num=4) for _ in range(3)]
    assert all(np.array_equal(points, tests[0]) for points in tests)
    assert tests[0][:, 4].max() == pytest.approx(0.2)
    drawn = [_load(tmp_path, wall, poses, sweeps_num=4, is_training=True) for _ in range(5)]
    assert len({tuple(np.unique(points[:, 4])) for points in drawn}) > 1


@pytest.mark.parametrize("remove", [True, False])
def test_returns_of_the_ego_car_are_dropped_from_every_cloud(tmp_path: Path, rng, remove: bool):
    poses = _drive(rng, 3)
    points = _load(tmp_path, _wall(rng, poses[0]), poses, remove_close=remove)
    assert len(points) == 3 * (400 + (0 if remove else len(EGO_RETURNS)))


def test_the_returns_of_a_real_ego_car_lie_in_its_outline(shared_data: Path):
    from ebm3d.adapters.repairs.sweeps import EGO_FOOTPRINT

    files = sorted((shared_data / "nuscenes_sample").glob("*.pcd.bin"))
    if not files:
        pytest.skip("the real key frame is absent")
    x, y, _ = np.fromfile(files[0], dtype=np.float32).reshape(-1, 5)[:, :3].T
    (left, right), (back, front) = EGO_FOOTPRINT
    inside = (x > left) & (x < right) & (y > back) & (y < front)
    around = (np.abs(x) < 2.4) & (y > -2.4) & (y < 2.8)
    assert inside.sum() == around.sum() > 8000


def test_the_first_frame_of_a_drive_is_padded_where_asked(tmp_path: Path, rng):
    pose = _drive(rng, 1)
    wall = _wall(rng, pose[0])
    assert len(_load(tmp_path, wall, pose)) == 400
    assert len(_load(tmp_path, wall, pose, pad_empty_sweeps=True, sweeps_num=3)) == 4 * 400


@pytest.mark.parametrize("root", ["/data/samples/nuscenes", "relative", "/a samples/b"])
def test_the_folder_of_a_sweep_is_its_own(root: str):
    from mmdet3d.datasets.det3d_dataset import Det3DDataset

    dataset = Det3DDataset.__new__(Det3DDataset)
    dataset.modality = {"use_lidar": True, "use_camera": False}
    dataset.data_prefix = {"pts": "KEY", "sweeps": "SWEEP"}
    dataset.test_mode, dataset.load_eval_anns = True, False
    info = {"lidar_points": {"lidar_path": "k.bin", "num_pts_feats": 5}}
    folders = ("samples", "sweeps")
    info["lidar_sweeps"] = [
        {"lidar_points": {"lidar_path": f"{root}/{folder}/LIDAR_TOP/{folder}.bin"}}
        for folder in folders
    ]
    parsed = dataset.parse_data_info(info)
    paths = [sweep["lidar_points"]["lidar_path"] for sweep in parsed["lidar_sweeps"]]
    assert paths == ["KEY/samples.bin", "SWEEP/sweeps.bin"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # host's open file
def test_unknown_velocities_stay_unknown_through_the_pipeline(tmp_path: Path):
    from mmdet3d.registry import DATASETS
    from mmengine import Config

    import ebm3d
    from tests.adapters.drives import write_drive

    write_drive(tmp_path, {"train": 2}, num_sweeps=1)
    cfg = Config.fromfile(ebm3d.config_path("centerpoint_simulated_drives_cpu.py"))
    cfg.db_sampler.update(
        data_root=str(tmp_path), info_path=str(tmp_path / "nuscenes_dbinfos_train.pkl")
    )
    cfg.train_dataloader.dataset.pipeline[3].db_sampler = cfg.db_sampler
    cfg.train_dataloader.dataset.data_root = str(tmp_path)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    true = dataset.get_data_info(1)["ann_info"]["gt_bboxes_3d"].tensor
    assert torch.isfinite(true[0::2, 7:]).all()
    assert true[1::2, 7:].isnan().all()
    boxes = dataset[1]["data_samples"].gt_instances_3d.bboxes_3d.tensor
    assert len(boxes) > len(true) * 0.8  # with sampled ones, without those beyond the range
    assert torch.isfinite(boxes[:, :7]).all()
    unknown = boxes[:, 7:].isnan()
    assert torch.equal(unknown[:, 0], unknown[:, 1])
    assert 0 < unknown[:, 0].sum() < len(boxes)
