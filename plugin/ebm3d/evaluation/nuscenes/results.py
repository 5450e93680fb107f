"""Result files of nuScenes' detection task: read, checked as the development kit does, or stricter.

N boxes of a piece of the file.
"""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.nuscenes.classes import ATTRIBUTES, CLASSES
from ebm3d.datasets.nuscenes.poses import FARTHEST, headings
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.datasets.processes import map_in_order
from ebm3d.evaluation.nuscenes.boxes import GroundTruth, NuScenesBoxes, join_boxes, no_boxes
from ebm3d.evaluation.nuscenes.json_pieces import Piece, cut_results, damaged, twice
from ebm3d.evaluation.nuscenes.protocol import PROTOCOL

_VECTORS = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}
_CLASS_INDEX = {name: index for index, name in enumerate(CLASSES)}
_ATTRIBUTE_INDEX = {"": -1} | {name: index for index, name in enumerate(ATTRIBUTES)}
_MAX_POINTS = 2**62
_WORTH_SHARING = 4  # pieces from which on several processes pay


@dataclass(frozen=True, eq=False)
class ResultFile:
    """A result file.

    Args:
        path: where it was read.
        tokens: of its samples, in its order.
        meta: which sensors and data the detector used.
        boxes: in its order; ``sample`` counts ``tokens``.
    """

    path: Path
    tokens: tuple[str, ...]
    meta: Mapping[str, Any]
    boxes: NuScenesBoxes

    def boxes_of(self, truth: GroundTruth) -> tuple[NuScenesBoxes, int]:
        """Return the boxes with the sample indices of the ground truth, and the samples left out.

        Samples of no label are an error for an official split, where leaderboard and development
        kit refuse them, and left out for any other.

        Raises:
            DataError: if samples of the split are missing, or foreign to an official one.
        """
        index = {token: i for i, token in enumerate(truth.tokens)}
        foreign = [token for token in self.tokens if token not in index]
        missing = sorted(set(truth.tokens).difference(self.tokens))
        kinds = [(missing, "without results")]
        if not truth.follows_samples or len(foreign) == len(self.tokens):
            kinds.append((foreign, "of the results that are not in the split"))
        got = [f"{len(some)} samples {kind}, the first {some[0]}" for some, kind in kinds if some]
        if got:
            expected = f"the {len(truth.tokens)} samples of {truth.split or 'the split'}"
            remedy = "choose the version and split that were tested; a sample without boxes is []"
            raise DataError([Problem(self.path, None, expected, "; ".join(got), remedy)])
        rows = np.array([index.get(token, -1) for token in self.tokens], dtype=np.int64)
        samples = rows[self.boxes.sample]
        boxes = NuScenesBoxes(**{**vars(self.boxes), "sample": samples}).select(samples >= 0)
        if truth.follows_samples:
            boxes = boxes.select(np.argsort(boxes.sample, kind="stable"))
        return boxes, len(foreign)


def read_results(
    path: str | Path,
    *,
    workers: int | None = None,
    progress: Callable[[Sequence[Piece]], Iterable[Piece]] | None = None,
) -> ResultFile:
    """Read a result file in pieces, several at a time; memory is that of the columns.

    Args:
        path: JSON with ``meta`` and ``results``, of any detector.
        workers: processes, by default one for each core if the file is large.
        progress: wraps the pieces.

    Raises:
        DataError: for a file that the development kit or the leaderboard refuses: no ``meta``, more
            than 500 boxes in a sample, samples that are there twice, unknown classes or attributes,
            NaN anywhere but in a velocity; and for infinite values, negative scores, sizes that are
            not positive and boxes of another sample.
    """
    path = Path(path)
    others, pieces = cut_results(path)
    if not isinstance(others.get("meta"), dict):
        remedy = 'add "meta": {"use_lidar": true, "use_camera": false, ...}'
        got = "none" if "meta" not in others else f"{others['meta']!r:.40}"
        raise DataError([Problem(path, None, "an object meta", got, remedy)])
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if len(pieces) >= _WORTH_SHARING else 1
    tokens: list[str] = []
    parts = [no_boxes()]
    jobs = map_in_order(read_piece, pieces, workers, __name__)
    for _, (names, boxes) in zip(progress(pieces) if progress else pieces, jobs, strict=True):
        parts.append(NuScenesBoxes(**{**vars(boxes), "sample": boxes.sample + len(tokens)}))
        tokens += names
    if len(set(tokens)) != len(tokens):
        raise twice(path, tokens)
    return ResultFile(path, tuple(tokens), others["meta"], join_boxes(parts))


def read_piece(piece: Piece) -> tuple[list[str], NuScenesBoxes]:
    """Return tokens and boxes of a piece; ``sample`` counts the tokens from 0.

    Raises:
        DataError: for the first defect.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # a million new objects without a cycle
    try:
        samples = piece.load()
        boxes = [box for token, part in samples for box in _list(piece, token, part)]
        try:
            columns = _columns(boxes)
        except (KeyError, TypeError, ValueError, OverflowError):
            columns = None
        num = [len(part) for _, part in samples]
        if columns is None or not _is_valid(columns, num, samples, boxes):
            raise DataError([_first_problem(piece.path, samples)])
        tokens = [token for token, _ in samples]
        return tokens, NuScenesBoxes(sample=np.repeat(np.arange(len(num)), num), **columns)
    finally:
        if was_enabled:
            gc.enable()


def _list(piece: Piece, token: str, part: Any) -> list[Any]:
    """Boxes of a sample."""
    if not isinstance(part, list):
        got = f"{type(part).__name__} in place of the list of boxes of sample {token}"
        raise damaged(piece.path, got)
    return part


def _columns(boxes: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Columns of ``NuScenesBoxes`` without ``sample``; any defect of types raises."""
    vectors = {name: _vectors([box[name] for box in boxes], n) for name, n in _VECTORS.items()}
    names = [
        (_CLASS_INDEX[b["detection_name"]], _ATTRIBUTE_INDEX[b["attribute_name"]]) for b in boxes
    ]
    class_index, attribute = np.array(names, dtype=np.int64).reshape(-1, 2).T
    rotation = vectors.pop("rotation")
    with np.errstate(invalid="ignore"):  # a quaternion of zeros has no heading: NaN
        yaw = headings(rotation)
    return {
        **vectors,
        "yaw": yaw,
        "class_index": class_index,
        "attribute": attribute,
        "score": _vectors([(box["detection_score"],) for box in boxes], 1)[:, 0],
        "num_points": np.array([int(box.get("num_pts", -1)) for box in boxes], dtype=np.int64),
    }


def _vectors(values: Sequence[Sequence[float]], width: int) -> NDArray[np.float64]:
    """Vectors ``(N, width)``; another length and what is no number raises."""
    flat = list(chain.from_iterable(values))
    if not set(map(len, values)) <= {width} or not set(map(type, flat)) <= {int, float}:
        raise ValueError
    return np.array(flat, dtype=np.float64).reshape(-1, width)


def _is_valid(
    columns: Mapping[str, NDArray[Any]],
    num: Sequence[int],
    samples: Sequence[tuple[str, Any]],
    boxes: Sequence[Mapping[str, Any]],
) -> bool:
    """Whether values are in range, samples small enough, and boxes in the list of their sample."""
    finite = all(np.isfinite(columns[key]).all() for key in ("translation", "size", "yaw", "score"))
    tokens = [token for token, part in samples for _ in part]
    return bool(
        finite
        and all((np.abs(columns[key]) < FARTHEST).all() for key in ("translation", "size"))
        and (columns["size"] > 0).all()
        and (columns["score"] >= 0).all()
        and not np.isinf(columns["velocity"]).any()
        and max(num, default=0) <= PROTOCOL.max_boxes_per_sample
        and tokens == [box.get("sample_token") for box in boxes]
    )


def _first_problem(path: Path, samples: Sequence[tuple[str, list[Any]]]) -> Problem:
    """Describe the first defect of a piece."""
    for token, boxes in samples:
        limit = PROTOCOL.max_boxes_per_sample
        if len(boxes) > limit:
            got, remedy = f"{len(boxes)} in sample {token}", f"keep the {limit} of highest score"
            return Problem(path, None, f"at most {limit} boxes a sample", got, remedy)
        for index, box in enumerate(boxes):
            for expected, got in _problems(token, box):
                place = f"in box {index} of sample {token}"
                remedy = "correct the writer of the file"
                return Problem(path, None, expected, f"{got} {place}", remedy)
    return Problem(path, None, "boxes that can be read", "others", "correct the writer of the file")


def _problems(token: str, box: Any) -> Iterator[tuple[str, str]]:
    """Yield what was expected, and what is there instead."""
    if not isinstance(box, dict):
        yield "an object for each box", type(box).__name__
        return
    needed = ("sample_token", *_VECTORS, "detection_name", "detection_score", "attribute_name")
    for name in needed:
        if name not in box:
            yield f"{name} of each box", f"the keys {', '.join(box)}"
            return
    if box["sample_token"] != token:
        yield "the sample_token of the list it is in", f"{box['sample_token']!r:.60}"
    for name, width in _VECTORS.items():
        yield from _vector_problems(name, box[name], width)
    score = box["detection_score"]
    if type(score) not in (int, float) or not 0 <= _float(score) < np.inf:
        yield "detection_score: a finite number of at least 0", f"{score!r:.60}"
    for name, known in (("detection_name", _CLASS_INDEX), ("attribute_name", _ATTRIBUTE_INDEX)):
        if not isinstance(box[name], str) or box[name] not in known:
            yield f"{name}: one of {', '.join(map(repr, known))}", f"{box[name]!r:.60}"
    num_points = box.get("num_pts", -1)
    if not isinstance(num_points, (int, float)) or not abs(_float(num_points)) < _MAX_POINTS:
        yield "num_pts: a whole number", f"{box['num_pts']!r:.60}"


def _float(value: float) -> float:
    """A number as a float; whole ones beyond all floats are infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _vector_problems(name: str, value: Any, width: int) -> Iterator[tuple[str, str]]:
    """Yield defects of one vector of a box."""
    is_list = isinstance(value, list) and len(value) == width
    if not is_list or any(type(v) not in (int, float) for v in value):
        yield f"{name}: a list of {width} numbers", f"{value!r:.60}"
        return
    vector = np.array([*map(_float, value)])
    if name == "velocity" and np.isinf(vector).any():
        yield "velocity: finite, or NaN where unknown", f"{value}"
    elif name != "velocity" and not np.isfinite(vector).all():
        yield f"{name}: finite numbers", f"{value!s:.60}"
    elif name in ("translation", "size") and not (np.abs(vector) < FARTHEST).all():
        yield f"{name}: numbers below {FARTHEST:.0e}", f"{value!s:.60}"
    elif name == "size" and (vector <= 0).any():
        yield "size: positive numbers", f"{value}"
    elif name == "rotation" and not vector.any():
        yield "rotation: a quaternion (w, x, y, z)", f"{value}"
