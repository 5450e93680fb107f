"""Many KITTI label or result files as one table, read in bulk.

F frames; N objects of all frames together, those of frame ``i`` in rows ``starts[i]`` to
``starts[i + 1]``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.kitti_labels import DONT_CARE, LABEL_COLUMNS, KittiObjects, read_labels
from ebm3d.datasets.problems import DataError, Problem, unreadable
from ebm3d.datasets.text import is_plain
from ebm3d.errors import input_error

_MAX_PROBLEMS = 20


@dataclass(frozen=True, eq=False)
class KittiFrames:
    """The objects of many frames.

    Args:
        frame_ids: names of the frames, no name twice.
        starts: first row of each frame, and the number of rows at the end, shape ``(F + 1,)``.
        objects: of all frames, one after the other.

    Raises:
        ValueError: if ``starts`` does not fit, or a frame id appears twice.
    """

    frame_ids: tuple[str, ...]
    starts: NDArray[np.int64]
    objects: KittiObjects

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        num = len(self.frame_ids)
        if self.starts.shape != (num + 1,) or self.starts[-1] != len(self.objects):
            expected = f"{num + 1} ascending rows from 0 to {len(self.objects)}"
            raise input_error("starts", expected, self.starts)
        if len(set(self.frame_ids)) != num:
            twice = Counter(self.frame_ids).most_common(1)[0][0]
            raise input_error("frame_ids", "different from each other", f"{twice!r} twice")

    def __len__(self) -> int:
        """F."""
        return len(self.frame_ids)

    @property
    def frame_of_object(self) -> NDArray[np.int64]:
        """Index of the frame of each object, shape ``(N,)``."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def frame(self, index: int) -> KittiObjects:
        """Return the objects of the frame ``frame_ids[index]``."""
        return self.objects.select(np.arange(self.starts[index], self.starts[index + 1]))

    def select(self, frame_ids: Sequence[str]) -> KittiFrames:
        """Return some of the frames, all of which must be present, in this order."""
        position = {name: index for index, name in enumerate(self.frame_ids)}
        missing = [name for name in frame_ids if name not in position]
        if missing:
            got = f"{len(missing)} that are not, first {missing[0]!r}"
            raise input_error("frame_ids", f"among the {len(self)} frames present", got)
        chosen = np.array([position[name] for name in frame_ids], dtype=np.int64)
        counts = np.diff(self.starts)[chosen]
        starts = _starts(counts)
        rows = np.repeat(self.starts[chosen] - starts[:-1], counts) + np.arange(starts[-1])
        return KittiFrames(tuple(frame_ids), starts, self.objects.select(rows))


def stack_frames(frames: Mapping[str, KittiObjects], *, scores: bool) -> KittiFrames:
    """Stack the objects of single frames, by frame id.

    ``scores`` says whether these are detections (a ``ValueError`` if one has none) or labels, whose
    scores are left out.
    """
    parts = {frame_id: part for frame_id, part in frames.items() if len(part)}
    for frame_id, part in parts.items():
        if scores and part.score is None:
            raise input_error(f"score of frame {frame_id!r}", "present for detections", "None")
    names = np.concatenate([np.zeros(0, "<U1"), *(part.names for part in parts.values())])
    empty = np.zeros((0, LABEL_COLUMNS - 1 + scores))
    table = np.concatenate([empty, *(part.to_table(scores) for part in parts.values())])
    starts = _starts([len(part) for part in frames.values()])
    return KittiFrames(tuple(frames), starts, KittiObjects.from_table(names, table))


def read_frames(
    folder: str | Path,
    frame_ids: Sequence[str],
    *,
    scores: bool,
    progress: Callable[[Iterable[str]], Iterable[str]] | None = None,
) -> KittiFrames:
    """Read the label or result files of many frames; equal to ``read_labels`` of each.

    Args:
        folder: of the files ``<frame id>.txt``.
        frame_ids: the frames to read, in this order.
        scores: ``True`` for result files (16 columns), ``False`` for labels (15 columns).
        progress: wraps the iterable of frame ids, for a progress bar.

    Raises:
        DataError: with the first defects: missing files, or what ``read_labels`` refuses.
    """
    folder = Path(folder)
    contents: list[bytes] = []
    missing: list[Problem] = []
    for frame_id in progress(frame_ids) if progress else frame_ids:
        try:
            with open(f"{folder}/{frame_id}.txt", "rb") as stream:
                contents.append(stream.read())
        except OSError as error:
            path = folder / f"{frame_id}.txt"
            missing.append(unreadable(path, "a label or result file", error, "restore it"))
    if missing:
        shown = missing[:_MAX_PROBLEMS]
        if len(missing) > len(shown):
            got = f"{len(missing)} of the requested files missing"
            shown.append(Problem(folder, None, "all of them", got, "the first are named above"))
        raise DataError(shown)
    counts = [sum(map(bool, map(bytes.strip, content.splitlines()))) for content in contents]
    text = b"\n".join(contents)
    objects = _parse(text, sum(counts), LABEL_COLUMNS + int(scores)) if is_plain(text) else None
    if objects is None:
        return stack_frames(_read_one_by_one(folder, frame_ids, scores), scores=scores)
    return KittiFrames(tuple(frame_ids), _starts(counts), objects)


def _parse(text: bytes, num_objects: int, num_columns: int) -> KittiObjects | None:
    """Parse correct lines at once: ten times faster than one by one; None if any may be wrong."""
    words = text.split()
    if len(words) != num_objects * num_columns:
        return None
    try:
        names = np.array(words[::num_columns], dtype=np.bytes_).astype(np.str_)
        # A line too long beside one too short would put a name among the numbers.
        del words[::num_columns]
        numbers = np.fromiter(map(float, words), np.float64, len(words))
    except ValueError:
        return None
    table = numbers.reshape(num_objects, num_columns - 1)
    is_sized = (table[:, 7:10] > 0).all(axis=1) | (names == DONT_CARE)
    is_valid = is_sized & np.isfinite(table).all(axis=1) & (table[:, 1] == np.floor(table[:, 1]))
    return KittiObjects.from_table(names, table) if is_valid.all() else None


def _read_one_by_one(
    folder: Path, frame_ids: Sequence[str], scores: bool
) -> dict[str, KittiObjects]:
    """Read file by file, to name the defects with their lines."""
    frames: dict[str, KittiObjects] = {}
    problems: list[Problem] = []
    for frame_id in frame_ids:
        try:
            frames[frame_id] = read_labels(folder / f"{frame_id}.txt", scores=scores)
        except DataError as error:
            problems += error.problems
        if len(problems) >= _MAX_PROBLEMS:
            break
    if problems:
        raise DataError(problems[:_MAX_PROBLEMS])
    return frames


def _starts(counts: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """First row of each frame, and the number of rows, from the rows of each frame."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
