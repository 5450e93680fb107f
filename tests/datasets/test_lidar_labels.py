"""Labels in the LiDAR frame, and data without cameras and calibration."""

from __future__ import annotations

import io
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebm3d.datasets import (
    CloudLayout,
    DataError,
    boxes_from_camera,
    column_names,
    prepare_kitti,
)
from ebm3d.datasets.lidar_labels import AXES_ONLY, read_lidar_labels
from tests.datasets.scenes import FRAMES, Scenes, write_custom, write_kitti

_BOX = [10.5, -4.25, -0.5, 3.9, 1.6, 1.5, 0.75]
_OPENPCDET = "10.5 -4.25 -0.5 3.9 1.6 1.5 0.75 Car"
LINES = {
    "name last": _OPENPCDET,
    "name first": "Car 10.5 -4.25 -0.5 3.9 1.6 1.5 0.75",
    "KITTI's columns": "Car 0.1 2 0 0 0 0 0 1.5 1.6 3.9 10.5 -4.25 -0.5 0.75",
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize(("origin", "bottom"), [("center", -1.25), ("bottom", -0.5)])
def test_every_line_gives_its_box(tmp_path: Path, line: str, origin: str, bottom: float) -> None:
    path = tmp_path / "000000.txt"
    path.write_text(f"\n{LINES[line]}\n")
    objects = read_lidar_labels(path, origin)
    fields = (objects.location, objects.dimensions, objects.rotation_y)
    expected = [*_BOX[:2], bottom, *_BOX[3:]]
    np.testing.assert_allclose(boxes_from_camera(*fields, AXES_ONLY), [expected], atol=1e-12)
    assert objects.names.tolist() == ["Car"]
    assert not objects.bbox.any()
    assert objects.occluded.tolist() == [2 if line == "KITTI's columns" else 0]


def test_an_empty_file_is_a_frame_without_objects(tmp_path: Path) -> None:
    (tmp_path / "000000.txt").write_text("")
    assert len(read_lidar_labels(tmp_path / "000000.txt")) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (_OPENPCDET + " 0.9", ":1: expected 8 columns .*9 columns; write the line as: x y z"),
        ("Large Car " + _OPENPCDET[:-4], "no spaces in class names"),
        (_OPENPCDET.replace("3.9", "nan"), "finite numbers.*'nan'"),
        (_OPENPCDET.replace("1.6", "one"), "finite numbers.*'one'"),
        (_OPENPCDET.replace("1.5 0", "0 0"), "positive sizes.*height 0.0"),
        (_OPENPCDET.replace("Car", "Vehicle"), "one of Car, Van, but got Vehicle; give the class"),
    ],
)
def test_a_defective_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "000000.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        read_lidar_labels(tmp_path / "000000.txt", known_names=("Car", "Van"))


def _infos(root: Path, split: str = "train") -> dict[str, Any]:
    return pickle.loads((root / f"kitti_infos_{split}.pkl").read_bytes())


def _boxes(infos: dict[str, Any]) -> np.ndarray:
    """Boxes of the LiDAR frame, as the host computes them, and their points."""
    rows = []
    for info in infos["data_list"]:
        to_lidar = np.linalg.inv(info["images"]["CAM2"]["lidar2cam"])
        for instance in info["instances"]:
            x, y, z, length, height, width, angle = instance["bbox_3d"]
            center = to_lidar @ [x, y, z, 1]
            yaw = np.angle(np.exp(1j * (-angle - np.pi / 2)))
            rows.append([*center[:3], length, width, height, yaw, instance["num_lidar_pts"]])
    return np.array(rows)


@pytest.mark.parametrize("folders", ["points", "training"])
def test_data_without_calibration_give_the_boxes_of_the_kitti_layout(
    tmp_path: Path, scenes: Scenes, folders: str
) -> None:
    kitti = write_kitti(tmp_path / "kitti", scenes)
    custom = write_custom(tmp_path / "custom", scenes, lambda boxes: boxes)
    if folders == "training":
        (custom / "training").mkdir()
        (custom / "points").rename(custom / "training" / "velodyne")
        (custom / "labels").rename(custom / "training" / "label_2")
    prepare_kitti(kitti)
    report = prepare_kitti(custom, out=tmp_path / "out", calibration=False)
    assert report.lidar_only
    assert not report.warnings
    for split in ("train", "val"):
        infos = _infos(tmp_path / "out", split)
        np.testing.assert_allclose(_boxes(infos), _boxes(_infos(kitti, split)), atol=1e-5)
        assert infos["metainfo"]["lidar_only"] is True
        assert "lidar_only" not in _infos(kitti, split)["metainfo"]
        for info in infos["data_list"]:
            assert (info["images"]["CAM2"]["width"], info["images"]["CAM2"]["height"]) == (0, 0)
            assert all(i["bbox"] == [0] * 4 for i in info["instances"])
            assert all(i["difficulty"] == 0 for i in info["instances"])


def _npy(points: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, points)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("suffix", "change", "layout", "note"),
    [
        (".npy", _npy, None, ""),
        (".pcd.bin", lambda p: np.insert(p, 4, 7, axis=1).tobytes(), None, "ring left out"),
        (
            ".bin",
            lambda p: np.insert(p * np.float32([1, 1, 1, 256]), 3, 7, axis=1).tobytes(),
            CloudLayout(column_names("x,y,z,ring,intensity"), "float32", 256.0),
            "ring left out",
        ),
    ],
)
def test_data_without_calibration_may_have_clouds_of_any_layout(
    tmp_path: Path,
    scenes: Scenes,
    suffix: str,
    change: Callable[[np.ndarray], bytes],
    layout: CloudLayout | None,
    note: str,
) -> None:
    """The ids of the lists have fewer digits than the files."""
    root = write_custom(tmp_path / "data", scenes, lambda boxes: boxes)
    prepare_kitti(root, out=tmp_path / "standard", calibration=False)
    for frame_id, (_, _, points) in scenes.items():
        (root / "points" / f"{frame_id}.bin").unlink()
        (root / "points" / f"{frame_id}{suffix}").write_bytes(change(points))
    (root / "ImageSets" / "train.txt").write_text("0 1 2\n")
    report = prepare_kitti(root, out=tmp_path / "other", calibration=False, cloud_layout=layout)
    assert note in str(report.warnings)
    assert len(report.warnings) == bool(note)
    for path in (tmp_path / "standard").rglob("*"):
        if path.suffix in (".bin", ".pkl") and "points" not in path.parts:
            other = tmp_path / "other" / path.relative_to(tmp_path / "standard")
            assert other.read_bytes() == path.read_bytes()


def test_points_all_around_are_kept(tmp_path: Path, scenes: Scenes) -> None:
    """A scene in front and the same scene turned by pi about the sensor."""
    turn = np.array([-1, -1, 1])
    around = {
        frame_id: (
            names * 2,
            np.concatenate(
                [boxes, np.column_stack([boxes[:, :3] * turn, boxes[:, 3:6], boxes[:, 6] + np.pi])]
            ),
            np.concatenate([points, points * np.float32([-1, -1, 1, 1])]),
        )
        for frame_id, (names, boxes, points) in scenes.items()
    }
    root = write_custom(tmp_path / "data", around, lambda boxes: boxes)
    prepare_kitti(root, calibration=False)
    for frame_id in FRAMES:
        written = (root / "training" / "velodyne_reduced" / f"{frame_id}.bin").read_bytes()
        assert written == around[frame_id][2].tobytes()
    boxes = _boxes(_infos(root))
    assert (boxes[:, 0] < 0).sum() == (boxes[:, 0] > 0).sum() == len(boxes) / 2
    assert boxes[:, 7].min() > 0


def test_folders_that_are_missing_are_one_defect_with_the_option_that_fits(
    tmp_path: Path, scenes: Scenes
) -> None:
    kitti = write_kitti(tmp_path / "kitti", scenes)
    shutil.rmtree(kitti / "training" / "calib")
    with pytest.raises(DataError, match=r"calib.*--no-calibration") as caught:
        prepare_kitti(kitti)
    assert len(caught.value.problems) == 1
    custom = write_custom(tmp_path / "custom", scenes, lambda boxes: boxes)
    with pytest.raises(DataError, match=r"points; give --no-calibration"):
        prepare_kitti(custom)
    shutil.rmtree(custom / "labels")
    with pytest.raises(DataError, match="a folder of labels"):
        prepare_kitti(custom, calibration=False)
    with pytest.raises(ValueError, match="box_origin"):
        prepare_kitti(custom, calibration=False, box_origin="top")
