"""What is wrong with a data set: one record per defect, one error that carries them all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One defect of one file.

    Attributes:
        file: the file concerned, as the caller named its folder.
        line: line in that file counted from 1, or ``None`` where the file has no lines.
        expected: what should have been there.
        got: what was there.
        remedy: what to do about it.
    """

    file: Path
    line: int | None
    expected: str
    got: str
    remedy: str

    @property
    def place(self) -> str:
        """The file, with its line where there is one: ``label_2/000003.txt:2``."""
        return str(self.file) if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        """One line with place, expected, got and remedy."""
        return f"{self.place}: expected {self.expected}, but got {self.got}; {self.remedy}."


class DataError(ValueError):
    """Raised for defective data, once for all defects found.

    Args:
        problems: the defects, at least one.

    Attributes:
        problems: the defects, in the order found.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        """All defects, one a line."""
        return "\n".join(str(problem) for problem in self.problems)
