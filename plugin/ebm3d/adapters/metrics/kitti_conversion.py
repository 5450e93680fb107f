"""Between the host's info files and predictions, and KITTI labels and results.

N objects of one frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
from mmengine.fileio import load
from numpy.typing import NDArray

from ebm3d.datasets.kitti_calibration import KittiCalibration, boxes_to_camera
from ebm3d.datasets.kitti_frames import KittiFrames, stack_frames
from ebm3d.datasets.kitti_labels import KittiObjects
from ebm3d.errors import input_error
from ebm3d.evaluation.matching_problem import has_images

FloatArray = NDArray[np.float64]

# Signs of the eight corners along length, height (from the bottom up) and width.
_CORNERS = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (0.0, -1.0) for z in (-0.5, 0.5)])


class Split(NamedTuple):
    """Frames of a split in the order of their ids: predictions, infos by id, and labels."""

    frames: dict[str, dict[str, Any]]
    infos: dict[str, Mapping[str, Any]]
    labels: KittiFrames
    uses_image: bool
    num_frames_left_out: int  # of the info file, without predictions


def frame_id_of(path: str) -> str:
    """Return the frame id of a file of the KITTI layout: its stem.

    The host overwrites ``sample_idx`` with the position in the data set, so files are what
    identifies a frame.
    """
    return PurePath(path).stem


def labels_of_info(info: Mapping[str, Any], names: Mapping[int, str]) -> KittiObjects:
    """Return the labels of one frame of an info file (version 1.1 of the host).

    Args:
        info: an entry of ``data_list``, with ``instances``.
        names: class names by label index.

    Returns:
        The labels, DontCare regions included.
    """
    instances = info["instances"]

    def column(name: str, width: int) -> FloatArray:
        values = [instance[name] for instance in instances]
        return np.array(values, dtype=np.float64).reshape((len(instances), width))

    boxes = column("bbox_3d", 7)
    return KittiObjects(
        names=np.array([names[i["bbox_label"]] for i in instances], dtype=np.str_),
        truncated=column("truncated", 1)[:, 0],
        occluded=column("occluded", 1)[:, 0].astype(np.int64),
        alpha=column("alpha", 1)[:, 0],
        bbox=column("bbox", 4),
        dimensions=boxes[:, [4, 5, 3]],
        location=boxes[:, :3],
        rotation_y=boxes[:, 6],
    )


def read_split(
    results: Sequence[dict[str, Any]], ann_file: str, backend_args: dict[str, Any] | None = None
) -> Split:
    """Join predictions, with ``frame_id``, with the frames of an info file.

    Raises:
        ValueError: if a frame is not in the info file, or clouds of it have one name.
    """
    infos = load(ann_file, backend_args=backend_args)
    paths = {info["lidar_points"]["lidar_path"]: info for info in infos["data_list"]}
    by_frame = {frame_id_of(path): info for path, info in paths.items()}
    if len(by_frame) < len(paths):
        twice = Counter(map(frame_id_of, paths)).most_common(1)[0][0]
        remedy = "frames are identified by the name of their cloud: rename the clouds"
        got = f"{len(paths)} clouds of {len(by_frame)} names, {twice!r} more than once"
        raise input_error(f"clouds of {ann_file}", "named differently", got, remedy)
    names = {label: name for name, label in infos["metainfo"]["categories"].items()}
    names.setdefault(-1, "DontCare")
    # Sorted, so that sums are rounded the same whatever the order of the frames.
    frames = {r["frame_id"]: r for r in sorted(results, key=lambda r: r["frame_id"])}
    unknown = [frame_id for frame_id in frames if frame_id not in by_frame]
    if unknown:
        got = f"{len(unknown)} others, first {unknown[0]!r}"
        remedy = "give the metric the ann_file of the data set that is evaluated"
        raise input_error("frames", f"among those of {ann_file}", got, remedy)
    chosen = {frame_id: by_frame[frame_id] for frame_id in frames}
    labels = {frame_id: labels_of_info(info, names) for frame_id, info in chosen.items()}
    stacked = stack_frames(labels, scores=False)
    uses_image = not infos["metainfo"].get("lidar_only", False) and has_images(stacked)
    return Split(frames, chosen, stacked, uses_image, len(by_frame) - len(frames))


def points_of_info(info: Mapping[str, Any]) -> NDArray[np.int64]:
    """Return the number of LiDAR points in each label's box, shape ``(N,)``; -1 where unknown."""
    counts = [instance.get("num_lidar_pts", -1) for instance in info["instances"]]
    return np.array(counts, dtype=np.int64)


def calibration_of_info(info: Mapping[str, Any], camera: str) -> KittiCalibration:
    """Return the matrices of one camera of an info file as a calibration.

    Args:
        info: an entry of ``data_list``.
        camera: key of ``images``, ``"CAM2"`` for KITTI.

    Returns:
        A calibration whose rectification is part of ``Tr_velo_to_cam``, and whose four projections
        are those of ``camera``.

    Raises:
        ValueError: if the info has no such camera.
    """
    if camera not in info["images"]:
        raise input_error("default_cam_key", f"among {sorted(info['images'])}", repr(camera))
    image = info["images"][camera]
    projection = np.array(image["cam2img"], dtype=np.float64)[:3, :4]
    to_camera = np.array(image["lidar2cam"], dtype=np.float64)[:3, :4]
    return KittiCalibration(projection, projection, projection, projection, np.eye(3), to_camera)


def detections_of_boxes(
    boxes: FloatArray,
    scores: FloatArray,
    names: Sequence[str],
    calibration: KittiCalibration,
    image_size: tuple[int, int],
) -> KittiObjects:
    """Return boxes of the LiDAR frame as KITTI results.

    The 2D box is the smallest around the projection of the eight corners, clipped to the picture.
    Corners behind the camera are projected like the others, as the host does; a box whose center
    lies there has a 2D box of zeros.

    Args:
        boxes: ``(x, y, z, dx, dy, dz, yaw)``, ``z`` at the bottom, shape ``(N, 7)``.
        scores: shape ``(N,)``.
        names: class names, length N.
        calibration: of the frame.
        image_size: width and height, pixels.

    Returns:
        The results, in the order of ``boxes``. The 2D box of one that lies outside the picture
        has no area.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape((-1, 7))
    location, dimensions, rotation_y = boxes_to_camera(boxes, calibration)
    with np.errstate(divide="ignore", invalid="ignore"):  # corners in the camera's plane
        bbox = project_boxes(location, dimensions, rotation_y, calibration.P2)
    bbox[(location[:, 2] <= 0) | np.isnan(bbox).any(axis=1)] = 0.0
    alpha = rotation_y - np.arctan2(location[:, 0], location[:, 2])
    unknown = np.full(len(boxes), -1)
    return KittiObjects(
        names=np.array(list(names), dtype=np.str_),
        truncated=unknown.astype(np.float64),
        occluded=unknown.astype(np.int64),
        alpha=(alpha + np.pi) % (2 * np.pi) - np.pi,
        bbox=np.clip(bbox, 0.0, np.tile(np.asarray(image_size, dtype=np.float64), 2)),
        dimensions=dimensions,
        location=location,
        rotation_y=rotation_y,
        score=np.asarray(scores, dtype=np.float64),
    )


def project_boxes(
    location: FloatArray, dimensions: FloatArray, rotation_y: FloatArray, projection: FloatArray
) -> FloatArray:
    """Return the smallest 2D boxes around the projected corners, not clipped.

    Args:
        location: centers of the bottom faces, camera frame, shape ``(N, 3)``.
        dimensions: height, width, length, shape ``(N, 3)``.
        rotation_y: shape ``(N,)``.
        projection: shape ``(3, 4)``.

    Returns:
        Left, top, right, bottom, shape ``(N, 4)``, pixels.
    """
    local = _CORNERS * dimensions[:, None, [2, 0, 1]]
    cos_yaw, sin_yaw = np.cos(rotation_y)[:, None], np.sin(rotation_y)[:, None]
    corners = location[:, None] + np.stack(
        [
            cos_yaw * local[..., 0] + sin_yaw * local[..., 2],
            local[..., 1],
            cos_yaw * local[..., 2] - sin_yaw * local[..., 0],
        ],
        axis=-1,
    )
    projected = corners @ projection[:, :3].T + projection[:, 3]
    pixels = projected[..., :2] / projected[..., 2:]
    return np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], axis=1)
