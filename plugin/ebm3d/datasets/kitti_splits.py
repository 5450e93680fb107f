"""Lists of frame ids of the KITTI layout: ``ImageSets/train.txt`` and ``ImageSets/val.txt``."""

from __future__ import annotations

from pathlib import Path

from ebm3d.datasets.problems import DataError, Problem, read_lines

_REMEDY = (
    "write one frame id (000000, 000003, ...) per line; the usual lists of 3,712 and 3,769 frames "
    "come with most detection toolboxes"
)


def read_splits(folder: str | Path) -> dict[str, list[str]]:
    """Read the frame ids of ``train`` and ``val`` in the folder ``ImageSets``.

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
    return splits


def read_ids(path: str | Path, first_place: dict[str, str] | None = None) -> list[str]:
    """Read a list of frame ids, one per line; blank lines are skipped.

    Args:
        path: the text file.
        first_place: file and line of each id of other lists; those of this one are added.

    Raises:
        DataError: with every defect: a list missing or empty, an id that is no number, an id twice.
    """
    path = Path(path)
    first_place = {} if first_place is None else first_place
    ids: list[str] = []
    problems: list[Problem] = []
    lines = [line.strip() for line in read_lines(path, "a list of frame ids", _REMEDY)]
    for number, frame_id in enumerate(lines, start=1):
        if not frame_id:
            continue
        if not (frame_id.isascii() and frame_id.isdigit()):
            problems.append(Problem(path, number, "a frame id of digits", repr(frame_id), _REMEDY))
        elif frame_id in first_place:
            got = f"{frame_id} again (first in {first_place[frame_id]})"
            remedy = "keep it in one place of one list"
            problems.append(Problem(path, number, "every frame once", got, remedy))
        else:
            first_place[frame_id] = f"{path}:{number}"
            ids.append(frame_id)
    if not any(lines):
        problems.append(Problem(path, None, "at least one frame id", "none", _REMEDY))
    if problems:
        raise DataError(problems)
    return ids
