"""The split lists of the KITTI layout: ``ImageSets/train.txt`` and ``ImageSets/val.txt``."""

from __future__ import annotations

from pathlib import Path

from ebm3d.datasets.problems import DataError, Problem

_LIST_REMEDY = (
    "write one frame id (000000, 000003, ...) a line; the usual lists of 3,712 and 3,769 frames "
    "come with most detection toolboxes"
)


def read_splits(folder: str | Path) -> dict[str, list[str]]:
    """Read and check the lists of training and validation frames.

    Args:
        folder: the folder ``ImageSets``.

    Returns:
        Frame ids of ``train`` and of ``val``, in the order of the files.

    Raises:
        DataError: with every defect: a list missing or empty, an id that is no number, an id given
            twice or in both lists (which would let a training see what it is judged on).
    """
    splits: dict[str, list[str]] = {}
    problems: list[Problem] = []
    owner: dict[str, str] = {}
    for split in ("train", "val"):
        path = Path(folder) / f"{split}.txt"
        splits[split] = []
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            got = "no such file" if isinstance(error, FileNotFoundError) else str(error)
            problems.append(Problem(path, None, "a list of frame ids", got, _LIST_REMEDY))
            continue
        for number, line in enumerate(lines, start=1):
            frame_id = line.strip()
            if not frame_id:
                continue
            place = f"{path}:{number}"
            if not (frame_id.isascii() and frame_id.isdigit()):
                expected = "a frame id of digits"
                problems.append(Problem(path, number, expected, repr(frame_id), _LIST_REMEDY))
            elif frame_id in owner:
                got = f"{frame_id} again (first in {owner[frame_id]})"
                remedy = "keep it in one place of one list"
                problems.append(Problem(path, number, "every frame once", got, remedy))
            else:
                owner[frame_id] = place
                splits[split].append(frame_id)
        if not any(line.strip() for line in lines):
            problems.append(Problem(path, None, "at least one frame id", "none", _LIST_REMEDY))
    if problems:
        raise DataError(problems)
    return splits
