"""Boxes that hold the true box, or lie in it, with a promised probability.

N boxes of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ebm3d.boxes.faces import face_std
from ebm3d.errors import input_error
from ebm3d.evaluation.coverage import CoverageTable, fit_coverage
from ebm3d.refinement.refiner import BoxRefiner, DetectedFrame, FloatArray, RefinedFrame


def calibrate_coverage(
    refiner: BoxRefiner, frames: Sequence[DetectedFrame], true: Sequence[FloatArray]
) -> CoverageTable:
    """Refine detections of labelled frames and score how far true boxes lie beyond them.

    The promise is of pairs in frames that are exchangeable with these; energy, trust and detector
    must not have seen them. docs/method.md, M-37.

    Args:
        refiner: with the trust that will be used.
        frames: detections with clouds.
        true: ``(N, 7)`` per frame, the true box of each detection; rows of NaN where there is none.

    Raises:
        ValueError: if no box that moves has a true one.
    """
    class_names = np.array(refiner.energy.settings.class_names)
    parts = []
    for index, (frame, refined, truth) in enumerate(
        zip(frames, refiner(frames), true, strict=True)
    ):
        rows = np.flatnonzero(refined.moved & np.isfinite(truth).all(axis=1))
        columns = refined.boxes, truth, _spread(refined), class_names[frame.labels]
        parts.append((*(column[rows] for column in columns), np.full(len(rows), index)))
    if not sum(len(part[0]) for part in parts):
        expected = "with refined boxes that have true ones"
        raise input_error("frames", expected, "none", "look at the classes and at the trust")
    boxes, truth, spread, names, numbers = (np.concatenate(p) for p in zip(*parts, strict=True))
    return fit_coverage(boxes, truth, spread, names.tolist(), numbers.tolist())


def guaranteed_boxes(
    table: CoverageTable, refined: RefinedFrame, names: NDArray[np.str_], coverage: float
) -> dict[str, FloatArray]:
    """Return ``outer_box`` and ``inner_box`` ``(N, 7)``; NaN for boxes that did not move.

    Where nothing is promised, outer boxes are NaN and inner ones empty, with a size of 0.
    """
    rows = np.flatnonzero(refined.moved)
    boxes, spread, chosen = refined.boxes[rows], _spread(refined)[rows], names[rows].tolist()
    result = {}
    for name, of_table in (("outer_box", table.outer), ("inner_box", table.inner)):
        values = of_table(boxes, spread, chosen, coverage)
        column = np.full((len(names), 7), np.nan)
        column[rows] = np.where(np.isfinite(values).all(axis=1, keepdims=True), values, np.nan)
        result[name] = column
    return result


def _spread(refined: RefinedFrame) -> FloatArray:
    """Standard deviations ``(N, 6)`` of the faces; NaN where a box did not move."""
    spread = np.full((len(refined.boxes), 6), np.nan)
    rows = refined.moved
    spread[rows] = face_std(refined.boxes[rows], refined.box_covariance[rows])
    return spread
