"""Reading many label files at once: the same objects and the same errors as file by file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ebm3d.datasets import DataError, KittiObjects, kitti_frames, read_labels
from ebm3d.datasets.kitti_frames import KittiFrames, read_frames, stack_frames

_LABEL = "Car 0.00 1 -1.57 599.41 156.40 629.75 189.25 1.50 1.60 4.00 0.47 1.49 69.44 -1.56"


def _write(folder: Path, *contents: str) -> list[str]:
    ids = [f"{i:06d}" for i in range(len(contents))]
    for frame_id, content in zip(ids, contents, strict=True):
        (folder / f"{frame_id}.txt").write_text(content)
    return ids


def _assert_equal(first: KittiObjects, second: KittiObjects) -> None:
    for name, value in vars(first).items():
        np.testing.assert_array_equal(value, getattr(second, name), err_msg=name)


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("fast", [False, True])
def test_bulk_reading_equals_reading_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: bool, fast: bool
) -> None:
    end = " 0.123456\n" if scores else "\n"
    contents = [
        _LABEL + end,
        "",
        _LABEL + end + _LABEL.replace("Car", "Person_sitting").replace("0.47", "-12.5e-2") + end,
        "\n  \n" + _LABEL.replace(" ", "\t") + end.replace("\n", "\r\n"),
        (_LABEL + end).rstrip("\n"),
        _LABEL.replace("0.47", "0.1234567890123456789") + end,
        _LABEL.replace("0.47", "+.5") + end,
    ]
    if not fast:
        contents.append(_LABEL.replace("Car", "Fußgänger") + end)
    else:
        monkeypatch.delattr(kitti_frames, "_read_one_by_one")
    ids = _write(tmp_path, *contents)
    frames = read_frames(tmp_path, ids, scores=scores)
    assert np.diff(frames.starts).tolist() == [1, 0, 2, 1, 1, 1, 1, 1][: len(ids)]
    for index, frame_id in enumerate(ids):
        expected = read_labels(tmp_path / f"{frame_id}.txt", scores=scores)
        _assert_equal(frames.frame(index), expected)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (_LABEL, "expected 16 columns, but got 15 columns; add the score"),
        (f"{_LABEL}\n{_LABEL} 0.5 0.5", "expected 16 columns"),
        (_LABEL.replace("0.47", "nan") + " 0.5", "expected a finite number for x"),
        (_LABEL.replace("0.47", "1.2.3") + " 0.5", "'1.2.3'"),
        (_LABEL.replace("4.00", "-4.00") + " 0.5", "positive sizes.*length -4"),
        (_LABEL.replace(" 1 ", " 1.5 ") + " 0.5", "an integer for occluded"),
    ],
)
def test_a_bad_line_is_named_with_file_and_line(tmp_path: Path, lines: str, message: str) -> None:
    good = _LABEL + " 0.5\n"
    ids = _write(tmp_path, good, good + lines + "\n", good)
    with pytest.raises(DataError, match=f"000001.txt:2: .*{message}"):
        read_frames(tmp_path, ids, scores=True)


def test_all_missing_files_are_counted(tmp_path: Path) -> None:
    _write(tmp_path, _LABEL)
    with pytest.raises(DataError, match=r"000001.txt: expected .*no such file") as error:
        read_frames(tmp_path, [f"{i:06d}" for i in range(40)], scores=False)
    assert "39 of the requested files missing" in str(error.value)


def test_frames_are_selected_by_name_in_the_order_asked_for(tmp_path: Path) -> None:
    contents = [_LABEL.replace("0.47", str(float(i))) + "\n" for i in range(4)]
    contents[2] += contents[2]
    frames = read_frames(tmp_path, _write(tmp_path, *contents), scores=False)
    chosen = frames.select(["000003", "000002"])
    assert chosen.objects.location[:, 0].tolist() == [3.0, 2.0, 2.0]
    assert chosen.frame_of_object.tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="frame_ids must be among the 4 frames present"):
        frames.select(["000009"])


def test_stacking_undoes_splitting(tmp_path: Path) -> None:
    frames = read_frames(tmp_path, _write(tmp_path, _LABEL, "", _LABEL), scores=False)
    parts = {name: frames.frame(i) for i, name in enumerate(frames.frame_ids)}
    again = stack_frames(parts, scores=False)
    _assert_equal(frames.objects, again.objects)
    np.testing.assert_array_equal(frames.starts, again.starts)
    with pytest.raises(ValueError, match="score of frame '000000'"):
        stack_frames(parts, scores=True)
    with pytest.raises(ValueError, match="'a' twice"):
        KittiFrames(("a", "a"), np.array([0, 0, 2]), frames.objects)
    with pytest.raises(ValueError, match="starts"):
        KittiFrames(("a",), np.array([0, 1]), frames.objects)
