"""Lists of frame ids of the KITTI layout: ``ImageSets/train.txt`` and ``ImageSets/val.txt``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ebm3d.datasets.problems import DataError, Problem
from ebm3d.datasets.text import read_lines

_REMEDY = (
    "write one frame id (000000, 000003, ...) per line; the usual lists of 3,712 and 3,769 frames "
    "come with most detection toolboxes"
)
_BETWEEN = re.compile(r"[\s,;\"'\[\]]+")
_FILE_OF_FRAME = re.compile(r"(?:.*[/\\])?(\d+)(?:\.(?:txt|bin|png|jpg|npy|pcd|ply))*", re.ASCII)


def read_splits(folder: str | Path, files: str | Path | None = None) -> dict[str, list[str]]:
    """Read the frame ids of ``train`` and ``val`` in the folder ``ImageSets``.

    Args:
        folder: of the lists.
        files: folder of the frames' files, which say how many digits an id has: see ``match_ids``.

    Raises:
        DataError: with every defect of both lists, an id in both of them among these.
    """
    splits: dict[str, list[str]] = {}
    problems: list[Problem] = []
    first_place: dict[str, str] = {}
    for split in ("train", "val"):
        try:
            splits[split] = read_ids(Path(folder) / f"{split}.txt", first_place)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    if files is None:
        return splits
    names = [path.name.partition(".")[0] for path in Path(files).iterdir()]
    return {split: match_ids(ids, names) for split, ids in splits.items()}


def read_ids(path: str | Path, first_place: dict[str, str] | None = None) -> list[str]:
    """Read a list of frame ids, or of files named after them, between blanks, commas or lines.

    Args:
        path: the text file.
        first_place: file and line of each number in other lists; those of this one are added.

    Raises:
        DataError: with every defect: a list missing or empty, an id that is no number, an id twice.
    """
    path = Path(path)
    first_place = {} if first_place is None else first_place
    ids: list[str] = []
    problems: list[Problem] = []
    for number, line in enumerate(read_lines(path, "a list of frame ids", _REMEDY), start=1):
        for word in filter(None, _BETWEEN.split(line)):
            match = _FILE_OF_FRAME.fullmatch(word)
            if match is None:
                problems.append(Problem(path, number, "a frame id of digits", repr(word), _REMEDY))
            elif (key := match[1].lstrip("0")) in first_place:
                got = f"{match[1]} again (first in {first_place[key]})"
                remedy = "keep it in one place of one list"
                problems.append(Problem(path, number, "every frame once", got, remedy))
            else:
                first_place[key] = f"{path}:{number}"
                ids.append(match[1])
    if not ids and not problems:
        problems.append(Problem(path, None, "at least one frame id", "none", _REMEDY))
    if problems:
        raise DataError(problems)
    return ids


def match_ids(ids: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return ids as files are named: 3 is 000003 where that alone exists; others unchanged."""
    by_number: dict[str, list[str]] = {}
    for name in {*names} - {""}:
        by_number.setdefault(name.lstrip("0"), []).append(name)
    near = [(frame_id, by_number.get(frame_id.lstrip("0"), ())) for frame_id in ids]
    return [names[0] if len(names) == 1 else frame_id for frame_id, names in near]
