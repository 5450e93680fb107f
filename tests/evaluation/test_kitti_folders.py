"""Bad input is named with file and line; what was done about oddities is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ebm3d.datasets import DataError, KittiObjects, write_labels
from ebm3d.evaluation import read_folders
from ebm3d.evaluation.kitti_folders import count_points
from tests.evaluation.scenes import make_objects


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three labeled frames, each with a result."""
    labels, results = tmp_path / "label_2", tmp_path / "results"
    for folder, scores in ((labels, False), (results, True)):
        folder.mkdir()
        for index in range(3):
            write_labels(folder / f"{index:06d}.txt", make_objects([{"x": index}], scores=scores))
    return labels, results


def test_results_may_lie_in_a_folder_data_and_beside_other_texts(
    folders: tuple[Path, Path],
) -> None:
    (folders[1] / "data").mkdir()
    for path in list(folders[1].glob("*.txt")):
        path.rename(folders[1] / "data" / path.name).with_name("readme.txt").write_text("hello")
    assert len(read_folders(*folders).detections) == 3


def test_a_missing_result_file_is_a_frame_without_detections_if_so_wished(
    folders: tuple[Path, Path],
) -> None:
    (folders[1] / "000001.txt").unlink()
    result = read_folders(*folders, ids=["000002", "000001", "000000"], missing_as_empty=True)
    assert np.diff(result.detections.starts).tolist() == [1, 0, 1]
    assert result.detections.objects.location[:, 0].tolist() == [2.0, 0.0]
    assert "1 of 3 frames have no result file (first 000001)" in result.notes[0]


def test_missing_files_are_named_and_counted(folders: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match="97 of 100 missing") as error:
        read_folders(*folders, ids=[f"{i:06d}" for i in range(100)])
    assert str(error.value).count("no such file") == 5
    (folders[1] / "000001.txt").unlink()
    with pytest.raises(DataError, match=r"results/000001.txt.*--missing-as-empty"):
        read_folders(*folders, ids=["000000", "000001"])
    (folders[0] / "000002.txt").unlink()
    with pytest.raises(DataError, match=r"label_2/000002.txt: expected labels of every frame"):
        read_folders(*folders)


def test_missing_and_empty_folders_are_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for pair, message in (
        ((tmp_path / "nowhere", folders[1]), "nowhere: expected a folder of label files"),
        ((folders[0], tmp_path / "nowhere"), "expected a folder of result files"),
        ((folders[0], tmp_path / "empty"), "expected result files, but got no file"),
        ((folders[0], folders[0]), r"000000.txt:1: expected 16 columns"),
    ):
        with pytest.raises(DataError, match=message):
            read_folders(*pair)


def test_folders_one_level_off_are_found_or_named(folders: tuple[Path, Path]) -> None:
    (folders[1] / "final" / "data").mkdir(parents=True)
    outer = folders[1].with_name("outer")
    outer.mkdir()
    folders[1].rename(outer / "epoch_3")
    inputs = read_folders(folders[0], outer)
    assert len(inputs.detections) == 3
    assert "the result files are read from" in inputs.notes[0]
    (outer / "labels.zip").write_text("")
    (outer / "label_2").mkdir()
    (outer / "label_2" / "1.txt").write_text("")
    with pytest.raises(DataError, match=r"no file .*, but labels.zip; name .*epoch_3, .*label_2"):
        read_folders(folders[0], outer)


def test_frames_are_found_by_their_numbers(folders: tuple[Path, Path]) -> None:
    assert read_folders(*folders, ids=["2", "0"]).detections.frame_ids == ("000002", "000000")
    (folders[1] / "000001.txt").rename(folders[1] / "1.txt")
    for settings in ({"ids": ["000000", "000001"]}, {}):
        with pytest.raises(DataError, match=r"no such file; .*1\.txt exists"):
            read_folders(*folders, missing_as_empty=True, **settings)


def test_oddities_are_noted_with_file_and_line(folders: tuple[Path, Path]) -> None:
    objects = make_objects([{"bbox": (9, 5, 3, 50)}, *[{"name": "Bus"}] * 2], scores=True)
    write_labels(folders[1] / "000001.txt", objects)
    (folders[1] / "000002.txt").unlink()
    result = read_folders(*folders)
    assert result.labels.frame_ids == result.detections.frame_ids == ("000000", "000001")
    for note, parts in zip(
        result.notes,
        (
            ["2 frames have result files and are evaluated, of 3"],
            ["class 'Bus' is none of KITTI's: its 2 objects", "results/000001.txt:2"],
            ["1 of 4 2D boxes", "results/000001.txt:1"],
            ["1 of 4 objects", "written twice", "results/000001.txt:3"],
        ),
        strict=True,
    ):
        assert all(part in note for part in parts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o: replace(o, rotation_y=np.degrees(o.rotation_y)), "beyond 2 pi .* degrees"),
        (lambda o: replace(o, dimensions=o.dimensions[:, [0, 2, 1]]), "wider than long"),
        (
            lambda o: replace(o, location=o.location[:, [2, 0, 1]] * [1, -1, -1]),
            "LiDAR.*camera frame",
        ),
        (lambda o: o.select(np.repeat(np.arange(len(o)), 2)), "20 of 40 .* written twice"),
        (lambda o: o, None),
    ],
)
@pytest.mark.parametrize("scores", [False, True])
def test_numbers_of_other_conventions_are_noted(
    folders: tuple[Path, Path],
    change: Callable[[KittiObjects], KittiObjects],
    message: str | None,
    scores: bool,
    rng: np.random.Generator,
) -> None:
    num = 20
    objects = make_objects([{"x": float(i)} for i in range(num)], scores=scores)
    x, z = rng.uniform([-20, 5], [20, 60], (num, 2)).T
    objects = replace(
        objects,
        location=np.column_stack([x, rng.uniform(1.4, 2.0, num), z]),
        dimensions=np.tile([1.5, 1.6, 3.9], (num, 1)),
        rotation_y=rng.uniform(0.5, np.pi, num),
    )
    for index in range(3):
        write_labels(folders[scores] / f"{index:06d}.txt", objects.select(np.arange(0)))
    write_labels(folders[scores] / "000001.txt", change(objects))
    notes = [note for note in read_folders(*folders).notes if str(folders[scores]) in note]
    assert len(notes) == (message is not None)
    assert message is None or re.search(message, notes[0])


def test_points_in_boxes_are_counted(folders: tuple[Path, Path], tmp_path: Path) -> None:
    # Camera and LiDAR frame differ by the renaming of axes alone; the box of frame 0 stands at
    # (0, 1.7, 10) with length 4 along x, width 1.6 along z, height 1.5 upwards.
    lines = [f"P{i}: 1 0 0 0 0 1 0 0 0 0 1 0" for i in range(4)]
    lines += ["R0_rect: 1 0 0 0 1 0 0 0 1", "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0"]
    inside = [(10, 1.9, -1.6), (10, -1.9, -0.3), (9.3, 0, -1), (10.7, 0, -1)]
    outside = [(10, 2.1, -1), (9.1, 0, -1), (10, 0, -1.8), (10, 0, -0.1)]
    points = np.array([(*p, 0) for p in inside + outside], dtype=np.float32)
    for index in range(3):
        (tmp_path / f"{index:06d}.txt").write_text("\n".join(lines))
        points.tofile(tmp_path / f"{index:06d}.bin")
    labels = read_folders(*folders).labels
    # Frame 1 is 1 m to the right (x + 1, y of the LiDAR - 1): it loses the point at y = 1.9.
    assert count_points(labels, tmp_path, tmp_path)[:2].tolist() == [4, 3]
    (tmp_path / "000000.bin").unlink()
    with pytest.raises(DataError, match=r"000000\.bin: expected a point cloud"):
        count_points(labels, tmp_path, tmp_path)
