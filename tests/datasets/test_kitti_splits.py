from __future__ import annotations

from pathlib import Path

import pytest

from ebm3d.datasets import DataError
from ebm3d.datasets.kitti_splits import match_ids, read_ids, read_splits


def _write(folder: Path, train: str, val: str) -> Path:
    (folder / "train.txt").write_text(train)
    (folder / "val.txt").write_text(val)
    return folder


def test_ids_keep_the_order_of_the_lists(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_splits(tmp_path)
    assert [p.file.name for p in caught.value.problems] == ["train.txt", "val.txt"]
    folder = _write(tmp_path, "000007\n000003\n", "\n000005 \n")
    assert read_splits(folder) == {"train": ["000007", "000003"], "val": ["000005"]}
    assert read_ids(folder / "train.txt") == ["000007", "000003"]


@pytest.mark.parametrize(
    ("train", "val", "place", "expected", "got"),
    [
        ("000001\nabc\n", "000002\n", "train.txt:2", "a frame id of digits", "'abc'"),
        ("000001\n000001\n", "000002\n", "train.txt:2", "every frame once", "000001 again"),
        ("000001\n", "000002\n000001\n", "val.txt:2", "every frame once", "train.txt:1"),
        ("000001\n", "2, 1\n", "val.txt:1", "every frame once", "1 again (first in"),
        ("000001\n2011_09_26 5\n", "2", "train.txt:2", "a frame id of digits", "'2011_09_26'"),
        ("000001\n", "\n", "val.txt", "at least one frame id", "none"),
    ],
)
def test_a_bad_list_is_reported_with_its_line(
    tmp_path: Path, train: str, val: str, place: str, expected: str, got: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_splits(_write(tmp_path, train, val))
    (problem,) = caught.value.problems
    assert problem.place == str(tmp_path / place)
    assert problem.expected == expected
    assert got in problem.got


@pytest.mark.parametrize(
    "text",
    [
        "000003 000007",
        "000003.txt\r\n000007.pcd.bin\r\n",
        "['000003', '000007']",
        "a/b/000003.png;000007",
    ],
)
def test_ids_are_read_from_lists_of_any_make(tmp_path: Path, text: str) -> None:
    (tmp_path / "ids.txt").write_text(text)
    assert read_ids(tmp_path / "ids.txt") == ["000003", "000007"]


def test_an_id_is_matched_with_the_only_file_of_its_number() -> None:
    names = ["", "000000", "000003", "000003", "7", "000007", "x3"]
    ids = ["3", "0000000003", "0", "7", "007", "12", "x3"]
    expected = ["000003", "000003", "000000", "7", "007", "12", "x3"]
    assert match_ids(ids, names) == expected
