"""Label and result files of the KITTI object benchmark, N objects, one per line.

15 columns, or 16 with a score: type, truncated, occluded, alpha, bbox, dimensions, location,
rotation_y, score. Camera frame: x right, y down, z forward. Source: readme of the development kit.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.atomic import write_atomically
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.datasets.text import is_number, read_lines, split_words
from ebm3d.errors import shape_error

DONT_CARE = "DontCare"
LABEL_COLUMNS = 15
RESULT_COLUMNS = 16
_NUMBERS = (
    *("truncated", "occluded", "alpha", "left", "top", "right", "bottom"),
    *("height", "width", "length", "x", "y", "z", "rotation_y", "score"),
)
_LINE_FORMAT = "type truncated occluded alpha bbox(4) hwl(3) xyz(3) rotation_y [score]"
_TRAILING = {"bbox": 4, "dimensions": 3, "location": 3}


@dataclass(frozen=True, eq=False)
class KittiObjects:
    """The objects of KITTI label or result files, as aligned arrays.

    Args:
        names: class names, ``(N,)``, strings.
        truncated: share of the object outside the image, ``(N,)``; -1 if unknown.
        occluded: 0 visible, 1 partly, 2 largely occluded, 3 unknown, ``(N,)``; -1 in results.
        alpha: observation angle, ``(N,)``, radians in [-pi, pi]; -10 if unknown.
        bbox: left, top, right, bottom, ``(N, 4)``, pixels.
        dimensions: height, width, length, ``(N, 3)``, meters; -1 for DontCare.
        location: center of the bottom face, camera frame, ``(N, 3)``, meters; -1000 for DontCare.
        rotation_y: rotation about the camera's y axis, ``(N,)``, radians; -10 for DontCare.
        score: ``(N,)``, or ``None`` for labels.

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

    @classmethod
    def from_table(cls, names: NDArray[np.str_], table: NDArray[np.float64]) -> KittiObjects:
        """Build from the numbers of a file, shape ``(N, 14)``, or ``(N, 15)`` with scores."""
        return cls(
            names=names,
            truncated=table[:, 0],
            occluded=table[:, 1].astype(np.int64),
            alpha=table[:, 2],
            bbox=table[:, 3:7],
            dimensions=table[:, 7:10],
            location=table[:, 10:13],
            rotation_y=table[:, 13],
            score=table[:, 14] if table.shape[1] == RESULT_COLUMNS - 1 else None,
        )

    def to_table(self, scores: bool) -> NDArray[np.float64]:
        """Return the numbers of a file, shape ``(N, 14)``, or ``(N, 15)`` with scores."""
        columns = [self.truncated, self.occluded, self.alpha, self.bbox, self.dimensions]
        columns += [self.location, self.rotation_y]
        if scores and self.score is not None:
            columns.append(self.score)
        return np.column_stack(columns).astype(np.float64)

    def __len__(self) -> int:
        """N."""
        return len(self.names)

    def select(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> KittiObjects:
        """Return the objects of a mask ``(N,)`` or of indices, as new arrays."""
        chosen: dict[str, Any] = {
            name: None if value is None else value[which] for name, value in vars(self).items()
        }
        return KittiObjects(**chosen)


def read_labels(
    path: str | Path, scores: bool | None = None, known_names: Collection[str] | None = None
) -> KittiObjects:
    """Read and check one label or result file; an empty file is a frame without objects.

    Args:
        path: the text file.
        scores: whether a result file (16 columns) or a label file (15 columns) is expected;
            ``None`` takes what the first line has.
        known_names: class names that may occur; by default any.

    Raises:
        DataError: with every defect of the file. Boxes need positive sizes, except DontCare and
            results without a 3D box (-1).
    """
    path = Path(path)
    num_columns = None if scores is None else LABEL_COLUMNS + int(scores)
    names: list[str] = []
    rows: list[list[float]] = []
    problems: list[Problem] = []
    lines = read_lines(path, "a label file", "restore it from the data set")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            words = split_words(line, path, number)
            known = len(words) in (LABEL_COLUMNS, RESULT_COLUMNS) and is_number(words[1])
            if num_columns is None and known:
                num_columns = len(words)
            rows.append(_parse_line(path, number, words, num_columns, known_names))
            names.append(words[0])
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    table = np.array(rows, dtype=np.float64).reshape(len(rows), (num_columns or LABEL_COLUMNS) - 1)
    return KittiObjects.from_table(np.array(names, dtype=np.str_), table)


def write_labels(path: str | Path, objects: KittiObjects, *, decimals: int = 6) -> None:
    """Write a label file, or a result file if ``objects`` have scores, atomically.

    ``decimals`` are the digits after the point; KITTI's labels have 2. The folder must exist.
    """
    table = objects.to_table(scores=True)
    formats = ["%s"] + [f"%.{decimals}f"] * table.shape[1]
    formats[2] = "%d"  # occluded
    line_format = " ".join(formats) + "\n"
    rows = zip(objects.names, table.tolist(), strict=True)
    write_atomically(Path(path), "".join(line_format % (name, *row) for name, row in rows).encode())


def _parse_line(
    path: Path,
    number: int,
    words: list[str],
    num_columns: int | None,
    known_names: Collection[str] | None,
) -> list[float]:
    """Numbers of one line; raises with its defects."""
    if (got := len(words)) != num_columns:
        expected = (
            f"{num_columns} columns" if num_columns else "15 columns (a label) or 16 (a result)"
        )
        shown, remedy = _explain_columns(words, num_columns, known_names or ())
        raise DataError([Problem(path, number, expected, f"{got} columns{shown}", remedy)])
    problems: list[Problem] = []
    row: list[float] = []
    for column, word in zip(_NUMBERS, words[1:], strict=False):
        try:
            row.append(float(word))
        except ValueError:
            row.append(math.nan)
        if not math.isfinite(row[-1]):
            expected = f"a finite number for {column}"
            remedy = f"write {column} as a finite decimal number, or remove the object"
            problems.append(Problem(path, number, expected, repr(word), remedy))
    if len(problems) == len(row):
        remedy = f"remove a header, or restore the line in the format: {_LINE_FORMAT}"
        problems = [Problem(path, number, "numbers after the name", " ".join(words[:4]), remedy)]
    if problems:
        raise DataError(problems)
    if row[1] != int(row[1]):
        remedy = "write 0 (visible), 1 (partly), 2 (largely occluded) or 3 (unknown)"
        problems.append(Problem(path, number, "an integer for occluded", words[2], remedy))
    has_no_3d_box = len(row) == RESULT_COLUMNS - 1 and row[7:11] == [-1, -1, -1, -1000]
    if min(row[7:10]) <= 0 and not has_no_3d_box and words[0].lower() != DONT_CARE.lower():
        sizes = f"{words[0]} of height {words[8]}, width {words[9]}, length {words[10]}"
        remedy = f"correct the box, remove the object, or name it {DONT_CARE}"
        problems.append(Problem(path, number, "a box with positive sizes", sizes, remedy))
    if known_names is not None and words[0] not in known_names:
        near = near_name(words[0], known_names)
        remedy = f"write {near}" if near else "write the class among these that comes closest"
        remedy += f", or name the object {DONT_CARE} to leave it out"
        expected = f"one of {', '.join(known_names)}"
        problems.append(Problem(path, number, expected, words[0], remedy))
    if problems:
        raise DataError(problems)
    return row


def _explain_columns(
    words: list[str], num_columns: int | None, known_names: Collection[str]
) -> tuple[str, str]:
    """What a line of another number of columns looks like, and the remedy for it."""
    form = f"restore the line in the format: {_LINE_FORMAT}"
    num_words = next((i for i, word in enumerate(words) if is_number(word)), len(words))
    if 1 < num_words < len(words):
        name = "_".join(words[:num_words])
        remedy = f"write {near_name(name, known_names) or name}"
        if len(words) - num_words + 1 not in (num_columns, LABEL_COLUMNS, RESULT_COLUMNS):
            remedy += f", and {form}"
        return f", with a space in the class name {' '.join(words[:num_words])!r}", remedy
    if num_words == 0 and len(words) > 2 and is_number(words[1]) and not is_number(words[2]):
        remedy = "write one file per frame, without the first two columns"
        return ", frame and track before the name as in the tracking benchmark", remedy
    if num_words == 0:
        return f", {words[0]!r} first", f"begin with the class name, in the format: {_LINE_FORMAT}"
    return "", {
        (
            LABEL_COLUMNS,
            RESULT_COLUMNS,
        ): "remove the score, or name the folder of labels, not of results",
        (
            RESULT_COLUMNS,
            LABEL_COLUMNS,
        ): "add the score as the last column, or name the folder of results, not of labels",
    }.get((num_columns or 0, len(words)), form)


def near_name(name: str, known_names: Collection[str]) -> str | None:
    """The known name that a name most likely stands for."""
    by_key = {known.lower(): known for known in known_names}
    key = name.lower().replace("-", "_")
    near = difflib.get_close_matches(key, by_key, n=1, cutoff=0.8)
    return by_key[near[0]] if near else None
