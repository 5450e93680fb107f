from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from ebm3d.simulation import SENSORS, simulate_frame
from ebm3d.simulation.camera import in_image
from ebm3d.simulation.raycast import ground_heights
from ebm3d.simulation.scene import draw_scene, draw_size, rectangle_is_taken
from ebm3d.simulation.statistics import CLASSES, load_statistics

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
    own = (points[:, :3] - box[:3]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    own[:, 2] -= box[5] / 2
    return (np.abs(own) <= box[3:6] / 2 + margin).all(axis=1)


def test_the_same_seed_gives_the_same_frame():
    one, two = simulate_frame(7), simulate_frame(7)
    np.testing.assert_array_equal(one.points, two.points)
    np.testing.assert_array_equal(one.boxes, two.boxes)


def test_another_seed_gives_another_frame():
    assert not np.array_equal(simulate_frame(7).points[:100], simulate_frame(8).points[:100])


def test_the_echoes_of_an_object_lie_in_its_box(frames):
    """Its box, grown by five times the range noise, holds as many points as it has echoes."""
    sensor = SENSORS["64-beam"]
    margin = 5 * np.hypot(sensor.range_noise, sensor.beam_noise)
    checked = 0
    for frame in frames:
        for box, num in zip(frame.boxes, frame.num_points, strict=True):
            assert _in_box(frame.points, box, margin).sum() >= num
            checked += 1
    assert checked > 30


def test_frames_hold_what_the_camera_sees(frames):
    for frame in frames:
        assert in_image(frame.points, frame.calibration).all()


def test_points_are_finite_float32_with_intensities_in_the_unit_interval(frames):
    for frame in frames:
        assert frame.points.dtype == np.float32
        assert np.isfinite(frame.points).all()
        assert frame.points[:, 3].min() >= 0
        assert frame.points[:, 3].max() < 1


def test_boxes_come_in_the_order_of_the_labels(frames):
    for frame in frames:
        num = len(frame.boxes)
        np.testing.assert_array_equal(frame.labels.names[:num], frame.names)
        assert (frame.labels.names[num:] == "DontCare").all()
        np.testing.assert_allclose(frame.labels.dimensions[:num], frame.boxes[:, [5, 4, 3]])


def test_the_full_view_looks_all_around():
    frame = simulate_frame(3, "64-beam", "full")
    assert (frame.points[:, 0] < -5).mean() > 0.2
    assert len(frame.boxes) >= (frame.labels.names != "DontCare").sum()


def test_an_unknown_field_of_view_is_refused():
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
            own = rng.uniform(-0.5, 0.5, (100, 3)) * box[3:6] + [0, 0, box[5] / 2]
            c, s = np.cos(box[6]), np.sin(box[6])
            points = own @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + box[:3]
            for other in boxes[:i] + boxes[i + 1 :]:
                assert not _in_box(points, other, 0.0).any()


def test_streets_hold_more_than_road_users(scenes):
    surroundings = [sum(not o.name for o in scene.objects) for scene in scenes]
    assert min(surroundings) >= 5


def test_streets_hold_parked_rows_and_oncoming_traffic(scenes):
    yaws = [o.pose[3] for scene in scenes for o in scene.objects if o.name == "Car"]
    with_flow = np.mean(np.abs(yaws) < 0.5)
    against = np.mean(np.abs(yaws) > np.pi - 0.5)
    assert with_flow > 0.15
    assert against > 0.15


def test_rectangles_are_taken_exactly_where_they_come_close():
    taken = np.array([[0.0, 0.0, 0.0, 4.0, 2.0]])
    for gap, expected in ((0.2, True), (0.3, False)):
        ahead = np.array([4.0 + gap, 0, 0, 4.0, 2.0])
        beside = np.array([0, 2.0 + gap, np.pi, 4.0, 2.0])
        across = np.array([3.0 + gap, 0, np.pi / 2, 4.0, 2.0])
        for rectangle in (ahead, beside, across):
            assert rectangle_is_taken(rectangle, taken, 0.25) == expected
            assert rectangle_is_taken.py_func(rectangle, taken, 0.25) == expected


@pytest.mark.parametrize("name", CLASSES)
def test_drawn_sizes_have_the_labels_mean(name, rng):
    numbers = load_statistics().classes[name]
    sizes = np.log([draw_size(numbers, rng) for _ in range(2000)])
    # 5 standard errors; the limits on sizes cut so little that the mean stays within them.
    tolerance = 5 * np.sqrt(np.diag(numbers.log_size_covariance) / 2000)
    assert (np.abs(sizes.mean(axis=0) - numbers.log_size_mean) < tolerance).all()


def test_the_shipped_statistics_are_those_of_the_official_labels(shared_data):
    path = ROOT / "tools" / "derive_simulation_statistics.py"
    spec = importlib.util.spec_from_file_location("derive_simulation_statistics", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    derived = tool.derive(shared_data / "kitti_labels" / "labels_and_calib.tar.gz")
    assert derived == json.loads(tool.OUTPUT.read_text(encoding="utf-8"))
