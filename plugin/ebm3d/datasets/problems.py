"""Defects of a data set: one record per defect, one error that carries them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")

# Of files that people have in place of those that are read.
_SUFFIXES = (
    ".txt",
    ".json",
    ".xml",
    ".csv",
    ".bin",
    ".npy",
    ".npz",
    ".pcd",
    ".ply",
    ".las",
    ".laz",
)


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


def missing_folder(path: Path, expected: str, remedy: str) -> Problem:
    """Describe a folder that is missing; what lies beside it is named."""
    place = next(parent for parent in path.parents if parent.exists())
    there = sorted(p.name for p in place.iterdir() if p.is_dir()) if place.is_dir() else []
    got = f"no such folder; in {place} " + (f"are {', '.join(there[:8])}" if there else "is none")
    return Problem(path, None, expected, got, remedy)


def unreadable(path: Path, expected: str, error: Exception, remedy: str) -> Problem:
    """Describe a file that is missing or cannot be read; one of the same frame is named."""
    got = str(error)
    if isinstance(error, FileNotFoundError):
        got = "no such file" if path.parent.is_dir() else f"no such file, nor {path.parent}"
        if near := _same_number(path):
            got += f"; {near} exists"
            remedy = f"write frame ids and file names alike: {near[: -len(path.suffix)]}"
        elif other := next((s for s in _SUFFIXES if path.with_suffix(s).is_file()), None):
            got += f"; {path.stem}{other} exists"
            remedy = f"convert it to {path.suffix}, if it is {expected}"
    return Problem(path, None, expected, got, remedy)


def _same_number(path: Path) -> str | None:
    """Name of a file with the frame number of a missing one in more or fewer digits."""
    if not (path.stem.isascii() and path.stem.isdigit()):
        return None
    names = [f"{int(path.stem):0{digits}d}{path.suffix}" for digits in (6, 1, 10)]
    return next((name for name in names if (path.parent / name).is_file()), None)


class Collected:
    """What several readers find wrong, raised once."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def attempt(self, read: Callable[..., _T], *args: Any, **options: Any) -> _T | None:
        """Call a reader; keep its problems and return None if it raises them."""
        try:
            return read(*args, **options)
        except DataError as error:
            self.problems += error.problems
            return None

    def check(self) -> None:
        """Raise all that was kept, if anything."""
        if self.problems:
            raise DataError(self.problems)
