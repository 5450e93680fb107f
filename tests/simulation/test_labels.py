from __future__ import annotations

import numpy as np
import pytest

from ebm3d.datasets.kitti_calibration import boxes_from_camera, project_to_image
from ebm3d.simulation.camera import IMAGE_SIZE, image_boxes, kitti_camera
from ebm3d.simulation.labels import make_labels

CAMERA = kitti_camera()
AHEAD = [20.0, 0, -1.7, 4, 1.6, 1.5, 0.3]
BEHIND = [-20.0, *AHEAD[1:]]


def _surface(box: np.ndarray) -> np.ndarray:
    """Points of the six faces of a box, edges included."""
    t = np.linspace(-0.5, 0.5, 41)
    grid = np.stack(np.meshgrid(t, t, t, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[(np.abs(grid) == 0.5).any(axis=1)]
    local = grid * box[3:6] + [0, 0, box[5] / 2]
    c, s = np.cos(box[6]), np.sin(box[6])
    return local @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + box[:3]


def _label(boxes, share=1.0, points=50):
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 7)
    names, shares = np.full(len(boxes), "Car"), np.full(len(boxes), share)
    return make_labels(names, boxes, shares, np.full(len(boxes), points), CAMERA)


def test_the_2d_box_bounds_the_image_of_the_3d_box(random_boxes):
    border = np.array(IMAGE_SIZE) - 1.0
    boxes = random_boxes[random_boxes[:, 0] > 8]
    for box, bbox in zip(boxes, image_boxes(boxes, CAMERA)[0], strict=True):
        pixels, _ = project_to_image(_surface(box), CAMERA)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        if (high < 0).any() or (low > border).any():
            assert (bbox[2:] - bbox[:2]).min() == pytest.approx(0)
        else:
            np.testing.assert_allclose(bbox[:2], np.clip(low, 0, border), atol=1e-6)
            np.testing.assert_allclose(bbox[2:], np.clip(high, 0, border), atol=1e-6)


def test_a_box_beside_the_camera_is_bounded_by_its_part_in_front():
    box = np.array([[2.0, 2.5, -1.7, 4.0, 1.6, 1.5, 0.0]])
    bbox, truncated = image_boxes(box, CAMERA)
    pixels, depth = project_to_image(_surface(box[0]), CAMERA)
    assert bbox[0, 0] == 0
    assert bbox[0, 2] >= np.clip(pixels[depth > 0.5, 0].max(), 0, IMAGE_SIZE[0] - 1) - 1e-6
    assert truncated[0] > 0.9


def test_truncation_is_the_share_of_the_2d_box_outside_the_image():
    """The right half of a box that is flat across: moved until the border halves it."""
    box = np.array([[20.0, 0.0, -1.7, 0.01, 2.0, 1.5, 0.0], AHEAD, BEHIND])
    focal, center_u = CAMERA.P2[0, 0], CAMERA.P2[0, 2]
    offset = CAMERA.P2[0, 3] / focal
    box[0, 1] = -((IMAGE_SIZE[0] - 1 - center_u) * (20.0 - 0.2729) / focal - offset) - 0.002
    bbox, truncated = image_boxes(box, CAMERA)
    np.testing.assert_allclose(truncated, [0.5, 0, 1], atol=0.01)
    assert (bbox[2] == 0).all()


def test_labels_give_the_boxes_and_viewing_angles_back(random_boxes):
    labels, kept = _label(random_boxes)
    cars = labels.select(labels.names == "Car")
    boxes = boxes_from_camera(cars.location, cars.dimensions, cars.rotation_y, CAMERA)
    expected_alpha = cars.rotation_y - np.arctan2(cars.location[:, 0], cars.location[:, 2])
    for got, expected in ((boxes[:, 6], random_boxes[kept, 6]), (cars.alpha, expected_alpha)):
        difference = np.mod(got - expected + np.pi, 2 * np.pi) - np.pi
        np.testing.assert_allclose(difference, 0, atol=1e-9)
    np.testing.assert_allclose(boxes[:, :6], random_boxes[kept, :6], atol=1e-9)
    assert (np.abs(cars.alpha) <= np.pi).all()


def test_the_camera_is_level_with_the_lidar():
    np.testing.assert_array_equal(CAMERA.R0_rect, np.eye(3))
    np.testing.assert_array_equal(CAMERA.Tr_velo_to_cam[:, :3], [[0, -1, 0], [0, 0, -1], [1, 0, 0]])


@pytest.mark.parametrize(
    ("box", "share", "points", "expected"),
    [
        (AHEAD, 1.0, 5, ["Car"]),
        (AHEAD, 0.0, 2, ["Car"]),
        (AHEAD, 1.0, 0, ["DontCare"]),
        (AHEAD, 0.0, 0, []),
        (BEHIND, 1.0, 5, []),
        ([1.5, 2.2, *AHEAD[2:6], 0.0], 1.0, 5, ["DontCare"]),
        ([], 1.0, 5, []),
    ],
    ids=["seen", "seen through glass", "no echo", "hidden", "behind", "sliver at border", "no box"],
)
def test_an_object_becomes(box, share, points, expected):
    labels, _ = _label(box, share, points)
    assert labels.names.tolist() == expected


def test_dont_care_regions_have_kitti_s_fillers():
    labels, kept = _label([AHEAD], points=0)
    assert len(kept) == 0
    numbers = labels.to_table(scores=False)[0]
    np.testing.assert_array_equal(numbers[:3], [-1, -1, -10])
    np.testing.assert_array_equal(numbers[7:], [-1, -1, -1, -1000, -1000, -1000, -10])
    assert (labels.bbox[0, 2:] > labels.bbox[0, :2]).all()
