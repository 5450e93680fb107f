"""All files of one KITTI frame, read, checked and brought together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.datasets.kitti_calibration import KittiCalibration, boxes_from_camera, read_calibration
from ebm3d.datasets.kitti_labels import DONT_CARE, KittiObjects, read_labels
from ebm3d.datasets.point_clouds import in_camera_view, read_cloud
from ebm3d.datasets.problems import DataError, Problem

# The host's order (KittiDataset.METAINFO): a label index in an info file is a place in this list.
CLASSES = ("Pedestrian", "Cyclist", "Car", "Van", "Truck", "Person_sitting", "Tram", "Misc")
# Of three quarters of the object set's pictures; taken where there is no picture.
DEFAULT_IMAGE_SIZE = (1242, 375)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class KittiFrame:
    """One frame of the KITTI layout, N objects.

    Attributes:
        frame_id: six digits, the stem of its files.
        calibration: its matrices.
        objects: its labels, DontCare among them.
        boxes: ``(x, y, z, dx, dy, dz, yaw)``, LiDAR frame, ``z`` at the bottom, shape ``(N, 7)``,
            float32; of no meaning for DontCare.
        num_points: points of the camera-view cloud in each box, shape ``(N,)``; -1 for DontCare.
        width: of the picture, pixels.
        height: of the picture, pixels.
        plane: ground plane in the camera frame, 4 numbers, or ``None``.
    """

    frame_id: str
    calibration: KittiCalibration
    objects: KittiObjects
    boxes: NDArray[np.float32]
    num_points: NDArray[np.int64]
    width: int
    height: int
    plane: tuple[float, ...] | None


@dataclass(frozen=True)
class FrameSource:
    """Where the files of the frames lie.

    Attributes:
        training: the folder with ``calib``, ``label_2`` and the clouds.
        reduced: whether the clouds are cut to the camera's view already (``velodyne_reduced``),
            or are full scans (``velodyne``).
    """

    training: Path
    reduced: bool

    @property
    def clouds(self) -> Path:
        """The folder of the clouds."""
        return self.training / ("velodyne_reduced" if self.reduced else "velodyne")


def read_frame(
    source: FrameSource, frame_id: str
) -> tuple[KittiFrame, NDArray[np.float32], NDArray[np.bool_]]:
    """Read and check all files of one frame.

    Args:
        source: where they lie.
        frame_id: the stem of the files.

    Returns:
        The frame; its cloud in the camera's view, shape ``(P, 4)``; and for each object which of
        these points lie in its box, shape ``(N, P)`` (none for DontCare).

    Raises:
        DataError: with every defect of all files of the frame.
    """
    problems: list[Problem] = []
    training = source.training

    def attempt(read: Callable[[], _T]) -> _T | None:
        """Run one reader; keep its problems for the common report."""
        try:
            return read()
        except DataError as error:
            problems.extend(error.problems)
            return None

    calibration = attempt(lambda: read_calibration(training / "calib" / f"{frame_id}.txt"))
    objects = attempt(lambda: _read_known_labels(training / "label_2" / f"{frame_id}.txt"))
    points = attempt(lambda: read_cloud(source.clouds / f"{frame_id}.bin"))
    size = attempt(lambda: _read_image_size(training / "image_2" / f"{frame_id}.png"))
    plane = attempt(lambda: _read_plane(training / "planes" / f"{frame_id}.txt"))
    if calibration is None or objects is None or points is None or size is None or problems:
        raise DataError(problems)
    if not source.reduced:
        points = points[in_camera_view(points, calibration, *size)]
        if not len(points):
            place = source.clouds / f"{frame_id}.bin"
            remedy = "check that cloud and calibration belong to the same frame"
            raise DataError([Problem(place, None, "points in the camera's view", "none", remedy)])
    cared = objects.names != DONT_CARE
    boxes = boxes_from_camera(
        objects.location, objects.dimensions, objects.rotation_y, calibration
    ).astype(np.float32)
    inside = np.zeros((len(objects), len(points)), dtype=np.bool_)
    inside[cared] = points_in_boxes(points, boxes[cared]).T
    frame = KittiFrame(
        frame_id=frame_id,
        calibration=calibration,
        objects=objects,
        boxes=boxes,
        num_points=np.where(cared, np.count_nonzero(inside, axis=1), -1),
        width=size[0],
        height=size[1],
        plane=plane,
    )
    return frame, points, inside


def _read_known_labels(path: Path) -> KittiObjects:
    """Read the labels and check the class names."""
    objects = read_labels(path, scores=False)
    known = (*CLASSES, DONT_CARE)
    problems = []
    if not np.isin(objects.names, known).all():
        lines = [n for n, line in enumerate(path.read_text().splitlines(), 1) if line.split()]
        for line, name in zip(lines, objects.names, strict=True):
            if name not in known:
                remedy = f"correct the name (mind the capitals), or name the object {DONT_CARE}"
                problems.append(Problem(path, line, f"one of {', '.join(known)}", name, remedy))
    if problems:
        raise DataError(problems)
    return objects


def _read_image_size(path: Path) -> tuple[int, int]:
    """Width and height from the header of a PNG, or the default where there is no picture."""
    try:
        with path.open("rb") as stream:
            header = stream.read(24)
    except FileNotFoundError:
        return DEFAULT_IMAGE_SIZE
    if len(header) < 24 or not header.startswith(_PNG_SIGNATURE):
        remedy = "copy the picture again, or remove it (none is needed)"
        raise DataError([Problem(path, None, "a PNG picture", "another or cut-off file", remedy)])
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def _read_plane(path: Path) -> tuple[float, ...] | None:
    """The plane a x + b y + c z + d = 0 on line 4 of a plane file, or None where there is none."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return None
    words = lines[3].split() if len(lines) > 3 else []
    try:
        plane = tuple(float(word) for word in words)
    except ValueError:
        plane = ()
    if len(plane) != 4 or not np.isfinite(plane).all():
        got = repr(" ".join(words)) if words else f"{len(lines)} lines"
        remedy = "make the file again, or remove the folder of planes (none is needed)"
        raise DataError([Problem(path, 4, "4 finite numbers of a plane", got, remedy)])
    return plane
