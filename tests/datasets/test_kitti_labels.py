from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from ebm3d.datasets import DataError, KittiObjects, read_labels, write_labels

CAR = "Car 0.80 0 -2.09 1013.39 182.46 1241.00 374.00 1.57 1.65 3.35 4.43 1.65 5.20 -1.42"
VAN = "Van 0.00 1 1.95 354.43 185.52 549.52 294.49 1.43 1.70 3.95 -2.39 1.66 11.80 1.76"
DONT_CARE = "DontCare -1 -1 -10 737.69 163.56 790.86 197.98 -1 -1 -1 -1000 -1000 -1000 -10"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "000010.txt"


def _changed(line: str, column: int, word: str) -> str:
    """The line with another word in one column, counted from 0."""
    words = line.split()
    words[column] = word
    return " ".join(words)


def test_columns_go_to_the_fields_of_the_format(path: Path) -> None:
    path.write_text(f"{CAR}\n{DONT_CARE}\n")
    objects = read_labels(path)
    assert objects.names.tolist() == ["Car", "DontCare"]
    assert objects.truncated.tolist() == [0.8, -1.0]
    assert objects.occluded.tolist() == [0, -1]
    assert objects.alpha.tolist() == [-2.09, -10.0]
    assert objects.bbox[0].tolist() == [1013.39, 182.46, 1241.0, 374.0]
    assert objects.dimensions[0].tolist() == [1.57, 1.65, 3.35]
    assert objects.location[0].tolist() == [4.43, 1.65, 5.2]
    assert objects.rotation_y.tolist() == [-1.42, -10.0]
    assert objects.score is None


NO_3D_BOX = "Car -1 -1 0.5 1 2 3 40 -1 -1 -1 -1000 -1000 -1000 -10 0.7"


@pytest.mark.parametrize(
    "lines", [(CAR, DONT_CARE, VAN), (f"{CAR} 0.123456", f"{VAN} -2.5", NO_3D_BOX), ()]
)
def test_objects_survive_writing_and_reading(path: Path, lines: tuple[str, ...]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
    objects = read_labels(path)
    write_labels(path, objects)
    for name, value in vars(read_labels(path)).items():
        np.testing.assert_array_equal(value, getattr(objects, name))
    for scores in (True, False):
        path.write_text("")
        assert (read_labels(path, scores=scores).score is None) == (not scores)


def test_two_decimals_restore_an_official_line(path: Path) -> None:
    path.write_text(f"{CAR}\n{VAN}\n")
    write_labels(path, read_labels(path).select(np.array([False, True])), decimals=2)
    assert path.read_text() == f"{VAN}\n"
    with pytest.raises(ValueError, match="truncated must have shape"):
        KittiObjects.from_table(np.array(["Car", "Van"]), np.zeros((1, 14)))


@pytest.mark.parametrize(
    ("line", "scores", "expected", "got", "remedy"),
    [
        (CAR[:-6], False, "15 columns", "14 columns", "restore the line"),
        (CAR[:-6], None, "15 columns (a label) or 16", "14 columns", "restore the line"),
        (f"{CAR} 0.9", False, "15 columns", "16 columns", "remove the score"),
        (CAR, True, "16 columns", "15 columns", "add the score"),
        (_changed(CAR, 8, "tall"), False, "a finite number for height", "'tall'", "decimal number"),
        (_changed(CAR, 14, "inf"), False, "a finite number for rotation_y", "'inf'", "decimal"),
        (_changed(CAR, 2, "0.5"), False, "an integer for occluded", "0.5", "write 0 (visible)"),
        (_changed(CAR, 9, "0.00"), False, "a box with positive sizes", "width 0.00", "correct"),
        (_changed(CAR, 0, "car"), False, "one of Car, Van", "car", "write Car, or"),
        (_changed(CAR, 0, "Bus"), False, "one of Car, Van", "Bus", "comes closest"),
        (f"Light {CAR}", False, "15 columns", "a space in the class name 'Light Car'", "Light_Car"),
        (f"My old {VAN} 0.9", True, "16 columns", "class name 'My old Van'", "My_old_Van"),
        (f"Light {CAR}", None, "15 columns", "class name 'Light Car'", "write Light_Car"),
        (f"0 2 {CAR}", False, "15 columns", "as in the tracking benchmark", "one file per frame"),
        ("1 2 3 4 5 6 7 Car", False, "15 columns", "8 columns, '1' first", "class name, in the"),
        ("type " * 15, False, "numbers after the name", "type type", "remove a header"),
    ],
)
def test_a_bad_line_is_reported_with_its_place_and_remedy(
    path: Path, line: str, scores: bool | None, expected: str, got: str, remedy: str
) -> None:
    path.write_text(f"\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_labels(path, scores, known_names=("Car", "Van"))
    (problem,) = caught.value.problems
    assert problem.place == f"{path}:2"
    parts = ((expected, problem.expected), (got, problem.got), (remedy, problem.remedy))
    assert all(part in text for part, text in parts), problem


def test_all_defects_of_a_file_are_reported_at_once(path: Path) -> None:
    path.write_text("\n".join([_changed(CAR, 11, "nan"), VAN, f"{VAN} 0.5", CAR[:-6]]))
    with pytest.raises(DataError) as caught:
        read_labels(path)
    assert [problem.line for problem in caught.value.problems] == [1, 3, 4]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_missing_or_binary_file_is_named(path: Path, content: bytes | None) -> None:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"000010.txt: expected a label file"):
        read_labels(path)


@pytest.mark.slow
def test_all_official_labels_are_accepted(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "kitti_labels" / "labels_and_calib.tar.gz") as archive:
        labels = [m for m in archive.getmembers() if m.isfile() and m.name.startswith("label_2/")]
        archive.extractall(tmp_path, labels, filter="data")
    num_objects = [len(read_labels(p, scores=False)) for p in tmp_path.glob("label_2/*.txt")]
    assert (len(num_objects), sum(num_objects)) == (7481, 51865)
