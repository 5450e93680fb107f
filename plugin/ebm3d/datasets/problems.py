"""Defects of a data set: one record per defect, one error that carries them all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One defect of one file; ``line`` counts from 1, ``None`` for the file as a whole."""

    file: Path
    line: int | None
    expected: str
    got: str
    remedy: str

    @property
    def place(self) -> str:
        """The file, with its line if it has one: ``label_2/000003.txt:2``."""
        return str(self.file) if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        """One line with place, expected, got and remedy."""
        return f"{self.place}: expected {self.expected}, but got {self.got}; {self.remedy}."


class DataError(ValueError):
    """Raised for defective data, once for all defects in ``problems``."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        """All defects, one per line."""
        return "\n".join(str(problem) for problem in self.problems)


def unreadable(path: Path, expected: str, error: Exception, remedy: str) -> Problem:
    """Describe a file that is missing or cannot be read."""
    got = "no such file" if isinstance(error, FileNotFoundError) else str(error)
    return Problem(path, None, expected, got, remedy)


def read_lines(path: Path, expected: str, remedy: str) -> list[str]:
    """Read the lines of a text file, or raise a ``DataError`` if it is missing or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError([unreadable(path, expected, error, remedy)]) from error
