"""Detections and labels of frames: their classes, their clouds, which belongs to which.

N boxes, G true boxes of a frame; C classes of an energy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ebm3d.boxes.iou import iou_bev
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.datasets.results import FrameClouds, FrameResults, ResultFile
from ebm3d.errors import input_error
from ebm3d.refinement.refiner import DetectedFrame

FloatArray = NDArray[np.float64]

MIN_IOU = 0.3
"""BEV IoU of a matched pair: errors in height do not hide it."""


def class_labels(names: NDArray[np.str_], class_names: Sequence[str]) -> NDArray[np.int64]:
    """Return the index of each name in ``class_names``, -1 for another, ``(N,)``."""
    index = {name: label for label, name in enumerate(class_names)}
    return np.array([index.get(name, -1) for name in names.tolist()], dtype=np.int64)


def check_names(
    results: ResultFile, class_names: Sequence[str], chosen: Sequence[str] | None = None
) -> list[Problem]:
    """Describe classes of results that are none of an energy, if there are any.

    Raises:
        DataError: if no box is of a class of the energy.
        ValueError: if a class is chosen that the energy does not know.
    """
    unknown = [name for name in chosen or () if name not in class_names]
    if unknown:
        expected = f"of the energy's: {', '.join(class_names)}"
        raise input_error("--classes", expected, ", ".join(unknown))
    problems = results.unknown_names(class_names)
    names = {name for frame in results.frames for name in frame.names.tolist()}
    if problems and names.isdisjoint(class_names):
        raise DataError(problems)
    return problems


def detected_frames(
    frames: Iterable[FrameResults],
    clouds: FrameClouds,
    class_names: Sequence[str],
    chosen: Sequence[str] | None = None,
) -> Iterator[DetectedFrame]:
    """Yield frames with their clouds; boxes of classes that are not chosen have the label -1.

    Raises:
        DataError: at the end, with what is wrong in all clouds; such frames come without points.
    """
    problems: list[Problem] = []
    known = [name if chosen is None or name in chosen else "" for name in class_names]
    for frame in frames:
        labels = class_labels(frame.names, known)
        try:
            points = clouds.read(frame.frame_id)
        except DataError as error:
            problems += error.problems
            points, labels = np.zeros((0, 4), np.float32), np.full_like(labels, -1)
        yield DetectedFrame(points, frame.boxes, labels, frame.scores)
    if problems:
        raise DataError(problems)


def match_boxes(
    boxes: FloatArray,
    names: NDArray[np.str_],
    true_boxes: FloatArray,
    true_names: NDArray[np.str_],
    min_iou: float = MIN_IOU,
) -> NDArray[np.int64]:
    """Return the true box of each detected one, -1 where there is none, ``(N,)``.

    Of all pairs of one class with a BEV IoU of ``min_iou`` or more, one to one, those whose IoU
    sums to most.
    """
    partner = np.full(len(boxes), -1, dtype=np.int64)
    for name in np.unique(names).tolist():
        rows, columns = np.flatnonzero(names == name), np.flatnonzero(true_names == name)
        iou = iou_bev(boxes[rows, :7], true_boxes[columns, :7])
        iou = np.where(iou >= min_iou, iou, 0.0)
        chosen = linear_sum_assignment(iou, maximize=True)
        for row, column in zip(*chosen, strict=True):
            if iou[row, column] > 0:
                partner[rows[row]] = columns[column]
    return partner


def true_boxes_of(
    detected: Iterable[FrameResults], labels: Iterable[FrameResults]
) -> list[FloatArray]:
    """Return the true box ``(N, 7)`` of each detection by frame, rows of NaN where there is none.

    Args:
        detected: detections of some frames.
        labels: of the same frames.
    """
    found = []
    for frame, true in zip(detected, labels, strict=True):
        partner = match_boxes(frame.boxes, frame.names, true.boxes, true.names)
        matched = np.full((len(frame.boxes), 7), np.nan)
        matched[partner >= 0] = true.boxes[partner[partner >= 0], :7]
        found.append(matched)
    return found
