from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ebm3d.datasets import (
    DataError,
    KittiCalibration,
    boxes_from_camera,
    boxes_to_camera,
    camera_to_lidar,
    lidar_to_camera,
    project_to_image,
    read_calibration,
    write_calibration,
)
from tests.datasets.conftest import make_calibration

MATRICES = ("P0", "P1", "P2", "P3", "R0_rect", "Tr_velo_to_cam")


@pytest.fixture
def path(tmp_path: Path, calibration: KittiCalibration) -> Path:
    """A correct file."""
    write_calibration(tmp_path / "000010.txt", calibration)
    return tmp_path / "000010.txt"


def _rewrite(path: Path, name: str, line: str) -> None:
    """Replace the line of one matrix."""
    text, count = re.subn(rf"^{name}: .*\n", line, path.read_text(), flags=re.MULTILINE)
    assert count == 1
    path.write_text(text)


def test_matrices_survive_writing_and_reading(path: Path, calibration: KittiCalibration) -> None:
    read = read_calibration(path)
    for name in (*MATRICES, "Tr_imu_to_velo"):
        # Twelve digits after the point.
        np.testing.assert_allclose(
            getattr(read, name), getattr(calibration, name), rtol=1e-12, atol=1e-13
        )


def test_the_inertial_unit_is_optional(path: Path) -> None:
    _rewrite(path, "Tr_imu_to_velo", "")
    calibration = read_calibration(path)
    assert calibration.Tr_imu_to_velo is None
    write_calibration(path, calibration)
    assert "Tr_imu_to_velo" not in path.read_text()


@pytest.mark.parametrize("name", MATRICES)
def test_a_missing_matrix_is_named(path: Path, name: str) -> None:
    _rewrite(path, name, "")
    with pytest.raises(DataError, match=f"000010.txt: expected a line '{name}:'.*got no {name}"):
        read_calibration(path)


@pytest.mark.parametrize(
    ("name", "line", "expected", "got"),
    [
        ("P2", "P2: 1 2 3\n", "12 finite numbers for P2", "3 numbers"),
        ("R0_rect", "R0_rect: 1 0 0 0 1 0 0 0 one\n", "9 finite numbers for R0_rect", "'one'"),
        ("R0_rect", "R0_rect: 1 0 0 0 1 0 0 0 nan\n", "9 finite numbers for R0_rect", "'nan'"),
        ("R0_rect", "R0_rect: 1 0 0 0 1 0 0 0 2\n", "a rotation in R0_rect", "deviates"),
        ("R0_rect", "R0_rect: 1 0 0 0 1 0 0 0 -1\n", "a rotation in R0_rect", "deviates"),
        ("P2", "P2: 0 0 0 0 0 0 0 0 0 0 0 0\n", "a projection P2", "cannot be inverted"),
    ],
)
def test_a_bad_matrix_is_reported_with_its_line(
    path: Path, name: str, line: str, expected: str, got: str
) -> None:
    number = [row.split(":")[0] for row in path.read_text().splitlines()].index(name) + 1
    _rewrite(path, name, line)
    with pytest.raises(DataError) as caught:
        read_calibration(path)
    (problem,) = caught.value.problems
    assert problem.place == f"{path}:{number}"
    assert expected in problem.expected
    assert got in problem.got
    assert "restore the line" in problem.remedy


def test_a_matrix_given_twice_is_refused(path: Path) -> None:
    path.write_text(path.read_text() + "R0_rect: 1 0 0 0 1 0 0 0 1\n")
    with pytest.raises(DataError, match="expected R0_rect once, but got a second R0_rect"):
        read_calibration(path)


def test_all_defects_of_a_file_are_reported_at_once(path: Path) -> None:
    _rewrite(path, "P2", "P2: 1 2 3\n")
    _rewrite(path, "R0_rect", "")
    with pytest.raises(DataError) as caught:
        read_calibration(path)
    assert len(caught.value.problems) == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1.txt: expected a calibration file.*got no such file"):
        read_calibration(tmp_path / "1.txt")


def test_a_matrix_of_another_shape_is_refused(calibration: KittiCalibration) -> None:
    matrices = {name: getattr(calibration, name) for name in MATRICES} | {"P2": np.eye(3)}
    with pytest.raises(ValueError, match=r"P2 must have shape \(3, 4\)"):
        KittiCalibration(**matrices)


def test_camera_and_back_is_the_identity(
    calibration: KittiCalibration, rng: np.random.Generator
) -> None:
    points = rng.normal(scale=30.0, size=(50, 3))
    moved = camera_to_lidar(lidar_to_camera(points, calibration), calibration)
    np.testing.assert_allclose(moved, points, atol=1e-12)


def test_a_point_is_rectified_after_it_is_moved_to_the_camera(
    calibration: KittiCalibration,
) -> None:
    point = np.array([20.0, -3.0, 1.0])
    in_camera = [
        sum(calibration.Tr_velo_to_cam[row, k] * point[k] for k in range(3))
        + calibration.Tr_velo_to_cam[row, 3]
        for row in range(3)
    ]
    rectified = [
        sum(calibration.R0_rect[row, k] * in_camera[k] for k in range(3)) for row in range(3)
    ]
    np.testing.assert_allclose(lidar_to_camera(point[None], calibration)[0], rectified, atol=1e-12)


def test_a_point_on_the_axis_of_the_camera_lands_on_the_principal_point() -> None:
    # P2 shifts by 45 px m: its camera stands 45 / 720 m right of camera 0, 0.003 m further back.
    camera_2 = np.array([[-45.0 + 0.003 * 610.0, -0.2 + 0.003 * 173.0, 0.0]]) / 720.0
    calibration = make_calibration(tilt=0.0)
    ahead = camera_to_lidar(camera_2 + np.array([[0.0, 0.0, 25.0]]), calibration)
    pixels, depth = project_to_image(ahead, calibration)
    np.testing.assert_allclose(pixels, [[610.0, 173.0]], atol=1e-9)
    np.testing.assert_allclose(depth, [25.003], atol=1e-12)


def test_boxes_survive_the_way_to_the_camera_and_back(
    random_boxes: NDArray[np.float64], calibration: KittiCalibration
) -> None:
    there = boxes_to_camera(random_boxes, calibration)
    np.testing.assert_allclose(boxes_from_camera(*there, calibration), random_boxes, atol=1e-12)


def test_corners_in_camera_and_lidar_frames_are_the_same_points(
    random_boxes: NDArray[np.float64],
) -> None:
    """The corners of the development kit's readme, moved to the LiDAR, are those of the box.

    Exact only where the axes of both frames are parallel: headings are converted as if they were.
    """
    calibration = make_calibration(tilt=0.0)
    location, dimensions, rotation_y = boxes_to_camera(random_boxes, calibration)
    for box, place, (height, width, length), angle in zip(
        random_boxes, location, dimensions, rotation_y, strict=True
    ):
        # Development kit: x along the length, z along the width, y down from the bottom face.
        x = np.array([1, 1, -1, -1]) * length / 2
        z = np.array([1, -1, -1, 1]) * width / 2
        cosine, sine = np.cos(angle), np.sin(angle)
        bottom = np.stack([cosine * x + sine * z, 0 * x, -sine * x + cosine * z], axis=1) + place
        corners = camera_to_lidar(np.vstack([bottom, bottom - [0, height, 0]]), calibration)
        turn = np.exp(1j * box[6])
        expected = [
            [box[0] + (turn * (sx * box[3] + 1j * sy * box[4]) / 2).real,
             box[1] + (turn * (sx * box[3] + 1j * sy * box[4]) / 2).imag,
             box[2] + up * box[5]]
            for up in (0, 1)
            for sx, sy in ((1, 1), (1, -1), (-1, -1), (-1, 1))
        ]  # fmt: skip
        np.testing.assert_allclose(corners, expected, atol=1e-9)


def test_angles_of_boxes_lie_in_one_turn(calibration: KittiCalibration) -> None:
    boxes = np.ones((5, 7))
    boxes[:, 6] = [-np.pi / 2, np.pi / 2, np.nextafter(np.pi / 2, 4), 9.0, -50.0]
    rotation_y = boxes_to_camera(boxes, calibration)[2]
    assert (rotation_y >= -np.pi).all()
    assert (rotation_y < np.pi).all()
    turns = (rotation_y + boxes[:, 6] + np.pi / 2) / (2 * np.pi)
    np.testing.assert_allclose(turns, turns.round(), atol=1e-12)


@pytest.mark.parametrize("function", [lidar_to_camera, camera_to_lidar, project_to_image])
def test_points_with_intensity_are_refused(function: object, calibration: KittiCalibration) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match=r"points must have shape \(N, 3\)"):
        function(np.zeros((2, 4)), calibration)


def test_boxes_with_velocities_are_refused(calibration: KittiCalibration) -> None:
    with pytest.raises(ValueError, match=r"pass boxes\[:, :7\]"):
        boxes_to_camera(np.zeros((2, 9)), calibration)


def test_no_boxes_become_no_boxes(calibration: KittiCalibration) -> None:
    there = boxes_to_camera(np.zeros((0, 7)), calibration)
    assert boxes_from_camera(*there, calibration).shape == (0, 7)
