r"""Calibration files of the KITTI object benchmark; LiDAR to camera to image and back.

Frames: LiDAR (x forward, y left, z up), rectified camera 0 (x right, y down, z forward), both in
meters; pixels (u right, v down) of camera 2, the left color camera. N points or boxes. Source:
readme of the official development kit.

.. math:: x_{cam} = R_0 T_{velo \to cam} x_{velo}, \qquad w (u, v, 1)^T = P_2 x_{cam}
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.atomic import write_atomically
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.datasets.text import read_lines, split_words
from ebm3d.errors import check_boxes, shape_error

FloatArray = NDArray[np.float64]
AnyFloatArray = NDArray[np.floating[Any]]

_SHAPES = dict.fromkeys(("P0", "P1", "P2", "P3", "Tr_velo_to_cam", "Tr_imu_to_velo"), (3, 4))
_SHAPES["R0_rect"] = (3, 3)
_OPTIONAL = ("P0", "P1", "P3", "Tr_imu_to_velo")
# Names in the files of KITTI's tracking and odometry benchmarks, then in its raw data.
_OTHER_NAMES = {
    **{"R_rect": "R0_rect", "Tr_velo_cam": "Tr_velo_to_cam", "Tr_imu_velo": "Tr_imu_to_velo"},
    **{"Tr": "Tr_velo_to_cam", "R_rect_00": "R0_rect"},
    **{f"P_rect_0{camera}": f"P{camera}" for camera in range(4)},
}
_LINE = re.compile(r"\s*([A-Za-z]\w*)\s*[:=]?(.*)")
# The official files keep 7 digits; a rotation further off than this is a damaged file.
_ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class KittiCalibration:
    """The matrices of one KITTI calibration file; a ``ValueError`` if one has another shape."""

    P0: FloatArray | None  # projections of the cameras, (3, 4), pixels
    P1: FloatArray | None
    P2: FloatArray  # of the left color camera, to which labels belong
    P3: FloatArray | None
    R0_rect: FloatArray  # camera 0 to rectified camera 0, (3, 3)
    Tr_velo_to_cam: FloatArray  # LiDAR to camera 0, (3, 4), meters
    Tr_imu_to_velo: FloatArray | None = None  # inertial unit to LiDAR, (3, 4), meters

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
        """Rectified camera 0 to LiDAR, homogeneous, shape ``(4, 4)``: the exact inverse."""
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
    """Read and check one calibration file, lines of the form ``P2: 7.2e+02 0.0e+00 ...``.

    The names of KITTI's tracking benchmark and raw data are read too, and homogeneous matrices.

    Raises:
        DataError: with every defect of the file.
    """
    path = Path(path)
    matrices: dict[str, FloatArray] = {}
    problems: list[Problem] = []
    lines = read_lines(path, "a calibration file", "restore it from the data set")
    found: dict[str, list[tuple[str, int, str]]] = {}
    for number, line in enumerate(lines, start=1):
        if match := _LINE.match(line):
            name, values = match.groups()
            found.setdefault(_OTHER_NAMES.get(name, name), []).append((name, number, values))
    if "Tr_velo_to_cam" not in found and {"R", "T"} <= found.keys():
        found["Tr_velo_to_cam"] = _join_rotation_and_shift(found)
    for name, (rows, columns) in _SHAPES.items():
        for spelled, number, _ in found.get(name, [])[1:]:
            got, remedy = f"a second {spelled}", "keep one of the lines"
            problems.append(Problem(path, number, f"{name} once", got, remedy))
        if name in found:
            try:
                matrices[name] = _parse_matrix(path, name, *found[name][0])
            except DataError as error:
                problems += error.problems
        elif name not in _OPTIONAL:
            expected = f"a line '{name}:' with {rows * columns} numbers"
            problems.append(Problem(path, None, expected, *_explain_missing(name, found)))
    if problems:
        raise DataError(sorted(problems, key=lambda problem: problem.line or len(lines) + 1))
    return KittiCalibration(**{name: matrices.get(name) for name in _SHAPES})  # type: ignore[arg-type]


def _join_rotation_and_shift(
    found: dict[str, list[tuple[str, int, str]]],
) -> list[tuple[str, int, str]]:
    """Lines ``R:`` and ``T:`` of ``calib_velo_to_cam.txt`` as one of a matrix ``(3, 4)``."""
    pairs = []
    for (_, number, rotation), (_, _, shift) in zip(found["R"], found["T"], strict=False):
        words, shifts = rotation.split(), shift.split()
        for column, word in zip((3, 7, 11), shifts, strict=False):
            words.insert(column, word)
        pairs.append(("R and T", number, " ".join([*words, *shifts[3:]])))
    return pairs


def _explain_missing(name: str, found: dict[str, Any]) -> tuple[str, str]:
    """What is there in place of a matrix, and what to do."""
    restore = "restore the file from the data set"
    others = ", ".join(other for other in found if other not in _SHAPES)
    others = f", but {others}" if others else "" if found else ", nor any other matrix"
    spelled = {lines[0][0] for lines in found.values()}
    if name == "R0_rect" and "Tr" in spelled:
        return (
            f"no {name}, but Tr",
            "write R0_rect: 1 0 0 0 1 0 0 0 1, as Tr of odometry includes it",
        )
    if name == "Tr_velo_to_cam" and "P_rect_02" in spelled:
        return f"no {name}{others}", "append the lines R: and T: of calib_velo_to_cam.txt"
    if others.startswith(", but"):
        restore = f"give the line of this meaning this name, or {restore}"
    return f"no {name}{others}", restore


def _parse_matrix(path: Path, name: str, spelled: str, number: int, text: str) -> FloatArray:
    """Matrix of one line; raises with its defect."""
    rows, columns = _SHAPES[name]
    label = name if spelled == name else f"{name}, here {spelled}"
    expected = f"{rows * columns} finite numbers for {label}"
    remedy = "restore the line from the data set"
    words = split_words(text, path, number)
    try:
        values = np.array(words, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError(repr(words[int(np.argmin(np.isfinite(values)))]))
        if values.size not in (9, 12, 16):
            remedy = "write all numbers on the line of the name" if not words else remedy
            raise ValueError(f"{values.size} numbers")
        if name == "R0_rect" and values[9:].tolist() == [0, 0, 0, 0, 0, 0, 1]:
            values = values[:9]  # completed to 16 numbers at the end, not row by row
        matrix = values.reshape(4 if values.size == 16 else 3, -1)
        if values.size < rows * columns:
            remedy = "append a fourth number to each row, 0 where the camera is not shifted"
            raise ValueError("9 numbers, 3 x 3")
        if values.size > rows * columns:
            whole, matrix = homogeneous(matrix), matrix[:rows, :columns]
            if (whole != homogeneous(matrix)).any():
                remedy = f"write {rows} x {columns} numbers row by row, and no others"
                raise ValueError(f"{values.size} numbers, not of a homogeneous matrix")
        block = matrix[:, :3]
        if name.startswith("P"):
            expected = f"a projection {label}"
            if abs(np.linalg.det(block)) < np.finfo(np.float64).eps:
                raise ValueError("a projection that cannot be inverted")
        else:
            expected = f"a rotation in {label}"
            deviation = np.abs(block @ block.T - np.eye(3)).max()
            if deviation > _ROTATION_TOLERANCE or np.linalg.det(block) < 0:
                raise ValueError(f"a matrix that deviates from a rotation by {deviation:.3g}")
    except ValueError as error:
        raise DataError([Problem(path, number, expected, str(error), remedy)]) from error
    return matrix


def write_calibration(path: str | Path, calibration: KittiCalibration) -> None:
    """Write a calibration file atomically, twelve digits after the point; its folder must exist."""
    lines = [
        f"{name}: {' '.join(f'{value:.12e}' for value in matrix.ravel())}\n"
        for name, matrix in vars(calibration).items()
        if name in _SHAPES and matrix is not None
    ]
    write_atomically(Path(path), "".join(lines).encode())


def lidar_to_camera(points: AnyFloatArray, calibration: KittiCalibration) -> FloatArray:
    """Move points ``(N, 3)`` from the LiDAR frame to the rectified camera frame, float64."""
    return _transform(points, calibration.lidar_to_camera_matrix)


def camera_to_lidar(points: AnyFloatArray, calibration: KittiCalibration) -> FloatArray:
    """Move points ``(N, 3)`` from the rectified camera frame to the LiDAR frame, float64."""
    return _transform(points, calibration.camera_to_lidar_matrix)


def project_to_image(
    points: AnyFloatArray, calibration: KittiCalibration
) -> tuple[FloatArray, FloatArray]:
    """Return pixels ``(N, 2)`` and depth ``(N,)`` in camera 2 of points ``(N, 3)``, LiDAR frame.

    Pixels mean something only where the depth is positive.
    """
    projected = _transform(points, calibration.lidar_to_image_matrix)
    depth = projected[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return projected[:, :2] / depth[:, None], depth


def boxes_to_camera(
    boxes: AnyFloatArray, calibration: KittiCalibration
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Convert boxes from the LiDAR frame to the fields of a KITTI label.

    For the heading the vertical axes of both frames are taken to be parallel, as KITTI's labels do.

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
    boxes = boxes.astype(np.float64)
    location = lidar_to_camera(boxes[:, :3], calibration)
    return location, boxes[:, [5, 4, 3]], _convert_heading(boxes[:, 6])


def boxes_from_camera(
    location: AnyFloatArray,
    dimensions: AnyFloatArray,
    rotation_y: AnyFloatArray,
    calibration: KittiCalibration,
) -> FloatArray:
    """Convert the fields of KITTI labels to boxes of the LiDAR frame; undoes ``boxes_to_camera``.

    Args:
        location: bottom centers, camera frame, shape ``(N, 3)``, meters.
        dimensions: height, width, length, shape ``(N, 3)``, meters.
        rotation_y: shape ``(N,)``, radians.
        calibration: the matrices of the frame.

    Returns:
        ``(x, y, z, dx, dy, dz, yaw)``, ``z`` at the bottom, yaw in [-pi, pi), shape ``(N, 7)``.
    """
    sizes = dimensions.astype(np.float64)[:, [2, 1, 0]]
    yaw = _convert_heading(rotation_y.astype(np.float64))
    return np.concatenate([camera_to_lidar(location, calibration), sizes, yaw[:, None]], axis=1)


def _convert_heading(angle: FloatArray) -> FloatArray:
    """-angle - pi/2 in [-pi, pi): yaw to rotation_y, and (it is its own inverse) back."""
    wrapped: FloatArray = np.mod(-angle + np.pi / 2, 2 * np.pi) - np.pi
    # np.mod of a tiny negative number rounds to 2 pi.
    return np.where(wrapped >= np.pi, -np.pi, wrapped)


def _transform(points: AnyFloatArray, matrix: FloatArray) -> FloatArray:
    """Apply a ``(3, 4)`` or ``(4, 4)`` matrix to points ``(N, 3)``."""
    if points.ndim != 2 or points.shape[1] != 3:
        raise shape_error("points", "(N, 3) with columns (x, y, z)", points)
    moved: FloatArray = points.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    return moved
