"""Many KITTI label or result files at once: one table, read in bulk.

F frames; N objects of all frames together, those of frame ``i`` in rows
``starts[i]`` to ``starts[i + 1]``.

Reading and parsing 7,538 files of a validation split takes half a second, where one call of
``read_labels`` per file takes many. Files that the fast parser does not accept are read again by
``read_labels``, which either understands them or says what is wrong, with file and line.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ebm3d.boxes.kernels import threads_for
from ebm3d.datasets import kitti_parser
from ebm3d.datasets.kitti_labels import KittiObjects, read_labels
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.errors import input_error

_NUM_NUMBERS = 14
_MAX_PROBLEMS = 20
# To the right power of ten.
_SECONDS_PER_BYTE = 1e-8


@dataclass(frozen=True, eq=False)
class KittiFrames:
    """The objects of many frames.

    Attributes:
        frame_ids: names of the frames, usually six digits, length F; no name twice.
        starts: first row of each frame, and the number of rows at the end, shape ``(F + 1,)``.
        objects: the objects of all frames, one after the other.

    Raises:
        ValueError: if ``starts`` does not fit, or a frame id appears twice.
    """

    frame_ids: tuple[str, ...]
    starts: NDArray[np.int64]
    objects: KittiObjects

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        num = len(self.frame_ids)
        if (
            self.starts.shape != (num + 1,)
            or self.starts[0] != 0
            or np.diff(self.starts).min(initial=0) < 0
            or self.starts[-1] != len(self.objects)
        ):
            expected = f"{num + 1} ascending rows from 0 to {len(self.objects)}"
            raise input_error("starts", expected, self.starts)
        if len(set(self.frame_ids)) != num:
            twice = Counter(self.frame_ids).most_common(1)[0][0]
            raise input_error("frame_ids", "different from each other", f"{twice!r} twice")

    def __len__(self) -> int:
        """The number of frames F."""
        return len(self.frame_ids)

    @property
    def frame_of_object(self) -> NDArray[np.int64]:
        """Index of the frame of each object, shape ``(N,)``."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def frame(self, index: int) -> KittiObjects:
        """Return the objects of one frame.

        Args:
            index: position of the frame in ``frame_ids``.
        """
        return self.objects.select(np.arange(self.starts[index], self.starts[index + 1]))

    def select(self, frame_ids: Sequence[str]) -> KittiFrames:
        """Return the given frames, in the given order.

        Args:
            frame_ids: names of frames that are present.

        Raises:
            ValueError: if a frame is not present.
        """
        position = {name: index for index, name in enumerate(self.frame_ids)}
        missing = [name for name in frame_ids if name not in position]
        if missing:
            got = f"{len(missing)} that are not, first {missing[0]!r}"
            raise input_error("frame_ids", f"among the {len(self)} frames present", got)
        chosen = np.array([position[name] for name in frame_ids], dtype=np.int64)
        counts = np.diff(self.starts)[chosen]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.repeat(self.starts[chosen] - starts[:-1], counts) + np.arange(starts[-1])
        return KittiFrames(tuple(frame_ids), starts, self.objects.select(rows))


def stack_frames(frames: Mapping[str, KittiObjects], *, scores: bool) -> KittiFrames:
    """Stack the objects of single frames.

    Args:
        frames: objects by frame id.
        scores: whether these are detections; the scores of labels are left out.

    Returns:
        The table, frames in the order of the mapping.

    Raises:
        ValueError: if ``scores`` and the objects of a frame have none.
    """
    parts = [part for part in frames.values() if len(part)]
    for frame_id, part in frames.items():
        if scores and part.score is None and len(part):
            raise input_error(f"score of frame {frame_id!r}", "given for detections", "None")
    starts = np.concatenate([[0], np.cumsum([len(part) for part in frames.values()])]).astype(
        np.int64
    )
    empty = _objects(np.zeros((0, _NUM_NUMBERS + 1)), np.zeros(0, dtype="<U1"), scores)

    def column(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(empty, name), *(getattr(part, name) for part in parts)])

    objects = KittiObjects(
        names=column("names").astype(np.str_),
        truncated=column("truncated").astype(np.float64),
        occluded=column("occluded").astype(np.int64),
        alpha=column("alpha").astype(np.float64),
        bbox=column("bbox").astype(np.float64),
        dimensions=column("dimensions").astype(np.float64),
        location=column("location").astype(np.float64),
        rotation_y=column("rotation_y").astype(np.float64),
        score=column("score").astype(np.float64) if scores else None,
    )
    return KittiFrames(tuple(frames), starts, objects)


def read_frames(
    folder: str | Path,
    frame_ids: Sequence[str],
    *,
    scores: bool,
    progress: Callable[[Iterable[str]], Iterable[str]] | None = None,
) -> KittiFrames:
    """Read the label or result files of many frames.

    Numbers of up to 15 significant digits are read exactly, longer ones to one unit in the last
    place. A result that gives no 3D box in the official way (dimensions -1, location -1000) is
    accepted.

    Args:
        folder: where the files ``<frame id>.txt`` lie.
        frame_ids: the frames to read, in this order.
        scores: ``True`` for result files (16 columns), ``False`` for labels (15 columns).
        progress: wraps the iterable of frame ids, for a progress bar.

    Returns:
        All objects; a frame with an empty file has none.

    Raises:
        DataError: with the first defects found: a missing file, a line with the wrong number of
            columns (such as a result without its score), a number that is none or not finite, a
            size that is not positive.
    """
    folder = Path(folder)
    contents = _read_all(folder, progress(frame_ids) if progress else frame_ids)
    text = np.frombuffer(b"\n".join([*contents, b""]), dtype=np.uint8)
    begins = np.concatenate([[0], np.cumsum([len(part) + 1 for part in contents])]).astype(np.int64)
    with threads_for(len(text) * _SECONDS_PER_BYTE):
        counts = kitti_parser.count_lines(text, begins)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    table = np.zeros((int(starts[-1]), _NUM_NUMBERS + 1))
    hashes = np.zeros(len(table), dtype=np.uint64)
    places = np.zeros((len(table), 2), dtype=np.int64)
    with threads_for(len(text) * _SECONDS_PER_BYTE):
        accepted = kitti_parser.parse_files(
            text,
            begins,
            starts,
            _NUM_NUMBERS + int(scores),
            kitti_parser.POWERS_OF_TEN,
            table,
            hashes,
            places,
        )
    names = _decode_names(text, hashes, places)
    problems: list[Problem] = []
    for index in np.flatnonzero(~accepted):
        try:
            objects = read_labels(folder / f"{frame_ids[index]}.txt", scores=scores)
        except DataError as error:
            problems += error.problems
            if len(problems) >= _MAX_PROBLEMS:
                break
            continue
        rows = slice(starts[index], starts[index + 1])
        names = names.astype(np.result_type(names.dtype, objects.names.dtype))
        names[rows] = objects.names
        table[rows] = _numbers(objects)
    if problems:
        raise DataError(problems[:_MAX_PROBLEMS])
    return KittiFrames(tuple(frame_ids), starts, _objects(table, names, scores))


def _read_all(folder: Path, frame_ids: Iterable[str]) -> list[bytes]:
    """Return the bytes of all files, or raise one error that names those which are missing."""
    contents: list[bytes] = []
    missing: list[Problem] = []
    prefix = str(folder) + os.sep
    for frame_id in frame_ids:
        try:
            descriptor = os.open(f"{prefix}{frame_id}.txt", os.O_RDONLY)
        except OSError as error:
            path = folder / f"{frame_id}.txt"
            got = "no such file" if isinstance(error, FileNotFoundError) else str(error)
            missing.append(Problem(path, None, "a label or result file", got, "restore it"))
            continue
        try:
            size = os.fstat(descriptor).st_size
            content = os.read(descriptor, size + 1)
            while len(content) < size:
                content += os.read(descriptor, size - len(content))
        finally:
            os.close(descriptor)
        contents.append(content)
    if missing:
        shown = missing[:_MAX_PROBLEMS]
        if len(missing) > len(shown):
            got = f"{len(missing)} of the files asked for missing"
            shown.append(Problem(folder, None, "all of them", got, "the first are named above"))
        raise DataError(shown)
    return contents


def _objects(table: NDArray[np.float64], names: NDArray[np.str_], scores: bool) -> KittiObjects:
    """The columns of the table of numbers, shape (N, 15), as objects."""
    return KittiObjects(
        names=names,
        truncated=table[:, 0],
        occluded=table[:, 1].astype(np.int64),
        alpha=table[:, 2],
        bbox=table[:, 3:7],
        dimensions=table[:, 7:10],
        location=table[:, 10:13],
        rotation_y=table[:, 13],
        score=table[:, 14] if scores else None,
    )


def _numbers(objects: KittiObjects) -> NDArray[np.float64]:
    """Undo ``_objects``, shape (N, 15); the score is 0 where there is none."""
    score = np.zeros(len(objects)) if objects.score is None else objects.score
    return np.column_stack(
        [
            objects.truncated,
            objects.occluded,
            objects.alpha,
            objects.bbox,
            objects.dimensions,
            objects.location,
            objects.rotation_y,
            score,
        ]
    )


def _decode_names(
    text: NDArray[np.uint8], hashes: NDArray[np.uint64], places: NDArray[np.int64]
) -> NDArray[np.str_]:
    """Class names of all rows, from the place of each name in the text, shape (N,)."""
    if len(hashes) == 0:
        return np.zeros(0, dtype="<U1")
    _, first, code = np.unique(hashes, return_index=True, return_inverse=True)
    unique = [bytes(text[places[i, 0] : places[i, 1]]).decode(errors="replace") for i in first]
    return np.array(unique, dtype=np.str_)[code]
