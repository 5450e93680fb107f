"""Text of any make is read alike; what is no text is named."""

from __future__ import annotations

import codecs
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ebm3d.datasets import DataError, read_labels
from ebm3d.datasets.kitti_frames import read_frames
from ebm3d.datasets.text import read_lines

_CAR = "Car 0.00 1 -1.57 599.41 156.40 629.75 189.25 1.50 1.60 4.00 0.47 1.49 69.44 -1.56 0.5\n"
_TEXT = _CAR + _CAR.replace("Car", "Van").replace("0.47", "-3")
_MAKES: dict[str, Callable[[str], bytes]] = {
    "utf-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "two files joined, each with a mark": lambda text: b"".join(
        codecs.BOM_UTF8 + line.encode() for line in text.splitlines(keepends=True)
    ),
    "utf-16 little-endian": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "utf-16 big-endian": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "utf-16-le without a mark": lambda text: text.encode("utf-16-le"),
    "utf-16-be without a mark": lambda text: text.encode("utf-16-be"),
    "utf-32": lambda text: text.encode("utf-32"),
    "windows": lambda text: text.replace("\n", "\r\n").encode(),
    "powershell": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "old mac": lambda text: text.replace("\n", "\r").encode(),
    "dos": lambda text: text.encode() + b"\x1a",
    "tabs": lambda text: text.replace(" ", "\t").encode(),
    "commas": lambda text: text.replace(" ", ",").encode(),
    "semicolons": lambda text: text.replace(" ", "; ").encode(),
    "quoted names": lambda text: text.replace("Car", '"Car"').replace("Van", "'Van'").encode(),
    "trailing blanks, blank lines": lambda text: text.replace("\n", "  \n \n").encode(),
    "a minus sign": lambda text: text.replace("-", "\u2212").encode(),
    "hard blanks": lambda text: text.replace(" ", "\u00a0").encode(),
    "comments": lambda text: (
        "# " + _CAR + "# type truncated ...\n" + text.replace("\n", " # checked\n")
    ).encode(),
}


@pytest.mark.parametrize("make", _MAKES)
def test_the_same_objects_are_read_from_text_of_any_make(tmp_path: Path, make: str) -> None:
    plain, other = tmp_path / "000000.txt", tmp_path / "000001.txt"
    plain.write_text(_TEXT)
    other.write_bytes(_MAKES[make](_TEXT))
    expected, both = (
        read_labels(plain),
        read_frames(tmp_path, [plain.stem, other.stem], scores=True),
    )
    for objects in (read_labels(other), both.frame(0), both.frame(1)):
        for name, value in vars(expected).items():
            np.testing.assert_array_equal(getattr(objects, name), value, err_msg=name)


_CLOUD = np.random.default_rng(0).uniform(-40, 40, (100, 4)).astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        (_CLOUD, "", "float32 numbers, as in a point cloud; look for mixed-up folders"),
        (pickle.dumps({"a": 1}), "", "a pickle"),
        (b"\x89PNG\r\n\x1a\n\0\0", "", "a PNG image"),
        (b"PK\x03\x04\0\0", "", "a zip archive"),
        (b"\0" * 512, "", "512 NUL bytes, as a crash or a full disk leaves them"),
        (b"version https://git-lfs.github.com/spec/v1\n", "", "Git LFS; run 'git lfs pull'"),
        (b"<!DOCTYPE html>", "", "a web page"),
        ("# a\nGr\u00fcn 1 2\n".encode("latin-1"), ":2", "byte 0xfc in 'Gr\u00fcn 1 2'.*iconv"),
        ("a\r\u00e9\r".encode("cp1252"), ":2", "byte 0xe9 in '\u00e9'"),
        (b"Car 1\r\n" + "Car 2\r\n".encode("utf-16-le"), "", "two encodings.*Out-File"),
        ("Car".encode("utf-16")[:-1], "", "UTF-16-LE that is damaged at byte 6 of 7"),
        (bytes(range(256)), "", r"a binary file, .*byte 0x.. at "),
    ],
)
def test_what_is_no_text_is_named_with_its_place(
    tmp_path: Path, content: bytes, place: str, message: str
) -> None:
    path = tmp_path / "000000.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"000000.txt{place}: expected a list.*{message}"):
        read_lines(path, "a list", "restore it")


@pytest.mark.parametrize(
    "line", [_CAR.replace(".", ","), _CAR.replace(".", ",").replace(" ", ";"), "Car 0 -1,57 2"]
)
def test_decimal_commas_are_named_not_misread(tmp_path: Path, line: str) -> None:
    (tmp_path / "000000.txt").write_text("\n" + line)
    message = r"000000.txt:2: expected numbers with a decimal point, but got '.*,.*'; write .*\."
    with pytest.raises(DataError, match=message):
        read_frames(tmp_path, ["000000"], scores=True)
