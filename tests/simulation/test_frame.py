from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from ebm3d.datasets.point_clouds import in_camera_view
from ebm3d.simulation import SENSORS, simulate_frame
from ebm3d.simulation.camera import IMAGE_SIZE
from ebm3d.simulation.ground import ground_heights
from ebm3d.simulation.scene import is_occupied
from ebm3d.simulation.statistics import CLASSES, load_statistics
from ebm3d.simulation.street import draw_scene, draw_size

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def frames():
    return [simulate_frame(seed) for seed in range(12)]


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(1.73, np.random.default_rng(seed)) for seed in range(20)]


def _in_box(points, box, margin):
    """Mask of the points within a box grown by a margin on all sides."""
    c, s = np.cos(box[6]), np.sin(box[6])
    local = (points[:, :3] - box[:3]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    local[:, 2] -= box[5] / 2
    return (np.abs(local) <= box[3:6] / 2 + margin).all(axis=1)


def test_the_echoes_of_an_object_lie_in_its_box(frames):
    """Its box, grown by five times the range noise, holds as many points as it has echoes."""
    sensor = SENSORS["64-beam"]
    margin = 5 * np.hypot(sensor.range_noise, sensor.beam_noise)
    for frame in frames:
        for box, num in zip(frame.boxes, frame.num_points, strict=True):
            assert _in_box(frame.points, box, margin).sum() >= num
    assert sum(len(frame.boxes) for frame in frames) > 30


def test_points_are_seen_by_the_camera_and_boxes_have_the_order_of_the_labels(frames):
    for frame in frames:
        num = len(frame.boxes)
        np.testing.assert_array_equal(frame.labels.names[:num], frame.names)
        assert (frame.labels.names[num:] == "DontCare").all()
        np.testing.assert_allclose(frame.labels.dimensions[:num], frame.boxes[:, [5, 4, 3]])
        assert in_camera_view(frame.points, frame.calibration, *IMAGE_SIZE).all()
        assert frame.points.dtype == np.float32
        assert np.isfinite(frame.points).all()
        assert 0 <= frame.points[:, 3].min() <= frame.points[:, 3].max() < 1


def test_the_full_view_looks_all_around():
    frame = simulate_frame(3, "64-beam", "full")
    assert (frame.points[:, 0] < -5).mean() > 0.2
    assert len(frame.boxes) >= (frame.labels.names != "DontCare").sum()
    with pytest.raises(ValueError, match="field_of_view"):
        simulate_frame(0, "64-beam", "rear")


def test_objects_stand_on_the_ground(scenes):
    for scene in scenes:
        poses = np.array([o.pose for o in scene.objects])
        heights = ground_heights(poses[:, :2], scene.ground)
        np.testing.assert_allclose(poses[:, 2], heights, atol=1e-12)


def test_labeled_objects_never_overlap(scenes, rng):
    """Random points of every box lie in no other box."""
    for scene in scenes:
        boxes = [o.box for o in scene.objects if o.name]
        for i, box in enumerate(boxes):
            local = rng.uniform(-0.5, 0.5, (100, 3)) * box[3:6] + [0, 0, box[5] / 2]
            c, s = np.cos(box[6]), np.sin(box[6])
            points = local @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + box[:3]
            for other in boxes[:i] + boxes[i + 1 :]:
                assert not _in_box(points, other, 0.0).any()


def test_streets_hold_surroundings_and_traffic_in_both_directions(scenes):
    assert min(sum(not o.name for o in scene.objects) for scene in scenes) >= 5
    yaws = np.abs([o.pose[3] for scene in scenes for o in scene.objects if o.name == "Car"])
    assert np.mean(yaws < 0.5) > 0.15
    assert np.mean(yaws > np.pi - 0.5) > 0.15


def test_a_place_is_occupied_exactly_where_rectangles_come_close():
    occupied = np.array([[0.0, 0.0, 0.0, 4.0, 2.0]])
    for gap, expected in ((0.2, True), (0.3, False)):
        ahead = np.array([4.0 + gap, 0, 0, 4.0, 2.0])
        beside = np.array([0, 2.0 + gap, np.pi, 4.0, 2.0])
        across = np.array([3.0 + gap, 0, np.pi / 2, 4.0, 2.0])
        for rectangle in (ahead, beside, across):
            for function in (is_occupied, is_occupied.py_func):
                assert function(rectangle, occupied, 0.25) == expected


@pytest.mark.parametrize("name", CLASSES)
def test_drawn_sizes_have_the_labels_mean(name, rng):
    numbers = load_statistics().classes[name]
    sizes = np.log([draw_size(numbers, rng) for _ in range(2000)])
    # 5 standard errors; the limits on sizes cut so little that the mean stays within them.
    tolerance = 5 * np.sqrt(np.diag(numbers.log_size_covariance) / 2000)
    assert (np.abs(sizes.mean(axis=0) - numbers.log_size_mean) < tolerance).all()


@pytest.mark.slow
def test_the_shipped_statistics_are_those_of_the_official_labels(shared_data):
    path = ROOT / "tools" / "derive_simulation_statistics.py"
    spec = importlib.util.spec_from_file_location("derive_simulation_statistics", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    derived = tool.derive(shared_data / "kitti_labels" / "labels_and_calib.tar.gz")
    assert derived == json.loads(tool.OUTPUT.read_text(encoding="utf-8"))
