"""Outer and inner boxes of refined boxes, calibrated on frames with labels.

N boxes of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ebm3d.boxes.faces import face_std
from ebm3d.errors import input_error
from ebm3d.evaluation.coverage import CoverageTable, fit_coverage
from ebm3d.refinement.energy_file import EnergyFile
from ebm3d.refinement.refiner import RefinedFrame

FloatArray = NDArray[np.float64]


def calibrate(
    refined: Sequence[RefinedFrame], true: Sequence[FloatArray], names: Sequence[NDArray[np.str_]]
) -> CoverageTable:
    """Score refined boxes of labelled frames, none of them refined by a trust that saw it.

    Args:
        refined: frames, of which the boxes with a density and a true box count.
        true: ``(N, 7)`` by frame, rows of NaN where there is no true box.
        names: ``(N,)`` by frame.
    """
    boxes = np.concatenate([frame.boxes for frame in refined])
    covariance = np.concatenate([frame.box_covariance for frame in refined])
    truth, classes = np.concatenate(list(true)), np.concatenate(list(names))
    index = np.repeat(np.arange(len(refined)), [len(frame.boxes) for frame in refined])
    rows = np.isfinite(covariance).all(axis=(1, 2)) & np.isfinite(truth).all(axis=1)
    spread = face_std(boxes[rows], covariance[rows])
    return fit_coverage(boxes[rows], truth[rows], spread, classes[rows].tolist(), index[rows])


def coverage_table(file: EnergyFile) -> CoverageTable:
    """Return the calibration of a file.

    Raises:
        ValueError: if it has none.
    """
    if file.coverage is None:
        remedy = "make one by `ebm3d fit-trust`"
        raise input_error("--coverage", "used with an energy that is calibrated", "none", remedy)
    return CoverageTable.from_dict(file.coverage)


def coverage_boxes(
    table: CoverageTable, refined: RefinedFrame, names: NDArray[np.str_], coverage: float
) -> dict[str, FloatArray]:
    """Return ``outer_box`` and ``inner_box`` ``(N, 7)``; NaN for boxes without a density."""
    rows = np.isfinite(refined.box_covariance).all(axis=(1, 2))
    boxes = refined.boxes[rows]
    spread = face_std(boxes, refined.box_covariance[rows])
    found = {}
    for kind, make in (("outer_box", table.outer), ("inner_box", table.inner)):
        found[kind] = np.full((len(rows), 7), np.nan)
        found[kind][rows] = make(boxes, spread, names[rows].tolist(), coverage)
    return found
