from __future__ import annotations

import numpy as np
import pytest

from ebm3d.datasets.kitti_calibration import boxes_from_camera, project_to_image
from ebm3d.simulation.camera import IMAGE_SIZE, image_boxes, in_image, kitti_camera
from ebm3d.simulation.labels import make_labels, occlusion_level

CAMERA = kitti_camera()


def _surface(box: np.ndarray, num: int = 41) -> np.ndarray:
    """Points of the six faces of a box, edges included."""
    t = np.linspace(-0.5, 0.5, num)
    grid = np.stack(np.meshgrid(t, t, t, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[(np.abs(grid) == 0.5).any(axis=1)]
    own = grid * box[3:6] + [0, 0, box[5] / 2]
    c, s = np.cos(box[6]), np.sin(box[6])
    return own @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + box[:3]


def _label(boxes, share=None, points=None):
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 7)
    names = np.array(["Car"] * len(boxes))
    share = np.ones(len(boxes)) if share is None else np.asarray(share, dtype=float)
    points = np.full(len(boxes), 50) if points is None else np.asarray(points)
    return make_labels(names, boxes, share, points, CAMERA)


def test_the_2d_box_is_the_picture_of_the_3d_box(random_boxes):
    boxes = random_boxes[random_boxes[:, 0] > 8]
    bbox, _ = image_boxes(boxes, CAMERA)
    for box, found in zip(boxes, bbox, strict=True):
        pixels, _ = project_to_image(_surface(box), CAMERA)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        if (high < 0).any() or (low > np.array(IMAGE_SIZE) - 1).any():
            assert (found[2:] - found[:2]).min() == pytest.approx(0)
            continue
        border = np.array(IMAGE_SIZE) - 1.0
        np.testing.assert_allclose(found[:2], np.clip(low, 0, border), atol=1e-6)
        np.testing.assert_allclose(found[2:], np.clip(high, 0, border), atol=1e-6)


def test_a_box_beside_the_camera_is_bounded_by_its_part_in_front():
    box = np.array([[2.0, 2.5, -1.7, 4.0, 1.6, 1.5, 0.0]])
    bbox, truncated = image_boxes(box, CAMERA)
    pixels, depth = project_to_image(_surface(box[0], 61), CAMERA)
    ahead = depth > 0.5
    assert bbox[0, 0] == 0
    assert bbox[0, 2] >= np.clip(pixels[ahead, 0].max(), 0, IMAGE_SIZE[0] - 1) - 1e-6
    assert truncated[0] > 0.9


def test_truncation_is_the_share_of_the_picture_outside():
    """The right half of a box that is flat across: moved until the border halves it."""
    box = np.array([[20.0, 0.0, -1.7, 0.01, 2.0, 1.5, 0.0]])
    focal, center_u = CAMERA.P2[0, 0], CAMERA.P2[0, 2]
    depth = 20.0 - 0.2729
    offset = CAMERA.P2[0, 3] / focal
    box[0, 1] = -((IMAGE_SIZE[0] - 1 - center_u) * depth / focal - offset) - 0.002
    _, truncated = image_boxes(box, CAMERA)
    assert truncated[0] == pytest.approx(0.5, abs=0.01)


def test_nothing_is_truncated_within_the_picture():
    _, truncated = image_boxes(np.array([[20.0, 0, -1.7, 4, 1.6, 1.5, 0.3]]), CAMERA)
    assert truncated[0] == 0


def test_boxes_behind_the_camera_have_no_picture():
    bbox, truncated = image_boxes(np.array([[-20.0, 0, -1.7, 4, 1.6, 1.5, 0.3]]), CAMERA)
    assert truncated[0] == 1
    assert (bbox == 0).all()


def test_alpha_is_the_heading_less_the_viewing_angle(random_boxes):
    labels, _ = _label(random_boxes)
    kept = labels.names != "DontCare"
    expected = labels.rotation_y - np.arctan2(labels.location[:, 0], labels.location[:, 2])
    difference = np.mod(labels.alpha - expected + np.pi, 2 * np.pi) - np.pi
    np.testing.assert_allclose(difference[kept], 0, atol=1e-12)
    assert (np.abs(labels.alpha[kept]) <= np.pi).all()


def test_labels_give_the_boxes_back(random_boxes):
    labels, kept = _label(random_boxes)
    cars = labels.select(labels.names == "Car")
    boxes = boxes_from_camera(cars.location, cars.dimensions, cars.rotation_y, CAMERA)
    np.testing.assert_allclose(boxes[:, :6], random_boxes[kept, :6], atol=1e-9)
    turned = np.mod(boxes[:, 6] - random_boxes[kept, 6] + np.pi, 2 * np.pi) - np.pi
    np.testing.assert_allclose(turned, 0, atol=1e-9)


def test_the_camera_is_level_with_the_lidar():
    np.testing.assert_array_equal(CAMERA.R0_rect, np.eye(3))
    np.testing.assert_array_equal(CAMERA.Tr_velo_to_cam[:, :3], [[0, -1, 0], [0, 0, -1], [1, 0, 0]])


def test_occlusion_levels_never_fall_as_less_is_visible():
    levels = occlusion_level(np.linspace(1, 0, 101))
    assert (np.diff(levels) >= 0).all()
    assert set(levels) == {0, 1, 2, 3}


AHEAD = [20.0, 0, -1.7, 4, 1.6, 1.5, 0.3]


@pytest.mark.parametrize(
    ("box", "share", "points", "expected"),
    [
        (AHEAD, 1.0, 5, ["Car"]),
        (AHEAD, 0.0, 2, ["Car"]),
        (AHEAD, 1.0, 0, ["DontCare"]),
        (AHEAD, 0.0, 0, []),
        ([-20.0, *AHEAD[1:]], 1.0, 5, []),
        ([1.5, 2.2, *AHEAD[2:6], 0.0], 1.0, 5, ["DontCare"]),
    ],
    ids=["seen", "seen through a window", "no echo", "hidden", "behind", "a sliver at the border"],
)
def test_an_object_becomes(box, share, points, expected):
    labels, _ = _label([box], [share], [points])
    assert labels.names.tolist() == expected


def test_dont_care_regions_have_kitti_s_fillers():
    labels, kept = _label([AHEAD], points=[0])
    assert len(kept) == 0
    assert (labels.truncated[0], labels.occluded[0], labels.alpha[0]) == (-1, -1, -10)
    np.testing.assert_array_equal(labels.dimensions, -np.ones((1, 3)))
    np.testing.assert_array_equal(labels.location, np.full((1, 3), -1000.0))
    assert labels.rotation_y[0] == -10
    assert (labels.bbox[0, 2:] > labels.bbox[0, :2]).all()


def test_a_frame_without_objects_has_an_empty_label():
    labels, kept = _label(np.zeros((0, 7)))
    assert len(labels) == len(kept) == 0


def test_only_points_within_the_picture_are_seen(rng):
    points = rng.uniform([-10, -40, -3, 0], [60, 40, 3, 1], (500, 4)).astype(np.float32)
    pixels, depth = project_to_image(points[:, :3], CAMERA)
    expected = (depth > 0) & (pixels[:, 0] >= 0) & (pixels[:, 0] < 1242)
    expected &= (pixels[:, 1] >= 0) & (pixels[:, 1] < 375)
    np.testing.assert_array_equal(in_image(points, CAMERA), expected)
