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
    for name in (*MATRICES, "Tr_imu_to_velo"):  # twelve digits after the point
        np.testing.assert_allclose(
            getattr(read, name), getattr(calibration, name), rtol=1e-12, atol=1e-13
        )
    _rewrite(path, "Tr_imu_to_velo", "")
    write_calibration(path, read_calibration(path))
    assert read_calibration(path).Tr_imu_to_velo is None


@pytest.mark.parametrize(
    ("line", "expected", "got"),
    [
        ("P2: 1 2 3\n", "12 finite numbers for P2", "3 numbers"),
        ("R0_rect: 1 0 0 0 1 0 0 0 one\n", "9 finite numbers for R0_rect", "'one'"),
        ("R0_rect: 1 0 0 0 1 0 0 0 nan\n", "9 finite numbers for R0_rect", "'nan'"),
        ("R0_rect: 1 0 0 0 1 0 0 0 2\n", "a rotation in R0_rect", "deviates"),
        ("R0_rect: 1 0 0 0 1 0 0 0 -1\n", "a rotation in R0_rect", "deviates"),
        ("P2: 1 0 0 0 1 0 0 0 1\n", "12 finite numbers for P2", "9 numbers, 3 x 3"),
        ("R0_rect: 1 0 0 0 1 0 0 0 1 0 0 0 0 0 0 2\n", "9 finite numbers", "homogeneous"),
        ("R0_rect: 1 0 0 5 0 1 0 0 0 0 1 0\n", "9 finite numbers", "not of a homogeneous matrix"),
        ("P2:\n", "12 finite numbers for P2", "0 numbers"),
        ("P2: 0 0 0 0 0 0 0 0 0 0 0 0\n", "a projection P2", "cannot be inverted"),
    ],
)
def test_a_bad_matrix_is_reported_with_its_line(
    path: Path, line: str, expected: str, got: str
) -> None:
    name = line.split(":")[0]
    number = [row.split(":")[0] for row in path.read_text().splitlines()].index(name) + 1
    _rewrite(path, name, line)
    with pytest.raises(DataError) as caught:
        read_calibration(path)
    (problem,) = caught.value.problems
    assert problem.place == f"{path}:{number}"
    assert (expected in problem.expected, got in problem.got) == (True, True)


def test_missing_and_repeated_matrices_are_reported_at_once(path: Path) -> None:
    _rewrite(path, "P2", "")
    path.write_text(path.read_text() + "R0_rect: 1 0 0 0 1 0 0 0 1\n")
    with pytest.raises(DataError) as caught:
        read_calibration(path)
    assert [p.got for p in caught.value.problems] == ["a second R0_rect", "no P2"]
    with pytest.raises(DataError, match="no such file"):
        read_calibration(path.with_name("1.txt"))


def _lines(path: Path, names: dict[str, str], *, columns: int = 0, mark: str = "") -> str:
    """The file under other names, as matrices of 4 columns if ``columns``, and 4 rows if 4."""
    lines = []
    for line in path.read_text().splitlines():
        name, words = line.split(":")[0], line.split()[1:]
        if columns:
            matrix = np.eye(4, dtype=object)
            matrix[:3, : len(words) // 3] = np.array(words, dtype=object).reshape(3, -1)
            words = [str(value) for value in matrix[:columns].ravel()]
        lines.append(f"{names.get(name, name)}{mark} {' '.join(words)}\n")
    return "".join(lines)


_TRACKING = {"R0_rect": "R_rect", "Tr_velo_to_cam": "Tr_velo_cam", "Tr_imu_to_velo": "Tr_imu_velo"}
_RAW = {"R0_rect": "R_rect_00"} | {f"P{camera}": f"P_rect_0{camera}" for camera in range(4)}


@pytest.mark.parametrize(
    ("names", "columns", "mark"),
    [
        *((_TRACKING, 0, ""), (_TRACKING, 0, ":"), (_RAW, 0, ":"), ({}, 3, ":"), ({}, 4, ":")),
        *(({}, 0, " :"), ({}, 0, " ="), (_TRACKING, 4, "")),
    ],
)
def test_other_names_and_homogeneous_matrices_are_read(
    path: Path, names: dict[str, str], columns: int, mark: str
) -> None:
    expected = read_calibration(path)
    path.write_text(_lines(path, names, columns=columns, mark=mark))
    for name, matrix in vars(read_calibration(path)).items():
        np.testing.assert_array_equal(matrix, getattr(expected, name))


def test_a_rotation_completed_at_its_end_is_read(path: Path) -> None:
    expected = read_calibration(path).R0_rect
    path.write_text(re.sub("(R0_rect.*)", r"\1 0 0 0 0 0 0 1", path.read_text()))
    np.testing.assert_array_equal(read_calibration(path).R0_rect, expected)


def test_raw_data_are_read_from_both_files_joined(path: Path) -> None:
    expected = read_calibration(path)
    text = "calib_time: 09-Jan-2012 13:57:47\nR_01: 1 0 0 0 1 0 0 0 1\n" + _lines(
        path, _RAW, mark=":"
    )
    text = re.sub("Tr_velo_to_cam.*\n", "", text)
    path.write_text(text)
    with pytest.raises(DataError, match=r"no Tr_velo_to_cam.*append the lines R: and T:"):
        read_calibration(path)
    rotation, shift = expected.Tr_velo_to_cam[:, :3], expected.Tr_velo_to_cam[:, 3]
    lines = [
        f"{name}: {' '.join(map(str, v.ravel()))}\n"
        for name, v in zip("RT", (rotation, shift), strict=True)
    ]
    path.write_text(text + "".join(lines))
    np.testing.assert_array_equal(read_calibration(path).Tr_velo_to_cam, expected.Tr_velo_to_cam)
    path.write_text(text + "".join(lines) * 2)
    with pytest.raises(DataError, match="Tr_velo_to_cam once, but got a second R and T"):
        read_calibration(path)


def test_only_the_projection_of_the_labels_is_needed(path: Path) -> None:
    for name in ("P0", "P1", "P3"):
        _rewrite(path, name, "")
    assert read_calibration(path).P0 is None
    _rewrite(path, "P2", "P2_left: 1 0 0\n")
    with pytest.raises(DataError, match="no P2, but P2_left; give the line of this meaning"):
        read_calibration(path)
    path.write_text("Tr: 1 0 0 0 0 1 0 0 0 0 1 0")
    with pytest.raises(DataError, match="no R0_rect, but Tr; write R0_rect: 1 0 0"):
        read_calibration(path)
    path.write_text("")
    with pytest.raises(DataError, match="no P2, nor any other matrix"):
        read_calibration(path)


def test_wrong_shapes_are_refused(calibration: KittiCalibration) -> None:
    matrices = {name: getattr(calibration, name) for name in MATRICES} | {"P2": np.eye(3)}
    with pytest.raises(ValueError, match="P2 must have shape"):
        KittiCalibration(**matrices)
    for function in (lidar_to_camera, camera_to_lidar, project_to_image):
        with pytest.raises(ValueError, match="points must have shape"):
            function(np.zeros((2, 4)), calibration)
    with pytest.raises(ValueError, match=r"pass boxes\[:, :7\]"):
        boxes_to_camera(np.zeros((2, 9)), calibration)


def test_to_the_camera_and_back_is_the_identity(
    calibration: KittiCalibration, random_boxes: NDArray[np.float64]
) -> None:
    points = random_boxes[:, :3]
    moved = camera_to_lidar(lidar_to_camera(points, calibration), calibration)
    np.testing.assert_allclose(moved, points, atol=1e-12)
    for boxes in (random_boxes, random_boxes[:0]):
        labels = boxes_to_camera(boxes, calibration)
        np.testing.assert_allclose(boxes_from_camera(*labels, calibration), boxes, atol=1e-12)


def test_a_point_on_the_axis_of_the_camera_lands_on_the_principal_point() -> None:
    # P2 shifts by 45 px m: its camera stands 45 / 720 m right of camera 0, 0.003 m further back.
    camera_2 = np.array([[-45.0 + 0.003 * 610.0, -0.2 + 0.003 * 173.0, 0.0]]) / 720.0
    calibration = make_calibration(tilt=0.0)
    ahead = camera_to_lidar(camera_2 + np.array([[0.0, 0.0, 25.0]]), calibration)
    pixels, depth = project_to_image(ahead, calibration)
    np.testing.assert_allclose(pixels, [[610.0, 173.0]], atol=1e-9)
    np.testing.assert_allclose(depth, [25.003], atol=1e-12)


def test_corners_in_camera_and_lidar_frames_are_the_same_points(
    random_boxes: NDArray[np.float64],
) -> None:
    """The corners of the development kit's readme, moved to the LiDAR, are those of the box.

    Exact only where the axes of both frames are parallel: headings are converted as if they were.
    """
    calibration = make_calibration(tilt=0.0)
    for box, location, (height, width, length), angle in zip(
        random_boxes, *boxes_to_camera(random_boxes, calibration), strict=True
    ):
        # Development kit: x along the length, z along the width, y down from the bottom face.
        x = np.array([1, 1, -1, -1]) * length / 2
        z = np.array([1, -1, -1, 1]) * width / 2
        cosine, sine = np.cos(angle), np.sin(angle)
        bottom = np.stack([cosine * x + sine * z, 0 * x, -sine * x + cosine * z], axis=1)
        bottom += location
        corners = camera_to_lidar(np.vstack([bottom, bottom - [0, height, 0]]), calibration)
        local = np.array([1, 1, -1, -1]) * box[3] + 1j * np.array([1, -1, -1, 1]) * box[4]
        rotated = box[0] + 1j * box[1] + np.exp(1j * box[6]) * local / 2
        for part, z in ((corners[:4], box[2]), (corners[4:], box[2] + box[5])):
            expected = np.column_stack([rotated.real, rotated.imag, np.full(4, z)])
            np.testing.assert_allclose(part, expected, atol=1e-9)


def test_angles_lie_in_one_turn(calibration: KittiCalibration) -> None:
    boxes = np.ones((5, 7))
    boxes[:, 6] = [-np.pi / 2, np.pi / 2, np.nextafter(np.pi / 2, 4), 9.0, -50.0]
    rotation_y = boxes_to_camera(boxes, calibration)[2]
    assert (rotation_y >= -np.pi).all()
    assert (rotation_y < np.pi).all()
    turns = (rotation_y + boxes[:, 6] + np.pi / 2) / (2 * np.pi)
    np.testing.assert_allclose(turns, turns.round(), atol=1e-12)
