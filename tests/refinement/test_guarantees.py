import numpy as np
import pytest
import torch

from ebm3d.boxes.faces import face_excess
from ebm3d.evaluation.coverage import CoverageTable
from ebm3d.refinement.guarantees import calibrate_coverage, guaranteed_boxes
from ebm3d.refinement.refiner import BoxRefiner
from tests.refinement.planted import PlantedEnergy, planted_frames

NAMES = np.array(["Car"] * 4)


def test_outer_boxes_of_new_frames_hold_the_true_ones_as_often_as_promised() -> None:
    frames, true = planted_frames(80, noise=0.5)
    refiner = BoxRefiner(PlantedEnergy(np.concatenate(true), torch.zeros(7), 2.0))
    table = calibrate_coverage(refiner, frames[:40], true[:40])
    table = CoverageTable.from_dict(table.as_dict())
    held = {"outer_box": [], "inner_box": []}
    for frame, refined, truth in zip(frames[40:], refiner(frames[40:]), true[40:], strict=True):
        boxes = guaranteed_boxes(table, refined, NAMES, 0.8)
        outside = face_excess(boxes["outer_box"], truth[:, None])[:, 0].max(axis=1)
        held["outer_box"] += (outside <= 1e-9).tolist()
        inside = face_excess(truth, boxes["inner_box"][:, None])[:, 0].max(axis=1)
        held["inner_box"] += (inside <= 1e-9).tolist()
        assert np.array_equal(refined.moved, np.ones(len(frame.boxes), bool))
    for values in held.values():
        assert 0.65 < np.mean(values) < 0.95


def test_boxes_that_stay_are_promised_nothing() -> None:
    frames, true = planted_frames(12, noise=0.5)
    refiner = BoxRefiner(PlantedEnergy(np.concatenate(true), torch.zeros(7), 2.0))
    table = calibrate_coverage(refiner, frames, true)
    frame = frames[0]
    frame.labels[1] = -1
    (refined,) = refiner([frame])
    outer = guaranteed_boxes(table, refined, NAMES, 0.8)["outer_box"]
    assert np.isnan(outer[1]).all()
    assert np.isfinite(outer[[0, 2, 3]]).all()
    too_much = guaranteed_boxes(table, refined, NAMES, 0.99)["outer_box"]
    assert np.isnan(too_much).all()


def test_frames_without_true_boxes_are_refused() -> None:
    frames, true = planted_frames(3, noise=0.5)
    refiner = BoxRefiner(PlantedEnergy(np.concatenate(true), torch.zeros(7), 2.0))
    with pytest.raises(ValueError, match="frames"):
        calibrate_coverage(refiner, frames, [np.full_like(boxes, np.nan) for boxes in true])
