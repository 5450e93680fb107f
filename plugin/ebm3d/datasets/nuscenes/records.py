"""Tables of records in JSON files of any size, read column by column."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.problems import DataError, Problem

RELOAD = "unpack the tables again: the file may be cut off or changed"
# str: text; a number n: vectors of n floats; a function: what it makes a whole number of.
Kind = type[str] | int | Callable[[Any], int]
_CHUNK = 1 << 24  # characters; no record is longer
_SKIP = re.compile(r"[\s,]*")


class Numbers(dict[str, int]):
    """Numbers of tokens as they are first met; the empty token is -1."""

    def __init__(self) -> None:
        super().__init__({"": -1})

    def __missing__(self, token: str) -> int:
        """The next number, for a new token."""
        self[token] = number = len(self) - 1
        return number


class Rows(dict[str, int]):
    """Rows of tokens in a table; -1 for a token that is not in it."""

    def __missing__(self, token: str) -> int:
        """No row."""
        return -1


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON file that is one list; memory does not grow with the file.

    Raises:
        DataError: naming the first record that is damaged or no record.
    """
    try:
        yield from _records(path)
    except UnicodeDecodeError as error:
        raise DataError([Problem(path, None, "JSON in UTF-8", str(error), RELOAD)]) from error
    except RecursionError as error:
        raise DataError(
            [Problem(path, None, "JSON", "brackets nested too deep", RELOAD)]
        ) from error


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Records of a file; bytes that are no UTF-8 raise as they are met."""
    decode = json.JSONDecoder().raw_decode
    with path.open(encoding="utf-8") as file:
        text, number = file.read(_CHUNK), 0
        position = len(text) - len(text.lstrip("\ufeff \n\r\t"))
        if not text.startswith("[", position):
            raise DataError([Problem(path, None, "a list of records", repr(text[:40]), RELOAD)])
        position += 1
        while True:
            space = _SKIP.match(text, position)
            position = space.end() if space else position
            if text.startswith("]", position):
                if rest := (text[position + 1 :] + file.read(_CHUNK)).strip():
                    got = f"{rest[:40]!r} after it"
                    raise DataError([Problem(path, None, "one list of records", got, RELOAD)])
                return
            try:
                record, position = decode(text, position)
            except json.JSONDecodeError as error:
                more = file.read(_CHUNK) if len(text) - position < _CHUNK else ""
                if not more:
                    got = f"{error.msg} in record {number:,}"
                    raise DataError([Problem(path, None, "JSON", got, RELOAD)]) from error
                text, position = text[position:] + more, 0
                continue
            if not isinstance(record, dict):
                got = f"{str(record)[:40]!r} as record {number:,}"
                raise DataError([Problem(path, None, "records with named fields", got, RELOAD)])
            yield record
            number += 1


def read_columns(
    path: Path, kinds: Mapping[str, Kind], where: tuple[str, Container[str]] | None = None
) -> dict[str, Any]:
    """Read fields of the records of a JSON file; empty columns without the file.

    Args:
        path: the file.
        kinds: by field; see ``Kind``.
        where: a field and the values of it whose records are kept; by default all are.

    Returns:
        By field a list of strings, float64 ``(R, n)``, or int64 ``(R,)``.

    Raises:
        DataError: naming the first record without one of the fields, or with another type there.
    """
    columns: dict[str, Any] = {
        name: [] if kind is str else array("d" if isinstance(kind, int) else "q")
        for name, kind in kinds.items()
    }
    for number, record in enumerate(read_records(path) if path.is_file() else ()):
        name = "" if where is None else where[0]
        try:
            if where is not None and record[name] not in where[1]:
                continue
            for name, kind in kinds.items():
                _add(columns[name], record[name], kind)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            got = f"{record[name]!r}" if name in record else "none"
            got += f" in record {number:,}"
            if "token" in record:
                got += f" ({record['token']})"
            problem = Problem(path, None, f"a field {name!r} of the usual type", got, RELOAD)
            raise DataError([problem]) from error
    return {name: _as_array(columns[name], kind) for name, kind in kinds.items()}


def _add(column: Any, value: Any, kind: Kind) -> None:
    """Append a value to a column."""
    if isinstance(kind, int):
        if len(value) != kind:
            raise ValueError(value)
        column.extend(value)
    elif kind is str:
        if not isinstance(value, str):
            raise TypeError(value)
        column.append(value)
    else:
        column.append(kind(value))


def _as_array(column: Any, kind: Kind) -> list[str] | NDArray[Any]:
    """A column as numpy has it."""
    if isinstance(column, list):
        return column
    values = np.frombuffer(column, dtype="f8" if isinstance(kind, int) else "i8")
    return values.reshape(-1, kind) if isinstance(kind, int) else values
