"""Text files as editors, spreadsheets and shells of any system write them."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import numpy as np

from ebm3d.datasets.problems import DataError, Problem, unreadable

_MARKS = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_OTHER_FILES = {  # first bytes: what the file is, and what helps, if anything but the caller's
    b"version https://git-lfs": ("a pointer of Git LFS", "run 'git lfs pull'"),
    b"<!DOCTYPE": ("a web page", "the download went wrong: load it again"),
    b"<html": ("a web page", "the download went wrong: load it again"),
    b"\x89PNG": ("a PNG image", ""),
    b"\xff\xd8\xff": ("a JPEG image", ""),
    b"\x93NUMPY": ("a NumPy array (.npy)", ""),
    b"PK\x03\x04": ("a zip archive, as .zip, .npz, .pt and .pth are", ""),
    b"\x1f\x8b": ("a gzip archive", "unpack it"),
    b"\x80": ("a pickle", ""),
}
_NO_CONTROLS = bytes({*range(32, 256), *b"\t\n\v\f\r\x1a"})
# Marks within a text (of joined files), blanks without width, the end of a DOS file; minus signs.
_INVISIBLE = {0xFEFF: None, 0x200B: None, 0x1A: None, 0x2212: "-"}
# What makes a text more than words between blanks.
_SEPARATORS = ",;\"'"
_COMMENT = "#"
_SPECIAL = [mark.encode() for mark in ("\0", "\x1a", _COMMENT, *_SEPARATORS)]
_TO_BLANKS = str.maketrans(dict.fromkeys(_SEPARATORS, " "))
_DECIMAL_COMMA = re.compile(r"(?<![^\s;\"'])[-+]?\d+,\d+(?:[eE][-+]?\d+)?(?![^\s;\"'])")


def read_lines(path: Path, expected: str, remedy: str) -> list[str]:
    """Read a text file, UTF-8 or UTF-16, and return its lines, empty in place of comments.

    Raises:
        DataError: if the file is missing or no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError([unreadable(path, expected, error, remedy)]) from error
    if content.startswith(tuple(_OTHER_FILES)) and (kind := other_kind(content)):
        got, better = kind
        raise DataError([Problem(path, None, expected, got, better or remedy)])
    if is_plain(content):
        return content.decode().splitlines()
    encoding, mark = _encoding(content)
    try:
        text = content.removeprefix(mark).decode(encoding)
    except UnicodeDecodeError as error:
        place = len(mark) + error.start
        raise DataError([_no_text(path, content, encoding, place, expected, remedy)]) from error
    if "\0" in text:
        place = content.index(b"\0")
        raise DataError([_no_text(path, content, encoding, place, expected, remedy)])
    return [line.partition(_COMMENT)[0] for line in text.translate(_INVISIBLE).splitlines()]


def other_kind(content: bytes) -> tuple[str, str] | None:
    """What bytes are by their beginning, and what helps; None if nothing says it."""
    for start, found in _OTHER_FILES.items():
        if content.startswith(start):
            return found
    if not content.strip():
        return "an empty file", "write or copy it again"
    if not content[:1000].translate(None, delete=_NO_CONTROLS):
        return f"text ({content.split()[0][:20].decode(errors='replace')!r} first)", ""
    return ("float32 numbers, as in a point cloud", "") if _is_cloud(content) else None


def split_words(line: str, path: Path, number: int) -> list[str]:
    """Split a line at blanks, tabs, commas and semicolons; quotes are dropped.

    Raises:
        DataError: if a comma stands for a decimal point.
    """
    if "," in line and (found := _DECIMAL_COMMA.search(line)):
        remedy = f"write {found[0].replace(',', '.')}, here and elsewhere (language settings do it)"
        expected = "numbers with a decimal point"
        raise DataError([Problem(path, number, expected, repr(found[0]), remedy)])
    if any(mark in line for mark in _SEPARATORS):
        line = line.translate(_TO_BLANKS)
    return line.split()


def is_number(word: str) -> bool:
    """Whether a word is a number, finite or not."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def is_plain(content: bytes) -> bool:
    """Whether the words of a text are what ``bytes.split`` gives: no marks, comments, commas."""
    return content.isascii() and not any(mark in content for mark in _SPECIAL)


def _encoding(content: bytes) -> tuple[str, bytes]:
    """Encoding and byte order mark of a text."""
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return encoding, mark
    # Without a mark: every other byte of ASCII in UTF-16 is NUL.
    even, odd = content[::2].count(0), content[1::2].count(0)
    if content[:2].count(0) == 1 and max(even, odd) > 0.45 * len(content) and not min(even, odd):
        return ("utf-16-be" if even else "utf-16-le"), b""
    return "utf-8", b""


def _no_text(
    path: Path, content: bytes, encoding: str, place: int, expected: str, remedy: str
) -> Problem:
    """Say what a file is that is no text in its encoding, from byte ``place`` on."""
    got = f"{encoding.upper()} that is damaged at byte {place} of {len(content)}"
    if not content.strip(b"\0"):
        got = f"{len(content)} NUL bytes, as a crash or a full disk leaves them"
    elif encoding == "utf-8" and not content.translate(None, delete=_NO_CONTROLS):
        number = len((content[:place] + b".").splitlines())
        line = content.splitlines()[number - 1].decode("latin-1")
        got = f"byte 0x{content[place]:02x} in {line[:40]!r} (read as Latin-1)"
        remedy = "save the file as UTF-8 (iconv -f latin1 -t utf-8), or write ASCII"
        return Problem(path, number, f"{expected} in UTF-8", got, remedy)
    elif _is_cloud(content):
        got, remedy = (
            "float32 numbers, as in a point cloud",
            f"look for mixed-up folders, or {remedy}",
        )
    elif encoding == "utf-8":
        got = f"a binary file, or text in two encodings (byte 0x{content[place]:02x} at {place})"
        remedy = f"save it as UTF-8 (PowerShell: Out-File -Encoding utf8), or {remedy}"
    return Problem(path, None, expected, got, remedy)


def _is_cloud(content: bytes) -> bool:
    """Whether bytes are float32 of the size of meters."""
    if len(content) % 4:
        return False
    values = np.abs(np.frombuffer(content, "<f4"))
    return bool((values < 1e4).all() and (values > 1e-6).mean() > 0.5)
