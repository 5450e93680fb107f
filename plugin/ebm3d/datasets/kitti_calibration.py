r"""Calibration files of the KITTI object benchmark; from LiDAR to camera to picture and back.

Frames: LiDAR (x forward, y left, z up), rectified camera 0 (x right, y down, z forward), both in
meters; pixels (u right, v down) of camera 2, the left color camera. N points or boxes.

.. math:: x_{cam} = R_0 T_{velo \to cam} x_{velo}, \qquad w (u, v, 1)^T = P_2 x_{cam}

Source: readme of the official development kit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.atomic import write_atomically
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.errors import check_boxes, shape_error

FloatArray = NDArray[np.float64]
AnyFloatArray = NDArray[np.floating[Any]]

_SHAPES = {
    "P0": (3, 4),
    "P1": (3, 4),
    "P2": (3, 4),
    "P3": (3, 4),
    "R0_rect": (3, 3),
    "Tr_velo_to_cam": (3, 4),
    "Tr_imu_to_velo": (3, 4),
}
_OPTIONAL = frozenset({"Tr_imu_to_velo"})
# The official files keep 7 digits; a rotation further off than this is a damaged file.
_ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class KittiCalibration:
    """The matrices of one KITTI calibration file.

    Attributes:
        P0: projection of camera 0, shape ``(3, 4)``, pixels; ``P1`` to ``P3`` alike.
        P1: projection of camera 1.
        P2: projection of camera 2, the left color camera, to which labels belong.
        P3: projection of camera 3.
        R0_rect: rotation from camera 0 to rectified camera 0, shape ``(3, 3)``.
        Tr_velo_to_cam: LiDAR to camera 0, shape ``(3, 4)``, meters.
        Tr_imu_to_velo: inertial unit to LiDAR, shape ``(3, 4)``, meters, or ``None``.

    Raises:
        ValueError: if a matrix has another shape.
    """

    P0: FloatArray
    P1: FloatArray
    P2: FloatArray
    P3: FloatArray
    R0_rect: FloatArray
    Tr_velo_to_cam: FloatArray
    Tr_imu_to_velo: FloatArray | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        for name, shape in _SHAPES.items():
            value = getattr(self, name)
            if np.shape(value) != shape and not (value is None and name in _OPTIONAL):
                raise shape_error(name, str(shape), value)

    @cached_property
    def lidar_to_camera_matrix(self) -> FloatArray:
        """LiDAR to rectified camera 0, homogeneous, shape ``(4, 4)``."""
        return homogeneous(self.R0_rect) @ homogeneous(self.Tr_velo_to_cam)

    @cached_property
    def camera_to_lidar_matrix(self) -> FloatArray:
        """Rectified camera 0 to LiDAR, homogeneous, shape ``(4, 4)``: the exact inverse.

        Not the transpose: the rotations of the files are orthonormal to seven digits only.
        """
        return np.linalg.inv(self.lidar_to_camera_matrix)

    @cached_property
    def lidar_to_image_matrix(self) -> FloatArray:
        """LiDAR to pixels of camera 2 times depth, shape ``(3, 4)``."""
        return self.P2 @ self.lidar_to_camera_matrix


def homogeneous(matrix: FloatArray) -> FloatArray:
    """Extend a ``(3, 3)`` or ``(3, 4)`` matrix to ``(4, 4)`` by rows and columns of identity."""
    extended = np.eye(4)
    extended[: matrix.shape[0], : matrix.shape[1]] = matrix
    return extended


def read_calibration(path: str | Path) -> KittiCalibration:
    """Read and check one calibration file.

    Args:
        path: the text file, lines of the form ``P2: 7.2e+02 0.0e+00 ...``, row by row.

    Returns:
        The matrices.

    Raises:
        DataError: with every defect of the file: missing, a matrix missing or given twice, a wrong
            count of numbers, a value that is no finite number, a rotation that is none, a
            projection without focal length.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        got = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        missing_file = Problem(
            path, None, "a calibration file", got, "restore it from the data set"
        )
        raise DataError([missing_file]) from error
    matrices: dict[str, FloatArray] = {}
    problems: list[Problem] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        name, _, values = line.partition(":")
        name = name.strip()
        if name not in _SHAPES:
            continue
        matrix, problem = _parse_matrix(path, number, name, values.split())
        if problem is None and name in seen:
            remedy = "keep one of the lines"
            problem = Problem(path, number, f"{name} once", f"a second {name}", remedy)
        seen.add(name)
        if problem is not None:
            problems.append(problem)
        else:
            matrices[name] = matrix
    missing = [name for name in _SHAPES if name not in seen and name not in _OPTIONAL]
    for name in missing:
        rows, columns = _SHAPES[name]
        expected = f"a line '{name}:' with {rows * columns} numbers"
        remedy = "restore the file from the data set (tracking files name the matrices differently)"
        problems.append(Problem(path, None, expected, f"no {name}", remedy))
    if problems:
        raise DataError(problems)
    return KittiCalibration(**matrices)


def write_calibration(path: str | Path, calibration: KittiCalibration) -> None:
    """Write a calibration file, twelve digits after the point; whole or not at all.

    Args:
        path: the text file; its folder must exist.
        calibration: the matrices; an absent ``Tr_imu_to_velo`` is left out.
    """
    lines = []
    for field in fields(calibration):
        matrix = getattr(calibration, field.name)
        if matrix is not None:
            numbers = " ".join(f"{value:.12e}" for value in np.ravel(matrix))
            lines.append(f"{field.name}: {numbers}\n")
    write_atomically(Path(path), "".join(lines).encode())


def lidar_to_camera(points: AnyFloatArray, calibration: KittiCalibration) -> FloatArray:
    """Move points from the LiDAR frame to the rectified camera frame.

    Args:
        points: shape ``(N, 3)``, meters.
        calibration: the matrices of the frame.

    Returns:
        The points in the camera frame, shape ``(N, 3)``, float64.
    """
    return _transform(points, calibration.lidar_to_camera_matrix)


def camera_to_lidar(points: AnyFloatArray, calibration: KittiCalibration) -> FloatArray:
    """Move points from the rectified camera frame to the LiDAR frame: ``lidar_to_camera`` undone.

    Args:
        points: shape ``(N, 3)``, meters.
        calibration: the matrices of the frame.

    Returns:
        The points in the LiDAR frame, shape ``(N, 3)``, float64.
    """
    return _transform(points, calibration.camera_to_lidar_matrix)


def project_to_image(
    points: AnyFloatArray, calibration: KittiCalibration
) -> tuple[FloatArray, FloatArray]:
    """Project points of the LiDAR frame into the picture of camera 2.

    Args:
        points: shape ``(N, 3)``, meters.
        calibration: the matrices of the frame.

    Returns:
        Pixels ``(u, v)``, shape ``(N, 2)``, and depth along the axis of camera 2, shape ``(N,)``,
        meters. Pixels mean something only where the depth is positive.
    """
    projected = _transform(points, calibration.lidar_to_image_matrix)
    depth = projected[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return projected[:, :2] / depth[:, None], depth


def boxes_to_camera(
    boxes: AnyFloatArray, calibration: KittiCalibration
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Convert boxes from the LiDAR frame to the fields of a KITTI label.

    The vertical axes of both frames are taken to be parallel for the heading (they are to about
    a degree), as KITTI's labels and the host do.

    Args:
        boxes: ``(x, y, z, dx, dy, dz, yaw)``, LiDAR frame, ``z`` at the bottom, shape ``(N, 7)``.
        calibration: the matrices of the frame.

    Returns:
        Location ``(N, 3)`` of the bottom center in the camera frame, dimensions ``(N, 3)`` as
        height, width, length, and rotation_y ``(N,)`` in [-pi, pi).

    Raises:
        ValueError: if ``boxes`` has another shape.
    """
    check_boxes(boxes)
    exact = boxes.astype(np.float64)
    return lidar_to_camera(exact[:, :3], calibration), exact[:, [5, 4, 3]], _turn(exact[:, 6])


def boxes_from_camera(
    location: AnyFloatArray,
    dimensions: AnyFloatArray,
    rotation_y: AnyFloatArray,
    calibration: KittiCalibration,
) -> FloatArray:
    """Convert the fields of KITTI labels to boxes of the LiDAR frame: ``boxes_to_camera`` undone.

    Args:
        location: bottom centers, camera frame, shape ``(N, 3)``, meters.
        dimensions: height, width, length, shape ``(N, 3)``, meters.
        rotation_y: shape ``(N,)``, radians.
        calibration: the matrices of the frame.

    Returns:
        ``(x, y, z, dx, dy, dz, yaw)``, LiDAR frame, ``z`` at the bottom, yaw in [-pi, pi),
        shape ``(N, 7)``.
    """
    sizes = dimensions.astype(np.float64)[:, [2, 1, 0]]
    yaw = _turn(rotation_y.astype(np.float64))
    return np.concatenate([camera_to_lidar(location, calibration), sizes, yaw[:, None]], axis=1)


def _turn(angle: FloatArray) -> FloatArray:
    """-angle - pi/2 in [-pi, pi): yaw to rotation_y, and (the map is its own inverse) back."""
    turned: FloatArray = np.mod(-angle + np.pi / 2, 2 * np.pi) - np.pi
    # np.mod of a tiny negative number rounds to 2 pi.
    return np.where(turned >= np.pi, -np.pi, turned)


def _transform(points: AnyFloatArray, matrix: FloatArray) -> FloatArray:
    """Apply a ``(3, 4)`` or ``(4, 4)`` matrix to points ``(N, 3)``."""
    if points.ndim != 2 or points.shape[1] != 3:
        raise shape_error("points", "(N, 3) with columns (x, y, z)", points)
    moved: FloatArray = points.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def _parse_matrix(
    path: Path, number: int, name: str, words: list[str]
) -> tuple[FloatArray, Problem | None]:
    """The matrix of one line, and its defect if it has one."""
    shape = _SHAPES[name]
    expected = f"{shape[0] * shape[1]} finite numbers for {name}"
    remedy = "restore the line from the data set"
    try:
        values = np.array([float(word) for word in words])
    except ValueError as error:
        return np.zeros(shape), Problem(path, number, expected, str(error), remedy)
    if values.size != shape[0] * shape[1]:
        return np.zeros(shape), Problem(path, number, expected, f"{values.size} numbers", remedy)
    if not np.isfinite(values).all():
        bad = words[int(np.flatnonzero(~np.isfinite(values))[0])]
        return np.zeros(shape), Problem(path, number, expected, repr(bad), remedy)
    matrix = values.reshape(shape)
    block = matrix[:, :3]
    if name.startswith("P"):
        if abs(np.linalg.det(block)) < np.finfo(np.float64).eps:
            got = "a projection that cannot be inverted"
            return matrix, Problem(path, number, f"a projection {name}", got, remedy)
    else:
        error_size = np.abs(block @ block.T - np.eye(3)).max()
        if error_size > _ROTATION_TOLERANCE or np.linalg.det(block) < 0:
            got = f"a matrix that deviates from a rotation by {error_size:.3g}"
            return matrix, Problem(path, number, f"a rotation in {name}", got, remedy)
    return matrix, None
