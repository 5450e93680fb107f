"""Point clouds of the KITTI layout: float32 (x, y, z, intensity), point after point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.atomic import write_atomically
from ebm3d.datasets.kitti_calibration import KittiCalibration
from ebm3d.datasets.problems import DataError, Problem, unreadable
from ebm3d.errors import shape_error

NUM_FEATURES = 4
_BYTES_PER_POINT = 4 * NUM_FEATURES
_COLUMNS = ("x", "y", "z", "intensity")


def read_cloud(path: str | Path) -> NDArray[np.float32]:
    """Read one ``.bin`` file: x, y, z in meters, LiDAR frame, and intensity, ``(P, 4)``, P > 0.

    Raises:
        DataError: if the file is missing, empty, cut off, or holds a value that is not finite.
    """
    path = Path(path)
    restore = "copy the file from the data set again"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError([unreadable(path, "a point cloud", error, restore)]) from error
    if not content or len(content) % _BYTES_PER_POINT:
        expected = f"a positive multiple of {_BYTES_PER_POINT} bytes (4 float32 per point)"
        got = f"{len(content)} bytes" + (", cut off within a point" if content else "")
        raise DataError([Problem(path, None, expected, got, restore)])
    points = np.frombuffer(content, dtype="<f4").reshape(-1, NUM_FEATURES).astype(np.float32)
    finite = np.isfinite(points)
    if not finite.all():
        first, column = np.argwhere(~finite)[0]
        count = int((~finite).any(axis=1).sum())
        got = f"{points[first, column]} as {_COLUMNS[column]} of point {first}"
        got += f" ({count} of {len(points)} points are not finite)"
        remedy = f"{restore}, or remove these points from it"
        raise DataError([Problem(path, None, "finite values", got, remedy)])
    return points


def write_cloud(path: str | Path, points: NDArray[np.float32]) -> None:
    """Write points ``(P, 4)`` to a ``.bin`` file atomically; its folder must exist."""
    if points.ndim != 2 or points.shape[1] != NUM_FEATURES:
        raise shape_error("points", "(P, 4) with columns (x, y, z, intensity)", points)
    write_atomically(Path(path), np.ascontiguousarray(points, dtype="<f4").tobytes())


def in_camera_view(
    points: NDArray[np.float32], calibration: KittiCalibration, width: int, height: int
) -> NDArray[np.bool_]:
    """Return which points ``(P, >= 3)``, LiDAR frame, lie in the image of camera 2, ``(P,)``."""
    rows = calibration.lidar_to_image_matrix
    x, y, z = points[:, :3].T.astype(np.float64)
    u, v, depth = (row[0] * x + row[1] * y + row[2] * z + row[3] for row in rows)
    # u and v are pixels times depth: no division, and no point behind the camera passes.
    seen: NDArray[np.bool_] = (u >= 0) & (u < width * depth) & (v >= 0) & (v < height * depth)
    return seen
