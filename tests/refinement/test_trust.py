import numpy as np
import pytest
import torch

from ebm3d.refinement.refiner import BoxRefiner, DetectedFrame
from ebm3d.refinement.trust import BandTrust, FitProbability, Trust
from ebm3d.refinement.trust_fit import fit_trust
from tests.refinement.planted import STDS, PlantedEnergy, planted_frames

NO_SHIFT = torch.zeros(7)


def test_a_good_energy_is_trusted_and_its_shift_is_found() -> None:
    frames, true = planted_frames(12, noise=0.8)
    shift = torch.tensor([0.06, -0.03, 0.05, 0.0, 0.02, -0.03, 0.02])
    energy = PlantedEnergy(np.concatenate(true), shift, sharpness=300.0)
    fit = fit_trust(energy, frames, true)
    (gain,) = fit.gains
    assert gain.is_trusted
    assert gain.num_pairs == 48
    assert gain.iou[1] > gain.iou[0] + 0.1
    assert 0 < gain.gain[1] < gain.gain[0] < gain.gain[2]
    assert all(after >= before for before, after in gain.shares.values())
    band = fit.trust.classes[0][1]  # 60 points
    np.testing.assert_allclose(band.shift, shift, atol=0.01)
    np.testing.assert_allclose(band.std, 0.8 * np.array(STDS), rtol=0.5)


def test_where_no_gain_is_to_be_expected_boxes_stay_as_they_are() -> None:
    frames, true = planted_frames(10, noise=0.5)
    wrong = np.concatenate(true) + np.array([0.5, 0.3, 0.2, 0, 0, 0, 0.1]) * np.sign(
        np.random.default_rng(1).normal(size=(40, 7))
    )
    fit = fit_trust(PlantedEnergy(wrong, NO_SHIFT, sharpness=1.0), frames, true)
    assert not fit.gains[0].is_trusted
    for refined, frame in zip(BoxRefiner(SETTINGS_ENERGY, fit.trust)(frames), frames, strict=True):
        assert not refined.moved.any()
        assert np.array_equal(refined.boxes, frame.boxes)
        assert np.isnan(refined.f_refined).all()


def test_a_detectors_systematic_error_is_corrected() -> None:
    mean = np.array([0.0, 0.0, 0.12, 0.0, 0.0, -0.06, 0.0])
    frames, true = planted_frames(12, noise=0.2, mean=mean)
    flat = PlantedEnergy(np.concatenate(true), NO_SHIFT, sharpness=1e-6)
    fit = fit_trust(flat, frames, true)
    assert fit.gains[0].is_trusted
    band = fit.trust.classes[0][1]
    assert band.mean[2] == pytest.approx(-0.12, abs=0.02)
    assert band.mean[5] == pytest.approx(0.06, abs=0.02)


def test_a_class_of_few_pairs_stays() -> None:
    frames, true = planted_frames(4, noise=0.8)
    fit = fit_trust(PlantedEnergy(np.concatenate(true), NO_SHIFT, 300.0), frames, true)
    assert not fit.gains[0].is_trusted
    assert fit.gains[0].num_pairs == 16


def test_trust_is_the_same_from_plain_values() -> None:
    bands = tuple(BandTrust(tau, STDS, (0.1,) * 7, (0.2,) * 7) for tau in (1.0, np.inf, 3.0))
    trust = Trust((bands,), probabilities=(FitProbability(0.7, (1.0,) * 4, 0.5),), fitted_on="x")
    assert Trust.from_dict(trust.as_dict()) == trust
    labels, points = torch.zeros(3, dtype=torch.int64), torch.tensor([0, 30, 150])
    assert trust.is_trusted(labels, points).tolist() == [True, False, True]
    assert not trust.is_trusted(labels - 1, points).any()


def test_boxes_that_are_not_valid_or_of_another_class_stay() -> None:
    frames, true = planted_frames(1, noise=0.5)
    boxes, labels = frames[0].boxes.copy(), frames[0].labels.copy()
    boxes[0, 3], boxes[1, 2], labels[2] = 0.0, np.nan, -1
    frame = DetectedFrame(frames[0].points, boxes, labels, frames[0].scores)
    energy = PlantedEnergy(true[0], NO_SHIFT, 300.0)
    (refined,) = BoxRefiner(energy)([frame])
    assert refined.moved.tolist() == [False, False, False, True]
    assert np.array_equal(refined.boxes[:3], boxes[:3], equal_nan=True)
    assert refined.f_refined[3] > refined.f_initial[3]
    assert np.isfinite(refined.box_covariance[3]).all()
    assert [r.boxes.shape for r in BoxRefiner(energy)([])] == []


SETTINGS_ENERGY = PlantedEnergy(np.zeros((1, 7)), NO_SHIFT, 1.0)


def test_true_boxes_of_another_shape_are_refused() -> None:
    frames, true = planted_frames(2, noise=0.5)
    with pytest.raises(ValueError, match=r"true\[1\]"):
        fit_trust(SETTINGS_ENERGY, frames, [true[0], true[1][:2]])
