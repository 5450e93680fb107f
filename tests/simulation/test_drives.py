"""Simulated drives: geometry of the sweeps, tables, same bytes; the devkit as oracle."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ebm3d.datasets.nuscenes import prepare_nuscenes
from ebm3d.datasets.nuscenes.classes import CLASS_OF_CATEGORY, CLASSES
from ebm3d.datasets.nuscenes.poses import headings, rotation_matrices
from ebm3d.simulation.dataset import frame_seed
from ebm3d.simulation.drives import VERSION, dataset, draw_drive, write_drives
from ebm3d.simulation.drives.drive import SWEEPS
from ebm3d.simulation.drives.lanes import Lane
from ebm3d.simulation.drives.roads import draw_road
from ebm3d.simulation.drives.scan import SENSOR
from ebm3d.simulation.drives.shapes import BUILDERS, RIDDEN
from ebm3d.simulation.drives.tables import token
from ebm3d.simulation.drives.traffic import STEP, Light, drive_lane
from ebm3d.simulation.returns import MEAN_FREE_PATHS
from ebm3d.simulation.scene import is_occupied
from ebm3d.simulation.solids import POLYHEDRON

NUM_TRAIN, NUM_VAL, SEED = 1, 3, 8
LENGTH = 2  # key frames of a drive, here
EXACT = replace(SENSOR, range_noise=0.0, beam_noise=0.0, range_step=1e-6)


def _write(out: Path, **changes) -> Path:
    arguments = {"num_train": NUM_TRAIN, "num_val": NUM_VAL, "seed": SEED, "workers": 1}
    write_drives(out, progress=False, **{**arguments, **changes})
    return out


def _files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def _load(root: Path, name: str):
    return json.loads((root / VERSION / f"{name}.json").read_text())


def _by_token(root: Path, name: str) -> dict[str, dict]:
    return {record["token"]: record for record in _load(root, name)}


@pytest.fixture(scope="module", autouse=True)
def short_drives():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "KEY_FRAMES", LENGTH)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory, short_drives):
    return _write(tmp_path_factory.mktemp("drives") / "one")


@pytest.fixture(scope="module")
def small(root):
    """One key frame of each split."""
    return _write(root.parent / "small", num_train=1, num_val=1)


@pytest.fixture(scope="module")
def drive():
    """The first one of sim_val."""
    return draw_drive(frame_seed(SEED, 1, 0), LENGTH)


@pytest.fixture(scope="module")
def sweeps(drive):
    """Noiseless sweeps up to the second key frame: points in the global frame, owners."""
    result = []
    for step in range(1, SWEEPS + 1):
        scan, pose = drive.scan(step, EXACT), drive.lidar2global(step)
        points = scan.points[:, :3].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
        result.append((step, points, scan.owner))
    return result


def _in_frame_of(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Points in the frame of an object at x, y, z, yaw."""
    c, s = np.cos(pose[3]), np.sin(pose[3])
    return (points - pose[:3]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def test_two_processes_write_the_same_bytes_as_one(small):
    again = _write(small.parent / "two", num_train=1, num_val=1, workers=2)
    assert _files(again) == _files(small)


def test_clouds_are_those_of_the_tables(root):
    names = {record["filename"] for record in _load(root, "sample_data")}
    clouds = {name for name in _files(root) if name.endswith(".pcd.bin")}
    assert clouds == names
    assert len(names) == NUM_TRAIN + (NUM_VAL - 2) * SWEEPS + 2
    points = np.fromfile(root / min(names), "<f4").reshape(-1, 5)
    assert 15_000 < len(points) < 35_000
    for column, top in ((3, 255), (4, 31)):
        values = points[:, column]
        np.testing.assert_array_equal(values, np.round(values))
        assert values.min() >= 0
        assert values.max() <= top
    far = np.hypot(points[:, 0], points[:, 1]) > 5
    elevation = np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))[far]
    expected = np.deg2rad(-30.67 + points[far, 4] * 4 / 3)
    np.testing.assert_allclose(elevation, expected, atol=1e-4)


def test_a_wall_of_ten_sweeps_is_one_plane(drive, sweeps):
    """Points lie on their solid's surface within a millimeter, in the frame of their object."""
    num_walls = num_points = 0
    for index, actor in enumerate(drive.actors):
        shape = actor.shape
        is_porous = (MEAN_FREE_PATHS[shape.materials] > 0).any()
        if actor.name or is_porous or not (shape.kinds == POLYHEDRON).all():
            continue
        points = np.concatenate([points[owner == index] for _, points, owner in sweeps])
        local = _in_frame_of(points, actor.trajectory[0])
        values = local @ shape.rows[:, :3].T + shape.rows[:, 3]
        largest = np.maximum.reduceat(values, shape.starts[:-1], axis=1)
        assert np.abs(largest.min(axis=1, initial=np.inf)).max(initial=0.0) < 1e-3
        num_walls, num_points = num_walls + (len(points) > 20), num_points + len(points)
    assert num_walls >= 3
    assert num_points > 1000


def test_points_of_moving_objects_follow_their_velocity(drive, sweeps):
    """Velocity times lag moves points into the box, but for turns and 6 m/s^2 at most."""
    num_points = 0
    for index, actor in enumerate(drive.actors):
        velocity = (actor.trajectory[-1, :2] - actor.trajectory[-2, :2]) / STEP
        if not actor.name or np.hypot(*velocity) < 0.5:
            continue
        for step, points, owner in sweeps:
            lag = (SWEEPS - step) * STEP
            moved = points[owner == index].copy()
            moved[:, :2] += velocity * lag
            offset = _in_frame_of(moved, actor.trajectory[-1])
            turn = np.sin(abs(actor.trajectory[-1, 3] - actor.trajectory[step, 3]))
            slack = 0.005 + 0.5 * 6.0 * lag**2 + 0.05 * lag + abs(turn) * actor.size[0] / 2
            assert (np.abs(offset[:, :2]) <= actor.size[:2] / 2 + slack).all()
            assert (offset[:, 2] >= -slack).all()
            assert (offset[:, 2] <= actor.size[2] + slack).all()
            num_points += len(moved)
    assert num_points > 100


def test_the_sensor_is_tilted_with_y_forward(drive):
    rotation = rotation_matrices(drive.lidar[3:])
    np.testing.assert_allclose(rotation @ [0, 1, 0], [1, 0, 0], atol=0.08)
    assert rotation[2, 2] < 1 - 1e-6


def test_vehicles_drive_where_they_look():
    """Also in curves, on both sides of the road; half of the roads have one."""
    generator, turns = np.random.default_rng(0), []
    for direction in (1, -1) * 10:
        road, _ = draw_road(generator, np.zeros(2))
        poses = Lane(road, direction, 1.75, None).poses(np.arange(0.0, 60.0, 0.4))
        yaws, ways = np.unwrap(poses[:, 2]), np.diff(poses[:, :2], axis=0)
        difference = np.arctan2(ways[:, 1], ways[:, 0]) - (yaws[:-1] + yaws[1:]) / 2
        np.testing.assert_allclose(np.cos(difference), 1.0, atol=1e-3)
        turns.append(np.ptp(yaws))
    assert np.mean(np.array(turns) > np.deg2rad(10)) > 0.3


def test_nothing_overlaps_at_any_time(drive):
    actors = [actor for actor in drive.actors if actor.name]
    for step in range(0, SWEEPS + 1, 5):
        rectangles = np.array([[*a.trajectory[step, [0, 1, 3]], *a.size[:2]] for a in actors])
        for i in range(1, len(rectangles)):
            assert not is_occupied(rectangles[i], rectangles[:i], 0.0)


def test_points_in_boxes_are_counted(root):
    """Every box of a key frame against all points, in the LiDAR frame, in plain Python."""
    data = {d["sample_token"]: d for d in _load(root, "sample_data") if d["is_key_frame"]}
    poses = _by_token(root, "ego_pose")
    sensors = _by_token(root, "calibrated_sensor")
    sample = _load(root, "sample")[-1]["token"]
    record = data[sample]
    points = np.fromfile(root / record["filename"], "<f4").reshape(-1, 5)[:, :3].astype(float)
    for frame in (sensors[record["calibrated_sensor_token"]], poses[record["ego_pose_token"]]):
        points = points @ rotation_matrices(frame["rotation"]).T + frame["translation"]
    labels = [a for a in _load(root, "sample_annotation") if a["sample_token"] == sample]
    assert sum(a["num_lidar_pts"] > 0 for a in labels) > 10
    for label in labels:
        width, length, height = label["size"]
        yaw, number = headings(label["rotation"]), 0
        offsets = points - label["translation"]
        for x, y, z in offsets[np.hypot(*offsets[:, :2].T) < length + width]:
            u, v = x * np.cos(yaw) + y * np.sin(yaw), y * np.cos(yaw) - x * np.sin(yaw)
            number += abs(u) <= length / 2 and abs(v) <= width / 2 and abs(z) <= height / 2
        assert number == label["num_lidar_pts"]


def test_chains_join_one_instance_over_successive_samples(root):
    samples, labels = _by_token(root, "sample"), _by_token(root, "sample_annotation")
    instances = _load(root, "instance")
    for instance in instances:
        chain, name = [], instance["first_annotation_token"]
        while name:
            chain.append(labels.pop(name))
            assert chain[-1]["prev"] == (chain[-2]["token"] if len(chain) > 1 else "")
            name = chain[-1]["next"]
        assert len(chain) == instance["nbr_annotations"]
        assert chain[-1]["token"] == instance["last_annotation_token"]
        assert {label["instance_token"] for label in chain} == {instance["token"]}
        assert len({tuple(label["size"]) for label in chain}) == 1
        for before, after in pairwise(chain):
            assert samples[before["sample_token"]]["next"] == after["sample_token"]
    assert not labels
    assert len(instances) > 30


@pytest.mark.parametrize("table", ["sample", "sample_data"])
def test_samples_and_sweeps_are_chained_in_time(root, table):
    records = _by_token(root, table)
    step = 500_000 if table == "sample" else 50_000
    assert sum(record["prev"] == "" for record in records.values()) == 3  # drives
    for record in records.values():
        if record["next"]:
            after = records[record["next"]]
            assert after["prev"] == record["token"]
            assert after["timestamp"] - record["timestamp"] == step


def test_velocities_and_attributes_of_the_tables_are_the_true_ones(root, drive):
    labels = _by_token(root, "sample_annotation")
    attributes = _by_token(root, "attribute")
    actors = [actor for actor in drive.actors if actor.name]
    compared = 0
    for index, actor in enumerate(actors):
        first = labels.get(token("sim-val-0000", "sample_annotation", index, 0))
        if first is None or not first["next"]:
            continue
        after = labels[first["next"]]
        velocity = np.subtract(after["translation"], first["translation"])[:2] / 0.5
        moved = actor.trajectory[SWEEPS, :2] - actor.trajectory[0, :2]
        np.testing.assert_allclose(velocity, moved / 0.5, atol=3e-3)
        names = [attributes[t]["name"] for t in first["attribute_tokens"]]
        speed = np.hypot(*(actor.trajectory[1, :2] - actor.trajectory[0, :2])) / STEP
        if names and names[0].endswith((".moving", ".stopped", ".parked", ".standing")):
            assert names[0].endswith(".moving") == (speed > 0.3)
        assert len(names) == (actor.name not in ("traffic_cone", "barrier"))
        compared += 1
    assert compared > 20


def test_the_devkit_evaluates_the_annotations_as_perfect_detections(root, tmp_path):
    devkit = pytest.importorskip("nuscenes")
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval

    tables = devkit.NuScenes(VERSION, str(root), verbose=False)
    results: dict[str, list] = {}
    for sample in tables.sample:
        if not tables.get("scene", sample["scene_token"])["name"].startswith("sim-val"):
            continue
        boxes = results[sample["token"]] = []
        for label in (tables.get("sample_annotation", name) for name in sample["anns"]):
            if label["num_lidar_pts"] == 0:
                continue
            attribute = [tables.get("attribute", t)["name"] for t in label["attribute_tokens"]]
            box = {key: label[key] for key in ("sample_token", "translation", "size", "rotation")}
            velocity = np.nan_to_num(tables.box_velocity(label["token"])[:2]).tolist()
            name = CLASS_OF_CATEGORY[label["category_name"]]
            box |= {"velocity": velocity, "detection_name": name, "detection_score": 0.5}
            boxes.append({**box, "attribute_name": (attribute or [""])[0]})
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"meta": {"use_lidar": True}, "results": results}))
    config = config_factory("detection_cvpr_2019")
    evaluation = DetectionEval(tables, config, str(path), "sim_val", str(tmp_path), verbose=False)
    metrics, _ = evaluation.evaluate()
    boxes = evaluation.gt_boxes.all
    present = {box.detection_name for box in boxes}
    in_motion = {box.detection_name for box in boxes if np.isfinite(box.velocity).all()}
    assert len(present) >= 5
    for name in present:
        assert metrics.mean_dist_aps[name] == pytest.approx(1.0)
        for error in ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err"):
            value = metrics.get_label_tp(name, error)
            if error != "vel_err" or name in in_motion:  # one key frame alone has no velocity
                assert np.isnan(value) or value < 1e-6


def test_drives_can_be_prepared(root):
    report = prepare_nuscenes(root, version=VERSION)
    assert report.num_frames == {"sim_train": NUM_TRAIN, "sim_val": NUM_VAL}


def test_drives_of_one_split_have_no_other(tmp_path):
    root = _write(tmp_path / "val", num_train=0, num_val=1)
    assert _load(root, "splits") == {"sim_val": ["sim-val-0000"]}


def test_a_drive_does_not_depend_on_how_many_there_are(small, root):
    few, many = _files(small), _files(root)
    clouds = {name for name in few if name.endswith(".pcd.bin")}
    assert len(clouds) == 2
    assert {name: few[name] for name in clouds} == {name: many[name] for name in clouds}


@pytest.mark.parametrize("name", CLASSES)
def test_shapes_fill_their_boxes(name):
    generator, size = np.random.default_rng(0), np.array([4.2, 1.8, 1.9])
    for build in [BUILDERS[name], *([RIDDEN[name]] if name in RIDDEN else [])]:
        low, high = build(size, generator).extent
        np.testing.assert_allclose(high - low, size, atol=1e-9)
        np.testing.assert_allclose(low, [-2.1, -0.9, 0.0], atol=1e-9)


def test_vehicles_of_a_lane_stop_at_the_light_without_collision():
    light = Light(40.0, ((-100.0, 100.0),))
    lengths = np.array([4.0, 10.0, 4.0])
    along = drive_lane(np.array([0.0, -20.0, -40.0]), lengths, np.full(3, 9.0), 800, light)
    assert (np.diff(along[-1]) < -(lengths[:-1] + lengths[1:]) / 2).all()
    assert along[:, 0].max() + 2.0 < 40.0
    np.testing.assert_allclose(along[-1], along[-2], atol=1e-3)
    gaps = -np.diff(along, axis=1) - (lengths[:-1] + lengths[1:]) / 2
    assert gaps.min() > 1.0


@pytest.mark.parametrize(
    "change",
    [
        {"num_train": -1},
        {"num_val": 1.5},
        {"seed": -1},
        {"workers": 0},
        {"num_train": 0, "num_val": 0},
    ],
)
def test_arguments_are_checked(tmp_path, change):
    with pytest.raises(ValueError, match=next(iter(change))):
        _write(tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()
