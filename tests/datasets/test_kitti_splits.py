from __future__ import annotations

from pathlib import Path

import pytest

from ebm3d.datasets import DataError
from ebm3d.datasets.kitti_splits import read_ids, read_splits


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
