"""Bad input is named with file and line; what was done about oddities is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ebm3d.datasets import DataError, write_labels
from ebm3d.evaluation import EvaluationInput, read_folders, read_ids
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


def _read(folders: tuple[Path, Path], **options) -> EvaluationInput:
    return read_folders(*folders, **options)


def test_all_frames_with_a_result_file_are_read(folders: tuple[Path, Path]) -> None:
    (folders[1] / "000001.txt").unlink()
    given = _read(folders)
    assert given.labels.frame_ids == given.detections.frame_ids == ("000000", "000002")
    assert "2 frames have result files and are evaluated, of 3" in given.notes[0]


def test_results_may_lie_in_a_folder_data_and_beside_other_texts(
    folders: tuple[Path, Path],
) -> None:
    (folders[1] / "data").mkdir()
    for path in list(folders[1].glob("*.txt")):
        path.rename(folders[1] / "data" / path.name).with_name("readme.txt").write_text("hello")
    assert len(_read(folders).detections) == 3


def test_a_missing_result_file_is_a_frame_without_detections_if_so_wished(
    folders: tuple[Path, Path],
) -> None:
    (folders[1] / "000001.txt").unlink()
    given = _read(folders, ids=["000002", "000001", "000000"], missing_as_empty=True)
    assert np.diff(given.detections.starts).tolist() == [1, 0, 1]
    assert given.detections.objects.location[:, 0].tolist() == [2.0, 0.0]
    assert "1 of 3 frames have no result file (first 000001)" in given.notes[0]


def test_missing_files_are_named_and_counted(folders: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match="97 of 100 missing") as error:
        _read(folders, ids=[f"{i:06d}" for i in range(100)])
    assert str(error.value).count("no such file") == 5
    (folders[1] / "000001.txt").unlink()
    with pytest.raises(DataError, match=r"results/000001.txt.*--missing-as-empty"):
        _read(folders, ids=["000000", "000001"])
    (folders[0] / "000002.txt").unlink()
    with pytest.raises(DataError, match=r"label_2/000002.txt: expected labels of every frame"):
        _read(folders)


def test_missing_and_empty_folders_are_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: expected a folder of label files"):
        read_folders(folders[0] / "nowhere", folders[1])
    with pytest.raises(DataError, match="expected a folder of result files, but got no such"):
        read_folders(folders[0], folders[1] / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected result files, but got no file"):
        read_folders(folders[0], tmp_path / "empty")


def test_empty_result_files_are_legal(folders: tuple[Path, Path]) -> None:
    for path in folders[1].glob("*.txt"):
        path.write_text("")
    assert len(_read(folders).detections.objects) == 0


def test_an_unknown_class_is_noted_with_file_and_line(folders: tuple[Path, Path]) -> None:
    objects = make_objects([{}, {"name": "Bus"}, {"name": "Bus"}], scores=True)
    write_labels(folders[1] / "000001.txt", objects)
    (note,) = _read(folders).notes
    assert "class 'Bus' is none of KITTI's: its 2 objects" in note
    assert "results/000001.txt:2" in note


def test_a_2d_box_that_ends_before_it_begins_is_noted(folders: tuple[Path, Path]) -> None:
    write_labels(folders[1] / "000002.txt", make_objects([{"bbox": (9, 5, 3, 50)}], scores=True))
    (note,) = _read(folders).notes
    assert "1 of 3 2D boxes" in note
    assert "results/000002.txt:1" in note


def test_a_result_without_scores_is_refused(folders: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match=r"000000.txt:1: expected 16 columns.*add the score"):
        read_folders(folders[0], folders[0])


def test_ids_are_read_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("000002\n\n 000007 \n")
    assert read_ids(tmp_path / "val.txt") == ["000002", "000007"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("000001\n000002\n000001\n", r"val.txt:3: expected every id once.*first in line 1"),
        ("000001\nframe\n", r"val.txt:2: expected a frame id of digits, but got 'frame'"),
        ("\n", r"val.txt: expected one or more frame ids"),
        (None, "a text file of frame ids, but got no such file"),
    ],
)
def test_bad_ids_are_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "val.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        read_ids(tmp_path / "val.txt")


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
    labels = _read(folders).labels
    # Frame 1 is 1 m to the right (x + 1, y of the LiDAR - 1): it loses the point at y = 1.9.
    assert count_points(labels, tmp_path, tmp_path)[:2].tolist() == [4, 3]
    (tmp_path / "000000.bin").unlink()
    with pytest.raises(DataError, match=r"000000\.bin: expected a point cloud"):
        count_points(labels, tmp_path, tmp_path)
