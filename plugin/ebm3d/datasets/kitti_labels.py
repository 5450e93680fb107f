"""Label and result files of the KITTI object benchmark.

One object a line, 15 columns, or 16 with a score: type, truncated, occluded, alpha, bbox (left,
top, right, bottom), dimensions (height, width, length), location (x, y, z), rotation_y, and in
result files score. Source: readme of the official development kit.

N objects in a file. Camera frame: x right, y down, z forward; a location is the center of the
bottom face, in meters.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.atomic import write_atomically
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.errors import shape_error

_COLUMNS = (
    "truncated",
    "occluded",
    "alpha",
    "left",
    "top",
    "right",
    "bottom",
    "height",
    "width",
    "length",
    "x",
    "y",
    "z",
    "rotation_y",
    "score",
)
_NUM_LABEL_COLUMNS = 15
_TRAILING = {"bbox": 4, "dimensions": 3, "location": 3}
DONT_CARE = "DontCare"


@dataclass(frozen=True, eq=False)
class KittiObjects:
    """The objects of one KITTI label or result file, as aligned arrays.

    Attributes:
        names: class names as in the file, shape ``(N,)``, strings.
        truncated: share of the object outside the picture, shape ``(N,)``; -1 where unknown.
        occluded: 0 visible, 1 partly, 2 largely occluded, 3 unknown, shape ``(N,)``; -1 in results.
        alpha: observation angle, shape ``(N,)``, radians in [-pi, pi]; -10 where unknown.
        bbox: left, top, right, bottom, shape ``(N, 4)``, pixels.
        dimensions: height, width, length, shape ``(N, 3)``, meters; -1 for DontCare.
        location: center of the bottom face, camera frame, shape ``(N, 3)``, meters;
            -1000 for DontCare.
        rotation_y: rotation about the camera's y axis, shape ``(N,)``, radians; -10 for DontCare.
        score: detection score, shape ``(N,)``, or ``None`` in label files.

    Raises:
        ValueError: if the shapes do not fit together.
    """

    names: NDArray[np.str_]
    truncated: NDArray[np.float64]
    occluded: NDArray[np.int64]
    alpha: NDArray[np.float64]
    bbox: NDArray[np.float64]
    dimensions: NDArray[np.float64]
    location: NDArray[np.float64]
    rotation_y: NDArray[np.float64]
    score: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Check that all arrays have one row per object."""
        num = len(self.names)
        for field in fields(self):
            value = getattr(self, field.name)
            shape = (num, _TRAILING[field.name]) if field.name in _TRAILING else (num,)
            if value is not None and np.shape(value) != shape:
                raise shape_error(field.name, f"{shape} as there are {num} names", value)

    def __len__(self) -> int:
        """The number of objects N."""
        return len(self.names)

    def select(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> KittiObjects:
        """Return the objects chosen by a mask ``(N,)`` or by indices, as new arrays."""
        arrays: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen: dict[str, Any] = {k: None if v is None else v[which] for k, v in arrays.items()}
        return KittiObjects(**chosen)


def read_labels(path: str | Path, scores: bool | None = None) -> KittiObjects:
    """Read and check one label or result file.

    An empty file is a frame without objects. Blank lines are skipped.

    Args:
        path: the text file.
        scores: ``True`` asks for the 16 columns of a result file, ``False`` for the 15 of a label
            file, ``None`` takes what the first line has, for all lines alike.

    Returns:
        The objects, in the order of the file.

    Raises:
        DataError: with every defect of the file: missing, wrong number of columns, not a number,
            not finite, an occlusion that is no integer, or a box without positive size (DontCare
            excepted, whose box is -1 by definition).
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError([_unreadable(path, error)]) from error
    names: list[str] = []
    rows: list[list[float]] = []
    problems: list[Problem] = []
    num_columns = None if scores is None else _NUM_LABEL_COLUMNS + int(scores)
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        if num_columns is None and len(words) in (_NUM_LABEL_COLUMNS, _NUM_LABEL_COLUMNS + 1):
            num_columns = len(words)
        row, found = _parse(path, number, words, num_columns)
        problems += found
        names.append(words[0])
        rows.append(row)
    if problems:
        raise DataError(problems)
    has_score = num_columns == _NUM_LABEL_COLUMNS + 1
    width = len(_COLUMNS) if has_score else len(_COLUMNS) - 1
    table = np.array(rows, dtype=np.float64).reshape(len(rows), width)
    return KittiObjects(
        names=np.array(names, dtype=np.str_),
        truncated=table[:, 0],
        occluded=table[:, 1].astype(np.int64),
        alpha=table[:, 2],
        bbox=table[:, 3:7],
        dimensions=table[:, 7:10],
        location=table[:, 10:13],
        rotation_y=table[:, 13],
        score=table[:, 14] if has_score else None,
    )


def write_labels(path: str | Path, objects: KittiObjects, *, decimals: int = 6) -> None:
    """Write a label file, or a result file where ``objects`` has scores; whole or not at all.

    Args:
        path: the text file; its folder must exist.
        objects: the objects, one line each, in their order.
        decimals: digits after the point. KITTI's own labels have 2, which is a centimeter: too
            coarse for the boxes of a detector.
    """
    columns = [
        objects.truncated,
        objects.occluded,
        objects.alpha,
        *objects.bbox.T,
        *objects.dimensions.T,
        *objects.location.T,
        objects.rotation_y,
    ]
    if objects.score is not None:
        columns.append(objects.score)
    formats = [f".{decimals}f"] * len(columns)
    formats[1] = "d"
    lines = [
        " ".join([str(name), *(format(v, f) for v, f in zip(row, formats, strict=True))]) + "\n"
        for name, row in zip(objects.names, zip(*columns, strict=True), strict=True)
    ]
    write_atomically(Path(path), "".join(lines).encode())


def _parse(
    path: Path, number: int, words: list[str], num_columns: int | None
) -> tuple[list[float], list[Problem]]:
    """Numbers of one line and its defects; the numbers are of use only if there are none."""
    if len(words) != num_columns:
        return [], [_wrong_columns(path, number, len(words), num_columns)]
    row: list[float] = []
    problems: list[Problem] = []
    for column, word in zip(_COLUMNS, words[1:], strict=False):
        try:
            value = float(word)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            remedy = f"write {column} as a finite decimal number, or remove the object"
            problems.append(
                Problem(path, number, f"a finite number for {column}", repr(word), remedy)
            )
        row.append(value)
    if problems:
        return row, problems
    if row[1] != int(row[1]):
        remedy = "write 0 (visible), 1 (partly), 2 (largely occluded) or 3 (unknown)"
        problems.append(Problem(path, number, "an integer for occluded", words[2], remedy))
    if words[0] != DONT_CARE and min(row[7:10]) <= 0:
        got = f"{words[0]} of height {words[8]}, width {words[9]}, length {words[10]}"
        remedy = f"correct the box, remove the object, or name it {DONT_CARE}"
        problems.append(Problem(path, number, "a box with positive sizes", got, remedy))
    return row, problems


def _wrong_columns(path: Path, number: int, got: int, num_columns: int | None) -> Problem:
    """The defect of a line with ``got`` columns where ``num_columns`` (None: 15 or 16) are due."""
    if num_columns is None:
        expected = "15 columns (a label) or 16 (a result, with its score)"
    elif num_columns == _NUM_LABEL_COLUMNS:
        expected = "15 columns (type and 14 numbers)"
    else:
        expected = "16 columns (type, 14 numbers and the score)"
    remedy = "restore the line in the format: type truncated occluded alpha bbox(4) hwl(3) xyz(3) "
    remedy += "rotation_y [score]"
    if num_columns == _NUM_LABEL_COLUMNS and got == num_columns + 1:
        remedy = "remove the score: this is a label file, not a result file"
    elif num_columns == _NUM_LABEL_COLUMNS + 1 and got == num_columns - 1:
        remedy = "add the score as the last column"
    return Problem(path, number, expected, f"{got} columns", remedy)


def _unreadable(path: Path, error: Exception) -> Problem:
    """The defect of a file that is missing or is no text."""
    if isinstance(error, FileNotFoundError):
        return Problem(path, None, "a label file", "no such file", "restore it from the data set")
    return Problem(path, None, "a readable text file", str(error), "restore it from the data set")
