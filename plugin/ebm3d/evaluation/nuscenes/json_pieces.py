"""A result file cut into pieces of whole samples, so that no process holds all of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ebm3d.datasets.problems import DataError, Problem, unreadable

Bytes = NDArray[np.uint8]
IntArray = NDArray[np.int64]

EXPECTED = "a nuScenes result file (JSON with meta and results)"
REMEDY = "write it anew; write_results shows the format"
_BLOCK = 1 << 24  # bytes read at a time
_PIECE = 1 << 22  # of a piece, about: its objects take ten times as much memory
_QUOTE, _BACKSLASH, _COMMA = ord('"'), ord("\\"), ord(",")
_OPENING, _CLOSING = ord("{"), ord("}")


class Piece(NamedTuple):
    """Entries ``"token": [...]`` from byte ``begin`` to ``end`` of a file, commas between them."""

    path: Path
    begin: int
    end: int
    num_samples: int

    def load(self) -> list[tuple[str, Any]]:
        """Parse the entries.

        Raises:
            DataError: if they are no JSON, or a token is there twice.
        """
        with self.path.open("rb") as file:
            samples = _loads(self.path, file, self.begin, self.end)
        if len(samples) != self.num_samples:
            with self.path.open("rb") as file:
                pairs = _loads(self.path, file, self.begin, self.end, hook=list)
            raise twice(self.path, [token for token, _ in pairs])
        return list(samples.items())


def cut_results(path: Path) -> tuple[dict[str, Any], list[Piece]]:
    """Find the samples of a result file.

    Returns:
        The entries of the file beside ``results``, and its samples in pieces, in order.

    Raises:
        DataError: if the file cannot be read, or is no JSON object with an object ``results``.
    """
    try:
        with path.open("rb") as file:
            return _cut(path, file)
    except OSError as error:
        raise DataError([unreadable(path, EXPECTED, error, REMEDY)]) from error


def _cut(path: Path, file: BinaryIO) -> tuple[dict[str, Any], list[Piece]]:
    """Cut an open file."""
    marks = np.concatenate([np.zeros((0, 3), dtype=np.int64), *_marks(file)])
    ends = marks[(marks[:, 2] == 1) & (marks[:, 1] != _COMMA)]
    size = file.seek(0, 2)
    if len(ends) == 0:
        raise damaged(path, f"no JSON object in {size} bytes")
    file.seek(0)
    is_other = bool(file.read(ends[0, 0]).removeprefix(b"\xef\xbb\xbf").strip())
    if len(ends) == 1 and not is_other:
        raise damaged(path, f"{size} bytes that end within the JSON: the file is cut off")
    file.seek(ends[-1, 0] + 1)
    is_other |= any(block.strip() for block in iter(lambda: file.read(_BLOCK), b""))
    if is_other or tuple(ends[:, 1]) != (_OPENING, _CLOSING):
        raise damaged(path, "something else than one JSON object")
    commas = marks[(marks[:, 2] == 1) & (marks[:, 1] == _COMMA), 0]
    borders = np.concatenate([ends[:1, 0], commas, ends[1:, 0]])
    others: dict[str, Any] = {}
    pieces: list[Piece] | None = None
    for begin, end in zip(borders[:-1] + 1, borders[1:], strict=True):
        inner = marks[(marks[:, 0] >= begin) & (marks[:, 0] < end)]
        if _key(path, file, begin, end) != "results":
            others |= _loads(path, file, begin, end)
        elif pieces is not None:
            raise damaged(path, "results twice")
        else:
            pieces = _pieces(path, file, begin, end, inner)
    if pieces is None:
        raise damaged(path, f"no results, only {', '.join(others) or 'an empty object'}")
    return others, pieces


def _pieces(path: Path, file: BinaryIO, begin: int, end: int, marks: IntArray) -> list[Piece]:
    """Cut the entry ``"results": {...}`` from byte ``begin`` to ``end``."""
    if len(marks) < 2 or marks[0, 1] != _OPENING or marks[-1, 1] != _CLOSING:
        raise damaged(path, "results that are no object {sample token: list of boxes}")
    first, last = marks[0, 0], marks[-1, 0]
    _loads(path, file, begin, end, without=(first + 1, last))
    if (marks[1:-1, 1] != _COMMA).any():
        raise damaged(path, "results that are not one object")
    file.seek(first + 1)
    if len(marks) == 2 and not file.read(last - first - 1).strip():
        return []
    positions = marks[:, 0]
    pieces = []
    at = 0
    while at < len(positions) - 1:
        until = int(np.searchsorted(positions, positions[at] + _PIECE))
        until = min(max(until, at + 1), len(positions) - 1)
        pieces.append(Piece(path, int(positions[at]) + 1, int(positions[until]), until - at))
        at = until
    return pieces


def _key(path: Path, file: BinaryIO, begin: int, end: int) -> str:
    """Name of the entry from byte ``begin`` on."""
    file.seek(begin)
    start = file.read(min(end - begin, 4096)).decode(errors="replace").lstrip()
    try:
        key, _ = json.JSONDecoder().raw_decode(start)
    except ValueError as error:
        raise damaged(path, f"no JSON after byte {begin}: {error}") from error
    return str(key)


def _loads(
    path: Path,
    file: BinaryIO,
    begin: int,
    end: int,
    without: tuple[int, int] | None = None,
    hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """Parse entries of an object, with or without a part; ``hook`` makes objects of pairs."""
    parts = [(begin, end)] if without is None else [(begin, without[0]), (without[1], end)]
    text = b"{"
    for start, stop in parts:
        file.seek(start)
        text += file.read(stop - start)
    text += b"}"
    try:
        return json.loads(text, object_pairs_hook=hook)
    except UnicodeDecodeError as error:
        raise damaged(path, f"no UTF-8 at byte {begin - 1 + error.start}") from error
    except json.JSONDecodeError as error:
        place = begin - 1 + len(error.doc[: error.pos].encode())
        raise damaged(path, f"no JSON at byte {place}: {error.msg}") from error
    except RecursionError as error:
        raise damaged(path, f"brackets nested too deep after byte {begin}") from error


def damaged(path: Path, got: str) -> DataError:
    """Build the error for a file that is no result file."""
    return DataError([Problem(path, None, EXPECTED, got, REMEDY)])


def twice(path: Path, tokens: Sequence[str]) -> DataError:
    """Build the error for sample tokens of which some are there twice."""
    found = [token for token, num in Counter(tokens).items() if num > 1]
    got = f"{len(found)} sample tokens twice, the first {found[0]}"
    return DataError([Problem(path, None, "each sample once", got, "keep one list of boxes each")])


def _marks(file: BinaryIO) -> Iterator[IntArray]:
    """Yield position, byte and level of commas and brackets of the two outer levels, ``(M, 3)``."""
    state = np.zeros(3, dtype=np.int64)
    found = np.empty((1 << 16, 3), dtype=np.int64)
    position = 0
    while data := file.read(_BLOCK):
        block = np.frombuffer(data, dtype=np.uint8)
        at = 0
        while at < len(block):
            at, num = _scan(block, at, state, found)
            part = found[:num].copy()
            part[:, 0] += position
            yield part
        position += len(block)


@njit(cache=True, error_model="numpy")
def _scan(block: Bytes, at: int, state: IntArray, found: IntArray) -> tuple[int, int]:
    """Fill ``found`` from byte ``at`` on; return where it stopped, and the number of marks.

    ``state`` goes from block to block: depth, whether in a string, whether after a backslash.
    """
    depth, in_string, escaped = state[0], state[1] != 0, state[2] != 0
    num = 0
    while at < len(block) and num < len(found):
        byte = int(block[at])
        if in_string:
            if not (escaped or byte in (_QUOTE, _BACKSLASH)):
                at += 1
                continue
            in_string = escaped or byte != _QUOTE
            escaped = byte == _BACKSLASH and not escaped
        elif byte == _QUOTE:
            in_string = True
        elif byte == _COMMA or byte > 90:  # letters, and brackets: [ ] are 91, 93; { } are 123, 125
            depth += byte == 91 or byte == _OPENING
            if depth <= 2 and (byte == _COMMA or byte in (91, 93, _OPENING, _CLOSING)):
                found[num, 0], found[num, 1], found[num, 2] = at, byte, depth
                num += 1
            depth -= byte == 93 or byte == _CLOSING
        at += 1
    state[0], state[1], state[2] = depth, in_string, escaped
    return at, num
