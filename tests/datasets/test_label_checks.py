"""Labels that do not fit their clouds are refused with what they look like; others are not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ebm3d.datasets import (
    DataError,
    KittiCalibration,
    KittiObjects,
    PreparationReport,
    boxes_from_camera,
    prepare_kitti,
    read_labels,
)
from ebm3d.datasets.cloud_source import CloudSource
from ebm3d.datasets.frame_files import read_frame
from ebm3d.datasets.label_checks import check_labels
from ebm3d.datasets.label_table import LabelTable
from tests.datasets.scenes import (
    CALIBRATION,
    FRAMES,
    Scenes,
    write_custom,
    write_kitti,
)

Change = Callable[[KittiObjects], KittiObjects]


def _lidar(objects: KittiObjects, shift: float = 0.0, *, converted: bool = True) -> KittiObjects:
    fields = (objects.location, objects.dimensions, objects.rotation_y)
    boxes = boxes_from_camera(*fields, CALIBRATION)
    location = boxes[:, :3] + np.outer(boxes[:, 5], [0, 0, shift])
    yaw = boxes[:, 6] if converted else objects.rotation_y
    return replace(objects, location=location, rotation_y=yaw)


def _sized(order: list[int]) -> Change:
    return lambda objects: replace(objects, dimensions=objects.dimensions[:, order])


def _turned(turn: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda objects: replace(objects, rotation_y=turn(objects.rotation_y))


def _scaled(location: float, size: float) -> Change:
    return lambda objects: replace(
        objects, location=objects.location * location, dimensions=objects.dimensions * size
    )


def _raised(share: float, meters: float = 0.0) -> Change:
    return lambda objects: replace(
        objects,
        location=objects.location
        - np.outer(share * objects.dimensions[:, 0] + meters, [0.0, 1.0, 0.0]),
    )


WRONG: dict[str, tuple[Change, str]] = {
    "LiDAR frame, bottom": (_lidar, "LiDAR frame, z at the bottom.*--box-origin bottom"),
    "LiDAR frame, center": (lambda o: _lidar(o, 0.5), "z at the center.*--box-origin center"),
    "LiDAR frame, rotation_y": (lambda o: _lidar(o, converted=False), "in the LiDAR frame"),
    "y of the center": (_raised(0.5), "half their height too high.*bottom face"),
    "y of the top": (_raised(1.0), "too high"),
    "origin on the ground": (_raised(0.0, 1.73), r"1\.\d+ m too high.*one origin"),
    "degrees": (_turned(np.degrees), "look like degrees.*pi / 180"),
    "degrees of one class": (
        lambda o: replace(
            o, rotation_y=np.where(o.names == "Van", 180 + 0 * o.rotation_y, o.rotation_y)
        ),
        r"5 of 30 \(Van\).*look like degrees",
    ),
    "degrees from 0 to 360": (_turned(lambda a: np.degrees(a) % 360), "look like degrees"),
    "two turns": (_turned(lambda a: a + 4 * np.pi), "beyond 2 pi"),
    "yaw of the LiDAR frame": (_turned(lambda a: -a - np.pi / 2), "-yaw - pi/2"),
    "a quarter turn": (_turned(lambda a: a + np.pi / 2), "off by 90 degrees"),
    "mirrored headings": (_turned(lambda a: -a), "sense of rotation"),
    "width and length": (_sized([0, 2, 1]), "width and length exchanged.*height, width, length"),
    "height and length": (_sized([2, 1, 0]), "height and length exchanged"),
    "l h w": (_sized([2, 0, 1]), "what looks like (height|width), .*in place of"),
    "centimeters": (_scaled(100, 100), "look like centimeters"),
    "feet": (_scaled(1 / 0.3048, 1 / 0.3048), "look like feet"),
    "sizes in millimeters": (_scaled(1, 1000), "look like millimeters"),
    "locations in centimeters": (_scaled(100, 1), "locations in centimeters.*write meters"),
}


@pytest.mark.parametrize("case", WRONG)
def test_labels_that_miss_the_cloud_are_refused_with_what_they_look_like(
    tmp_path: Path, scenes: Scenes, case: str
) -> None:
    change, message = WRONG[case]
    root = write_kitti(tmp_path / "data", scenes, change)
    with pytest.raises(DataError, match=message):
        prepare_kitti(root)
    assert not (root / "kitti_infos_train.pkl").exists()


@pytest.mark.parametrize("num_wrong", [1, 2])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_sized([0, 2, 1]), "width and length"),
        (_turned(lambda a: -a - np.pi / 2), "-yaw - pi/2"),
        (_lidar, "LiDAR frame, z at the bottom"),
        (_raised(0.0, 1.73), "too high"),
    ],
)
def test_frames_written_in_another_way_are_told_from_the_rest(
    tmp_path: Path, scenes: Scenes, change: Change, message: str, num_wrong: int
) -> None:
    root = write_kitti(tmp_path / "data", scenes)
    wrong = write_kitti(tmp_path / "wrong", scenes, change)
    for frame_id in FRAMES[:num_wrong]:
        label = f"training/label_2/{frame_id}.txt"
        (root / label).write_bytes((wrong / label).read_bytes())
    try:
        got = [problem.got for problem in prepare_kitti(root).warnings]
        assert num_wrong == 1
    except DataError as error:
        got = [problem.got for problem in error.problems]
        assert num_wrong == 2
    assert re.search(f"{message}.*some of the labels, as in frame 00000[01]", got[0])


@pytest.mark.parametrize("step", [-1, 1])
def test_the_labels_of_other_frames_are_refused(tmp_path: Path, scenes: Scenes, step: int) -> None:
    root = write_kitti(tmp_path / "data", scenes)
    labels = [root / "training" / "label_2" / f"{frame_id}.txt" for frame_id in FRAMES]
    texts = [path.read_text() for path in labels]
    for path, text in zip(labels, np.roll(np.array(texts, dtype=object), step), strict=True):
        path.write_text(text)
    side = {1: "before", -1: "after"}[step]
    with pytest.raises(DataError, match=f"labels of the frame {side}.*name of its cloud"):
        prepare_kitti(root)


@pytest.mark.parametrize("labels_in_lidar_frame", [False, True])
def test_a_calibration_of_identity_matrices_is_refused(
    tmp_path: Path, scenes: Scenes, labels_in_lidar_frame: bool
) -> None:
    identity = KittiCalibration(*(np.eye(3, 4),) * 4, np.eye(3), np.eye(3, 4))
    change = _lidar if labels_in_lidar_frame else lambda objects: objects
    root = write_kitti(tmp_path / "data", scenes, change, identity)
    with pytest.raises(DataError, match=r"calib.*identity matrix.*--no-calibration"):
        prepare_kitti(root)


def test_labels_may_be_taken_unchecked(tmp_path: Path, scenes: Scenes) -> None:
    root = write_kitti(tmp_path / "data", scenes, _sized([0, 2, 1]))
    (warning,) = prepare_kitti(root, unchecked_labels=True).warnings
    assert "width and length" in warning.got
    assert (root / "kitti_infos_train.pkl").exists()


LEGITIMATE: dict[str, tuple[Change, str]] = {
    "as they are": (lambda objects: objects, ""),
    "heading flipped by pi": (_turned(lambda a: a + np.pi), ""),
    "pedestrians, width and length exchanged": (
        lambda o: _sized([0, 2, 1])(_scaled(1, 1.2)(o.select(o.names == "Pedestrian"))),
        "",
    ),
    "loose boxes": (_scaled(1, 1.2), ""),
    "heading across, as in earlier versions of the host": (
        lambda o: _turned(lambda a: a + np.pi / 2)(_sized([0, 2, 1])(o)),
        "a width beyond the length",
    ),
    "half extents": (_scaled(1, 0.5), "look like half extents"),
    "twice the extents": (_scaled(1, 2), "look like twice the extents"),
    "every object twice": (lambda o: o.select(np.repeat(np.arange(len(o)), 2)), "30 of 60 equal"),
    "one class beside its points": (
        lambda o: replace(
            o, location=o.location + np.outer(o.names == "Pedestrian", [0.0, 0.0, -30.0])
        ),
        "5 of 5 Pedestrian without",
    ),
    "2D boxes of left, top, width, height": (
        lambda o: replace(o, bbox=np.tile([500.0, 150.0, 60.0, 80.0], (len(o), 1))),
        "as of left, top, width, height",
    ),
    "no 2D boxes": (lambda o: replace(o, bbox=0 * o.bbox), "30 of 30 without"),
    "2D boxes of -1": (lambda o: replace(o, bbox=0 * o.bbox - 1), "30 of 30 without"),
    "2D boxes of equal corners": (
        lambda o: replace(o, bbox=o.bbox[:, [0, 1, 0, 1]]),
        "30 of 30 without",
    ),
    "2D boxes of the unit square": (lambda o: replace(o, bbox=o.bbox / 1242), "leaves out all"),
    "no objects": (lambda o: o.select(np.zeros(0, dtype=np.int64)), "none in all frames"),
}


@pytest.mark.parametrize("case", LEGITIMATE)
def test_labels_that_may_be_right_are_taken_with_a_word(
    tmp_path: Path, scenes: Scenes, case: str
) -> None:
    change, message = LEGITIMATE[case]
    report = prepare_kitti(write_kitti(tmp_path / "data", scenes, change))
    got = [problem.got for problem in report.warnings]
    assert len(got) == bool(message)
    assert not message or message in got[0]


def test_objects_without_2d_boxes_are_judged_by_occlusion_and_truncation(
    tmp_path: Path, scenes: Scenes
) -> None:
    def change(objects: KittiObjects) -> KittiObjects:
        occluded = np.arange(len(objects)) % 4
        return replace(objects, bbox=0 * objects.bbox, occluded=occluded)

    report = prepare_kitti(write_kitti(tmp_path / "data", scenes, change))
    assert report.classes["Car"].difficulties == (5, 5, 5, 0)
    assert report.classes["Van"].difficulties == (0, 0, 0, 5)


def test_the_summary_gives_the_figures_of_each_class(tmp_path: Path, scenes: Scenes) -> None:
    report: PreparationReport = prepare_kitti(write_kitti(tmp_path / "data", scenes))
    cars = np.concatenate([boxes[:3] for _, boxes, _ in scenes.values()])
    summary = report.classes["Car"]
    np.testing.assert_allclose(summary.size, np.median(cars[:, 3:6], axis=0), atol=1e-5)
    assert (summary.number, summary.num_empty) == (15, 0)
    assert summary.num_points >= 100
    assert -np.pi <= summary.angles[0] < summary.angles[1] <= np.pi
    assert summary.difficulties == (15, 0, 0, 0)


def test_validation_classes_that_training_lacks_are_named(tmp_path: Path, scenes: Scenes) -> None:
    root = write_kitti(tmp_path / "data", scenes)
    for frame_id in FRAMES[:-2]:
        path = root / "training" / "label_2" / f"{frame_id}.txt"
        path.write_text(path.read_text().replace("Car", "Van"))
    (warning,) = prepare_kitti(root).warnings
    assert warning.expected == "a Car in the training frames"
    assert "Van (12)" in warning.got


def _moved(order: list[int], signs: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    def change(boxes: np.ndarray) -> np.ndarray:
        ahead = np.column_stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])])[:, order] * signs
        yaw = np.arctan2(ahead[:, 1], ahead[:, 0])
        return np.column_stack([boxes[:, order] * signs, boxes[:, 2:6], yaw])

    return change


def _camera(boxes: np.ndarray) -> np.ndarray:
    x, y, z, _, _, height, yaw = boxes.T
    return np.column_stack([-y, -(z - height / 2), x, boxes[:, 3:6], -yaw - np.pi / 2])


WRONG_CUSTOM: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "z of the bottom": (
        lambda b: b - np.outer(b[:, 5], [0, 0, 0.5, 0, 0, 0, 0]),
        "half their height too low.*--box-origin bottom",
    ),
    "camera axes": (_camera, "camera axes.*prepare without --no-calibration"),
    "y to the right": (_moved([0, 1], [1, -1]), "y axis points right.*y left"),
    "y forward": (_moved([1, 0], [-1, 1]), "turned by 90 degrees"),
    "x back": (_moved([0, 1], [-1, -1]), "turned by 180 degrees"),
    "degrees": (lambda b: b * [*[1] * 6, 180 / np.pi], "look like degrees"),
    "rotation_y": (lambda b: np.column_stack([b[:, :6], -b[:, 6] - np.pi / 2]), "write the yaw"),
    "h w l": (lambda b: b[:, [0, 1, 2, 5, 4, 3, 6]], "height and length exchanged.*dx dy dz"),
    "w l h": (lambda b: b[:, [0, 1, 2, 4, 3, 5, 6]], "width and length exchanged.*dx dy dz"),
}


@pytest.mark.parametrize("case", WRONG_CUSTOM)
def test_lidar_labels_that_miss_the_cloud_are_refused(
    tmp_path: Path, scenes: Scenes, case: str
) -> None:
    change, message = WRONG_CUSTOM[case]
    root = write_custom(tmp_path / "data", scenes, change)
    with pytest.raises(DataError, match=message):
        prepare_kitti(root, calibration=False)


@pytest.mark.parametrize(("scale", "message"), [(3.28, "a cloud in feet"), (100, "to meters")])
def test_clouds_in_other_units_are_told(
    tmp_path: Path, scenes: Scenes, scale: float, message: str
) -> None:
    scaled = {
        frame_id: (names, boxes, points * np.float32([scale, scale, scale, 1]))
        for frame_id, (names, boxes, points) in scenes.items()
    }
    root = write_custom(tmp_path / "data", scaled, lambda boxes: boxes)
    with pytest.raises(DataError, match=message):
        prepare_kitti(root, calibration=False)


@pytest.mark.slow
def test_no_part_of_real_data_is_refused(shared_data: Path, rng: np.random.Generator) -> None:
    """All frames, and random sets of one to five."""
    training = shared_data / "kitti_mini" / "training"
    ids = sorted(path.stem for path in (training / "label_2").glob("*.txt"))
    clouds = CloudSource(training / "velodyne_reduced")
    read = {frame_id: read_frame(clouds, frame_id) for frame_id in ids}
    sets = [ids, *(rng.choice(ids, 1 + i % 5, replace=False).tolist() for i in range(30))]
    for chosen in sets:
        frames = {frame_id: read[frame_id][0] for frame_id in chosen}
        table = LabelTable.of_frames(list(frames.values()))
        errors, warnings = check_labels(frames, table, training, lambda i: read[i][1])
        assert not errors, errors
        assert all("judge" in problem.expected for problem in warnings), warnings


def test_written_labels_are_read_back(tmp_path: Path, scenes: Scenes) -> None:
    """The oracle of this file: what is written is what the scenes hold."""
    root = write_kitti(tmp_path / "data", scenes)
    objects = read_labels(root / "training" / "label_2" / "000000.txt")
    fields = (objects.location, objects.dimensions, objects.rotation_y)
    np.testing.assert_allclose(
        boxes_from_camera(*fields, CALIBRATION), scenes["000000"][1], atol=1e-5
    )
