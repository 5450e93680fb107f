from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ebm3d.datasets import (
    DataError,
    camera_to_lidar,
    read_calibration,
    read_cloud,
    write_cloud,
)
from ebm3d.datasets.point_clouds import in_camera_view
from tests.datasets.conftest import make_calibration


@pytest.fixture
def points(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform([5, -20, -2, 0], [60, 20, 1, 1], size=(10, 4)).astype(np.float32)


def test_points_survive_writing_and_reading(tmp_path: Path, points: np.ndarray) -> None:
    write_cloud(tmp_path / "1.bin", points)
    np.testing.assert_array_equal(read_cloud(tmp_path / "1.bin"), points)
    with pytest.raises(ValueError, match=r"points must have shape \(P, 4\)"):
        write_cloud(tmp_path / "1.bin", points[:, :3])
    points[[4, 7], [2, 0]] = [-np.inf, np.nan]
    write_cloud(tmp_path / "1.bin", points)
    with pytest.raises(DataError, match=r"-inf as z of point 4 \(2 of 10 points"):
        read_cloud(tmp_path / "1.bin")


@pytest.mark.parametrize(
    ("num_bytes", "got"),
    [(None, "no such file"), (0, "0 bytes"), (156, "156 bytes, cut off within a point")],
)
def test_a_missing_or_short_cloud_is_refused(
    tmp_path: Path, points: np.ndarray, num_bytes: int | None, got: str
) -> None:
    if num_bytes is not None:
        (tmp_path / "1.bin").write_bytes(points.tobytes()[:num_bytes])
    with pytest.raises(DataError) as caught:
        read_cloud(tmp_path / "1.bin")
    assert [problem.got for problem in caught.value.problems] == [got]


def test_the_view_ends_at_the_borders_of_the_image() -> None:
    calibration = make_calibration(tilt=0.0)
    pixels = np.array(
        [[0.5, 0.5], [-0.5, 0.5], [0.5, -0.5], [1241.5, 374.5], [1242.5, 9], [9, 376]]
    )
    rays = np.column_stack([pixels, np.ones(len(pixels))]) * 10.0 - calibration.P2[:, 3]
    points = camera_to_lidar(np.linalg.solve(calibration.P2[:, :3], rays.T).T, calibration)
    points = np.vstack([points, -points[:1]])  # the last one is behind the camera
    seen = in_camera_view(points.astype(np.float32), calibration, 1242, 375)
    assert seen.tolist() == [True, False, False, True, False, False, False]


@pytest.mark.parametrize("frame_id", ["000003", "000007", "000114", "002712"])
def test_full_scans_are_cut_to_the_official_camera_view_clouds(
    shared_data: Path, frame_id: str
) -> None:
    training = shared_data / "kitti_mini" / "training"
    calibration = read_calibration(training / "calib" / f"{frame_id}.txt")
    full = read_cloud(shared_data / "kitti_full_scans" / f"{frame_id}.bin")
    seen = full[in_camera_view(full, calibration, 1242, 375)]
    expected = read_cloud(training / "velodyne_reduced" / f"{frame_id}.bin")
    np.testing.assert_array_equal(seen, expected)
