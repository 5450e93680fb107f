"""All files of one KITTI frame: read, checked and brought together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.datasets.cloud_source import CloudSource
from ebm3d.datasets.kitti_calibration import KittiCalibration, boxes_from_camera, read_calibration
from ebm3d.datasets.kitti_labels import DONT_CARE, KittiObjects, read_labels
from ebm3d.datasets.lidar_labels import AXES_ONLY, read_lidar_labels
from ebm3d.datasets.point_clouds import in_camera_view, read_cloud
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.datasets.text import read_lines, split_words

# The host's order (KittiDataset.METAINFO), which gives the label indices of info files.
CLASSES = ("Pedestrian", "Cyclist", "Car", "Van", "Truck", "Person_sitting", "Tram", "Misc")
FULL_FOLDER = "velodyne"  # full scans
REDUCED_FOLDER = "velodyne_reduced"  # clouds cut to the camera's view
POINTS_FOLDER = "points"  # of data without cameras, as custom data of other toolboxes
LABEL_FOLDERS = {POINTS_FOLDER: "labels", FULL_FOLDER: "label_2", REDUCED_FOLDER: "label_2"}
DEFAULT_IMAGE_SIZE = (1242, 375)  # where there is no image
# Labels turn about the camera's y axis and boxes about the LiDAR's z: the axes must agree.
MAX_CAMERA_TILT = np.pi / 4
SIDEWAYS_CAMERA = "the camera's y axis does not point down the LiDAR's z axis (an identity matrix?)"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class KittiFrame:
    """One frame of the KITTI layout, N objects.

    Args:
        frame_id: the stem of its files.
        calibration: its matrices.
        objects: its labels, DontCare among them.
        boxes: LiDAR frame, ``z`` at the bottom, ``(N, 7)``, float32; meaningless for DontCare.
        num_points: points of the camera-view cloud in each box, ``(N,)``; -1 for DontCare.
        image_size: width and height, pixels; ``None`` where there is no image.
        plane: ground plane in the camera frame, 4 numbers, or ``None``.
        box_origin: of labels in the LiDAR frame, with ``calibration`` ``AXES_ONLY``; else ``None``.
        intensities: smallest and largest of its points.
    """

    frame_id: str
    calibration: KittiCalibration
    objects: KittiObjects
    boxes: NDArray[np.float32]
    num_points: NDArray[np.int64]
    image_size: tuple[int, int] | None
    plane: tuple[float, ...] | None
    intensities: tuple[float, float]
    box_origin: str | None = None

    @property
    def lidar_only(self) -> bool:
        """Whether there is no camera."""
        return self.box_origin is not None

    @property
    def is_object(self) -> NDArray[np.bool_]:
        """Which labels are not DontCare, ``(N,)``."""
        return np.asarray(self.objects.names != DONT_CARE)


def read_frame(
    source: CloudSource, frame_id: str, origin: str | None = None
) -> tuple[KittiFrame, NDArray[np.float32], NDArray[np.bool_]]:
    """Read and check all files of one frame, in folders beside that of the clouds.

    With ``origin`` ("center" or "bottom") the labels are those of ``read_lidar_labels``, and there
    is no calibration, no image and no camera's view.

    Returns the frame; its cloud in the camera's view, ``(P, 4)``; and which of these points lie in
    each object's box, ``(N, P)`` (none for DontCare).

    Raises:
        DataError: with every defect of all files of the frame.
    """
    training, cloud = source.folder.parent, source.path(frame_id)
    labels = training / LABEL_FOLDERS[source.folder.name] / f"{frame_id}.txt"
    problems: list[Problem] = []

    def attempt(read: Callable[[Path], _T], path: Path) -> _T | None:
        """Run one reader; keep its problems for the common report."""
        try:
            return read(path)
        except DataError as error:
            problems.extend(error.problems)
            return None

    known = (*CLASSES, DONT_CARE)
    calibration: KittiCalibration | None = AXES_ONLY
    image_size, plane = None, None
    if origin is not None:
        objects = attempt(partial(read_lidar_labels, origin=origin, known_names=known), labels)
    else:
        calibration = attempt(read_calibration, training / f"calib/{frame_id}.txt")
        objects = attempt(partial(read_labels, scores=False, known_names=known), labels)
    points = attempt(partial(read_cloud, layout=source.layout), cloud)
    if origin is None:
        image_size = attempt(_read_image_size, training / f"image_2/{frame_id}.png")
        plane = attempt(_read_plane, training / f"planes/{frame_id}.txt")
    if calibration is None or objects is None or points is None or problems:
        raise DataError(problems)
    if source.folder.name != REDUCED_FOLDER and origin is None:
        points = points[in_camera_view(points, calibration, *(image_size or DEFAULT_IMAGE_SIZE))]
        if not len(points):
            remedy = "check that cloud and calibration belong to the same frame"
            if camera_tilt(calibration) > MAX_CAMERA_TILT:
                remedy = f"correct the calibration: {SIDEWAYS_CAMERA}"
            raise DataError([Problem(cloud, None, "points in the camera's view", "none", remedy)])
    boxes = boxes_from_camera(
        objects.location, objects.dimensions, objects.rotation_y, calibration
    ).astype(np.float32)
    is_object = objects.names != DONT_CARE
    inside = np.zeros((len(objects), len(points)), dtype=np.bool_)
    inside[is_object] = points_in_boxes(points, boxes[is_object]).T
    num_points = np.where(is_object, np.count_nonzero(inside, axis=1), -1)
    intensities = (float(points[:, 3].min()), float(points[:, 3].max()))
    frame = KittiFrame(
        *(frame_id, calibration, objects, boxes, num_points, image_size, plane),
        *(intensities, origin),
    )
    return frame, points, inside


def camera_tilt(calibration: KittiCalibration) -> float:
    """Angle between the camera's y axis and the LiDAR's downward axis, radians."""
    return float(np.arccos(np.clip(-calibration.lidar_to_camera_matrix[1, 2], -1.0, 1.0)))


def _read_image_size(path: Path) -> tuple[int, int] | None:
    """Width and height from the header of a PNG, or None where there is no image."""
    try:
        with path.open("rb") as stream:
            header = stream.read(24)
    except FileNotFoundError:
        return None
    if len(header) < 24 or not header.startswith(_PNG_SIGNATURE):
        remedy = "copy the image again, or remove it (none is needed)"
        raise DataError([Problem(path, None, "a PNG image", "another or cut-off file", remedy)])
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def _read_plane(path: Path) -> tuple[float, ...] | None:
    """The plane a x + b y + c z + d = 0 on a file's last line, or None where there is none."""
    if not path.exists():
        return None
    expected = "4 finite numbers of a plane"
    remedy = "make the file again, or remove the folder of planes (none is needed)"
    lines = read_lines(path, expected, remedy)
    number = max((i for i, line in enumerate(lines, start=1) if line.strip()), default=0)
    words = split_words(lines[number - 1], path, number) if number else []
    try:
        plane = tuple(float(word) for word in words)
    except ValueError:
        plane = ()
    if len(plane) != 4 or not np.isfinite(plane).all():
        got = repr(" ".join(words))
        raise DataError([Problem(path, number or None, expected, got, remedy)])
    return plane
