"""Columns of the tables of one folder, and the defects that they have."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.nuscenes.poses import FARTHEST
from ebm3d.datasets.nuscenes.records import Kind, Numbers, Rows, read_columns
from ebm3d.datasets.problems import DataError, Problem, missing_folder

Columns = dict[str, Any]
_UNIT = 1e-3  # tolerance of a quaternion's norm


class TableReader:
    """Reads tables and collects their defects.

    Args:
        folder: of the tables, ``ROOT/VERSION``.
        tables: those that must be there.

    Raises:
        DataError: with all that are missing.
    """

    def __init__(self, folder: Path, tables: tuple[str, ...]) -> None:
        self.folder = folder
        self.problems: list[Problem] = []
        remedy = "name the folder that holds it with --root, or unpack the metadata there"
        if not folder.is_dir():
            raise DataError([missing_folder(folder, "a folder of tables", remedy)])
        missing = [table for table in tables if not self.has(table)]
        remedy = f"unpack the metadata of {folder.name} there"
        got = "no such file"
        if missing:
            raise DataError(
                Problem(self._path(t), None, f"the table {t}", got, remedy) for t in missing
            )

    def has(self, table: str) -> bool:
        """Whether a table is there."""
        return self._path(table).is_file()

    def read(
        self, table: str, where: tuple[str, Container[str]] | None = None, **kinds: Kind
    ) -> Columns:
        """Read fields of a table, and the tokens of its records as a list."""
        return read_columns(self._path(table), {"token": str, **kinds}, where)

    def read_linked(
        self, table: str, where: tuple[str, Container[str]] | None = None, **kinds: Kind
    ) -> Columns:
        """Read fields of a table, and ``prev`` and ``next`` as rows."""
        numbers = Numbers()
        links = {"token": numbers.__getitem__, "prev": numbers.__getitem__}
        links["next"] = numbers.__getitem__
        columns = read_columns(self._path(table), {**links, **kinds}, where)
        names, own = list(numbers)[1:], columns["token"]
        columns["token"] = [names[number] for number in own.tolist()]
        rows = np.full(len(names) + 1, -1)
        rows[own] = np.arange(len(own))
        for field in ("prev", "next"):
            linked = columns[field]
            columns[field] = rows[linked]
            dangling = (linked >= 0) & (columns[field] < 0)
            self.check(table, dangling, columns, f"{field!r} of the same table")
        return columns

    def rows(self, table: str, columns: Columns) -> Rows:
        """Rows by token; a token that is there twice is a defect."""
        return self.check_once(table, columns, "token")

    def check_once(self, table: str, columns: Columns, field: str) -> Rows:
        """Note values that are in a field twice; return the last rows of all."""
        values = columns[field]
        rows = Rows(zip(values, range(len(values)), strict=True))
        if len(rows) < len(values):
            last = np.array([rows[value] for value in values])
            self.check(table, last != np.arange(len(values)), columns, f"every {field} once")
        return rows

    def check_links(self, table: str, columns: Columns, *fields: str) -> None:
        """Note rows whose tokens are in no other table."""
        for field in fields:
            other = field.removesuffix("_token")
            self.check(table, columns[field] < 0, columns, f"a {field!r} that {other}.json has")

    def check_poses(self, table: str, columns: Columns) -> None:
        """Note rotations that are no unit quaternions, and translations that are not near."""
        norm = np.linalg.norm(columns["rotation"], axis=1)
        bad = ~(np.abs(norm - 1) < _UNIT)
        self.check(table, bad, columns, "unit quaternions as 'rotation'", columns["rotation"])
        place = columns["translation"]
        bad = ~(np.abs(place) < FARTHEST).all(axis=1)
        expected = f"finite numbers below {FARTHEST:.0e} as 'translation'"
        self.check(table, bad, columns, expected, place)

    def check(
        self,
        table: str,
        bad: NDArray[np.bool_],
        columns: Columns,
        expected: str,
        values: NDArray[Any] | None = None,
    ) -> None:
        """Note one kind of defect of some rows, if there are any; the first ones are named."""
        rows = np.flatnonzero(bad)
        if not len(rows):
            return
        named = [
            columns["token"][row] + ("" if values is None else f" {values[row].tolist()}")
            for row in rows[:3].tolist()
        ]
        got = f"others in {len(rows):,} of {len(bad):,} records: {', '.join(named)}"
        got += ", ..." if len(rows) > 3 else ""
        remedy = "correct these records, or unpack the tables again"
        self.problems.append(Problem(self._path(table), None, expected, got, remedy))

    def stop_at_problems(self) -> None:
        """Raise what was noted, if anything was."""
        if self.problems:
            raise DataError(self.problems)

    def _path(self, table: str) -> Path:
        """File of a table."""
        return self.folder / f"{table}.json"
