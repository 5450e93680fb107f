"""Outer boxes of refined boxes hold the true ones as often as asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ebm3d.boxes.faces import face_excess
from ebm3d.refinement.coverage import calibrate, coverage_boxes, coverage_table
from ebm3d.refinement.energy_file import EnergyFile
from ebm3d.refinement.points_energy import EnergySettings, PointsEnergy
from ebm3d.refinement.refiner import RefinedFrame

_STD = np.array([0.2, 0.1, 0.05, 0.2, 0.1, 0.05, 0.02])


def _frame(rng: np.random.Generator, num: int) -> tuple[RefinedFrame, np.ndarray]:
    """Refined boxes and their true ones, of the stated uncertainty."""
    true = np.tile([10.0, 3.0, -1.6, 4.0, 1.7, 1.5, 0.3], (num, 1))
    boxes = true + _STD * rng.normal(size=(num, 7))
    covariance = np.tile(np.diag(_STD**2), (num, 1, 1))
    known = np.zeros(num)
    features = np.zeros((num, 4))
    moved = np.ones(num, dtype=bool)
    return RefinedFrame(boxes, moved, known, known, boxes, covariance, features, known), true


def test_outer_boxes_hold_and_inner_boxes_lie_in_the_true_one(rng: np.random.Generator) -> None:
    frames, true = zip(*(_frame(rng, 4) for _ in range(60)), strict=True)
    names = [np.array(["Car"] * 4)] * 60
    table = calibrate(frames, [*true[:59], np.full((4, 7), np.nan)], names)
    assert len(table.names) == 59 * 4
    found = [coverage_boxes(table, frame, names[0], 0.8) for frame in frames[:59]]
    outer = np.concatenate([boxes["outer_box"] for boxes in found])
    inner = np.concatenate([boxes["inner_box"] for boxes in found])
    truth = np.concatenate(true[:59])
    held = (face_excess(outer, truth[:, None])[:, 0] <= 1e-9).all(axis=1)
    assert 0.8 <= held.mean() < 0.9
    assert (inner[:, 3:6] < outer[:, 3:6]).all()
    unknown = replace(frames[0], box_covariance=np.full((4, 7, 7), np.nan))
    assert np.isnan(coverage_boxes(table, unknown, names[0], 0.8)["outer_box"]).all()


def test_an_energy_without_calibration_is_refused() -> None:
    settings = EnergySettings(("Car",), ((4.0, 1.7, 1.5),), ((0.2,) * 7,))
    with pytest.raises(ValueError, match="--coverage"):
        coverage_table(EnergyFile(PointsEnergy(settings)))
