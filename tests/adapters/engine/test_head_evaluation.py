"""Heads on the same boxes of the same frames: pairs, densities, temperatures."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

pytest.importorskip("mmdet3d")

from ebm3d.boxes.codings import LocalCoding
from ebm3d.densities import BoxDistribution, GaussianDensity
from ebm3d.noise import BoxNoise
from tests.adapters.refined import build_frames
from tests.adapters.regressed import build_regression_head, refined_by

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

_CAR = [10.0, 0.0, -1.7, 4.0, 2.0, 1.5, 0.0]
_STDS = [0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04]


def _cars(*along: float) -> Tensor:
    """Cars at so many meters along the x axis, all four meters long."""
    boxes = torch.tensor([_CAR] * len(along)).reshape(-1, 7)
    boxes[:, 0] = torch.tensor(along)
    return boxes


def _result(boxes: Tensor, scores: list[float], labels: list[int] | None = None) -> Any:
    from mmdet3d.structures import LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    return InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes),
        scores_3d=torch.tensor(scores),
        labels_3d=torch.tensor(labels or [0] * len(scores), dtype=torch.int64),
    )


def _pairs(result: Any, truths: Tensor, labels: list[int] | None = None) -> list[list[int]]:
    from ebm3d.adapters.engine.head_evaluation import _pair

    wanted = torch.tensor(labels or [0] * len(truths), dtype=torch.int64)
    pairs: list[list[int]] = _pair(result, truths, wanted).tolist()
    return pairs


def _frame(result: Any, truths: Tensor, name: str = "000001") -> Any:
    """A frame whose boxes are paired row by row."""
    from ebm3d.adapters.engine.head_evaluation import DetectedFrame

    rows = torch.arange(len(truths))
    pairs = torch.stack((rows, rows), dim=1)
    return DetectedFrame(name, torch.zeros(1, 1, 2, 2), [], result, truths, pairs, {}, 0.0)


class _EnergyHead:
    """f is a constant plus ``scale`` times the log density of a Gaussian around each box."""

    def __init__(self, scale: float = 1.0, is_density: bool = True) -> None:
        self.noise = BoxNoise(_STDS)
        self.scale, self.criterion = scale, SimpleNamespace(is_density=is_density)

    def refine(self, bev: Any, points: Any, boxes: Any, labels: Any, scores: Any) -> list[Any]:
        return [{"boxes": boxes[0], "f_initial": scores[0], "f_refined": scores[0]}]

    def bind(self, bev: Any, points: Any, boxes: Any, labels: Any) -> Any:
        distribution = _distribution(boxes[0])

        def f(variants: Tensor) -> Tensor:
            flat = variants if variants.ndim == 2 else variants.transpose(0, 1)
            residuals = distribution.coding.encode(flat)
            log_p = distribution.density.log_prob(residuals)
            log_p = log_p - distribution.coding.log_volume(flat)
            return self.scale * (log_p if variants.ndim == 2 else log_p.transpose(0, 1)) + 5.0

        return f


def _distribution(boxes: Tensor, factor: float = 1.0) -> BoxDistribution:
    """Gaussians around boxes, ``factor`` of half the noise wide, of the axis."""
    noise_std = torch.tensor(_STDS).to(boxes).expand_as(boxes)
    log_variance = torch.full_like(boxes, 2 * math.log(0.5 * factor))
    density = GaussianDensity(torch.zeros_like(boxes), log_variance)
    return BoxDistribution(density, LocalCoding(boxes, noise_std), yaw_period=math.pi)


def _calibrated(count: int, half_turn: bool = False) -> Any:
    """Detections, and true boxes drawn from the densities around them."""
    low = torch.tensor([5.0, -10, -2, 3, 1.4, 1.2, -3], dtype=torch.float64)
    spread = torch.tensor([20.0, 20, 1, 2, 1, 1, 6])
    boxes = low + spread * torch.rand(count, 7, dtype=torch.float64)
    truths = _distribution(boxes).sample(1)[0]
    if half_turn:
        truths[::2, 6] += math.pi
    return _frame(_result(boxes, [0.5] * count), truths)


def _run(head: Any, *frames: Any) -> Any:
    from ebm3d.adapters.engine.head_evaluation import HeadRun, run_head

    run = HeadRun()
    for frame in frames:
        run_head(head, frame, run)
    return run


def test_the_box_of_the_highest_score_takes_the_true_box() -> None:
    """Both overlap it; the better one comes late."""
    assert _pairs(_result(_cars(10.5, 10.1), [0.9, 0.4]), _cars(10.0)) == [[0, 0]]


def test_each_box_takes_the_free_true_box_it_overlaps_most() -> None:
    """The second one finds its favorite taken and is left with the other, if it overlaps enough."""
    truths = _cars(10.0, 11.0)
    assert _pairs(_result(_cars(10.9, 10.2), [0.4, 0.9]), truths) == [[1, 0], [0, 1]]
    assert _pairs(_result(_cars(10.1, 10.2), [0.4, 0.9]), truths) == [[1, 0], [0, 1]]
    assert _pairs(_result(_cars(8.9, 10.2), [0.4, 0.9]), truths) == [[1, 0]]


def test_boxes_that_overlap_too_little_are_not_paired() -> None:
    """Shifted by d along a length of 4, two boxes have an IoU of (4 - d) / (4 + d)."""
    limit = 4 / 3  # IoU 0.5
    found = _pairs(_result(_cars(10 + limit - 0.01, 30 + limit + 0.01), [0.9, 0.8]), _cars(10, 30))
    assert found == [[0, 0]]


def test_boxes_of_another_class_are_not_paired() -> None:
    """However well they fit."""
    result = _result(_cars(10.0, 10.5), [0.9, 0.4], [1, 0])
    assert _pairs(result, _cars(10.0), [0]) == [[1, 0]]


def test_boxes_are_compared_from_above() -> None:
    """A box in the air over the true one is paired; the way it heads does not matter."""
    boxes = _cars(10.0)
    boxes[:, 2] += 5
    boxes[:, 6] += math.pi
    assert _pairs(_result(boxes, [0.9]), _cars(10.0)) == [[0, 0]]


@pytest.mark.parametrize(("detected", "true"), [(0, 2), (2, 0), (0, 0)])
def test_nothing_pairs_with_nothing(detected: int, true: int) -> None:
    """Of two columns still."""
    from ebm3d.adapters.engine.head_evaluation import _pair

    result = _result(_cars(*[10.0] * detected), [0.5] * detected)
    found = _pair(result, _cars(*[10.0] * true), torch.zeros(true, dtype=torch.int64))
    assert found.shape == (0, 2)


def test_frames_are_detected_by_the_dense_head_alone_and_paired() -> None:
    """With a detector of stubs."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes

    from ebm3d.adapters.engine.head_evaluation import detect_frames

    sample = Det3DDataSample(metainfo={"lidar_path": "some/where/000042.bin"})
    truths = LiDARInstance3DBoxes(torch.cat((_cars(30.0, 10.0), torch.ones(2, 2)), 1), box_dim=9)
    info = {"gt_bboxes_3d": truths, "gt_labels_3d": np.zeros(2, dtype=np.int64)}
    sample.set_field(info, "eval_ann_info", field_type="metainfo")
    sample.set_field(torch.ones(3, 4), "points", field_type="data", dtype=None)
    dense = SimpleNamespace(predict=lambda maps, samples: [_result(_cars(10.1, 50), [0.9, 0.8])])
    model = SimpleNamespace(
        data_preprocessor=lambda batch, training: batch,
        extract_feat=lambda inputs: [inputs + 1],
        bbox_head=SimpleNamespace(dense_head=dense),
        parameters=list,
    )
    loader = [{"inputs": torch.zeros(1, 2, 3, 3), "data_samples": [sample]}]
    (frame,) = detect_frames(model, loader)
    assert frame.frame_id == "000042"
    assert torch.equal(frame.bev, torch.ones(1, 2, 3, 3))
    assert len(frame.points) == 1
    assert frame.truths.shape == (2, 7)
    assert frame.pairs.tolist() == [[0, 1]]


def test_run_holds_the_refined_boxes_of_the_pairs_and_all_for_the_metric() -> None:
    """With a regression, on two frames."""
    head, frames = build_regression_head(), build_frames((3, 2))
    frames.scores = [torch.full((count,), 0.5) for count in (3, 2)]
    parts = []
    for index in range(2):
        one = frames.one(index)
        own = _frame(_result(one.boxes[0], [0.5] * len(one.boxes[0])), one.boxes[0][1:], str(index))
        rows = torch.arange(1, len(one.boxes[0]))
        pairs = torch.stack((rows, rows - 1), dim=1)
        fields = {**vars(own), "bev": one.bev, "points": one.points, "pairs": pairs}
        parts.append(type(own)(**fields))
    run = _run(head, *parts)
    assert run.frame_ids == ["0", "0", "1"]
    assert len(run.seconds) == 2
    for index, sample in enumerate(run.samples):
        expected = refined_by(head, frames.one(index))[0]
        shown = sample["pred_instances_3d"]
        assert torch.equal(shown.bboxes_3d.tensor, expected["boxes"])
        assert torch.equal(shown.initial_bboxes_3d.tensor, frames.boxes[index])
        assert torch.equal(run.boxes[index], expected["boxes"][1:])
        torch.testing.assert_close(run.densities[index].std, expected["box_std"][1:])
        assert torch.equal(run.truths[index], frames.boxes[index][1:])


def test_pairs_of_a_regression_are_those_of_the_metric() -> None:
    """The same numbers from :func:`measure_pairs`, before and after rescaling."""
    from ebm3d.adapters.engine.head_evaluation import HeadRun, calibration_pairs
    from ebm3d.adapters.metrics.calibration import measure_pairs

    frame, run = _calibrated(5), HeadRun()
    boxes = frame.result.bboxes_3d.tensor.double()
    distribution = _distribution(boxes)
    run.densities = [distribution[:2], distribution[2:]]
    run.boxes, run.truths = [boxes[:2], boxes[2:]], [frame.truths[:2], frame.truths[2:]]
    run.frame_ids = ["a", "a", "b", "b", "b"]
    for factors in (None, [0.5, 1, 1, 2, 1, 1, 3.0]):
        wanted = distribution
        if factors is not None:
            wanted = distribution.rescaled(torch.tensor(factors, dtype=torch.float64))
        found = calibration_pairs(run, factors)
        assert found is not None
        expected = measure_pairs(wanted, boxes.numpy(), frame.truths.numpy(), run.frame_ids, 64)
        for name, value in vars(expected).items():
            np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)


def test_pairs_of_an_energy_are_those_of_its_density() -> None:
    """The Gaussian f is of; 512 samples an integral."""
    from ebm3d.adapters.engine.head_evaluation import calibration_pairs

    frame = _calibrated(60)
    run = _run(_EnergyHead(), frame)
    found = calibration_pairs(run, None)
    assert found is not None
    (posterior,) = run.densities
    np.testing.assert_allclose(found.log_prob, (run.f_truths[0] - posterior.log_normalizer).numpy())
    # The host keeps boxes in float32.
    distribution = _distribution(frame.result.bboxes_3d.tensor.double())
    size = posterior.effective_sample_size
    error = 5 * (1 / size).sqrt().numpy()
    expected = distribution.log_prob(frame.truths).numpy()
    assert (np.abs(found.log_prob - expected) <= error).all()
    entropies = -distribution.log_prob(distribution.sample(4000)).mean(0).numpy()
    assert (np.abs(found.entropies - entropies) <= 2 * error).all()  # log p has variance D / 2
    z = distribution.residuals(frame.truths).numpy() / 0.5
    assert (np.abs(found.pit - norm.cdf(z)) <= 0.5 * error[:, None]).all()
    assert np.median(found.squared_mahalanobis / (z**2).sum(1)) == pytest.approx(1, abs=0.1)
    assert np.median(found.std / distribution.std.numpy()) == pytest.approx(1, abs=0.05)
    assert found.errors.shape == (60, 7)


def test_true_boxes_that_head_the_other_way_are_measured_alike() -> None:
    """Densities of refinement are of the axis."""
    from ebm3d.adapters.engine.head_evaluation import calibration_pairs

    results = []
    for half_turn in (False, True):
        torch.manual_seed(0)
        results.append(calibration_pairs(_run(_EnergyHead(), _calibrated(6, half_turn)), None))
    for name, value in vars(results[0]).items():
        np.testing.assert_allclose(
            getattr(results[1], name), value, rtol=1e-4, atol=1e-4, err_msg=name
        )


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_temperature_of_an_energy_is_what_its_f_is_too_steep_by(scale: float) -> None:
    """A calibrated one has 1; the error of a scale from n values of 7 dimensions."""
    from ebm3d.adapters.engine.head_evaluation import calibration_pairs, fit_run_temperature

    count = 250
    run = _run(_EnergyHead(scale), _calibrated(count))
    found = fit_run_temperature(run)
    assert found is not None
    assert len(found) == 1
    assert found[0] / scale == pytest.approx(1, abs=5 * math.sqrt(2 / (7 * count)))
    fitted, plain = (calibration_pairs(run, t) for t in (found, None))
    assert fitted is not None
    assert plain is not None
    assert fitted.log_prob.mean() >= plain.log_prob.mean()


def test_factors_of_a_regression_are_what_its_densities_are_too_narrow_by() -> None:
    """Half as wide as they should be: two in every dimension."""
    from ebm3d.adapters.engine.head_evaluation import HeadRun, fit_run_temperature

    count, run = 150, HeadRun()
    frame = _calibrated(count)
    boxes = frame.result.bboxes_3d.tensor.double()
    run.densities, run.boxes, run.truths = [_distribution(boxes, 0.5)], [boxes], [frame.truths]
    found = fit_run_temperature(run)
    assert found is not None
    np.testing.assert_allclose(found, 2.0, rtol=5 / math.sqrt(2 * count))


def test_head_without_a_density_has_no_pairs_and_no_temperature() -> None:
    """A confidence is none."""
    from ebm3d.adapters.engine.head_evaluation import calibration_pairs, fit_run_temperature

    run = _run(_EnergyHead(is_density=False), _calibrated(3))
    assert len(run.boxes) == 1
    assert run.densities == []
    assert calibration_pairs(run, None) is None
    assert fit_run_temperature(run) is None


def test_frame_without_pairs_is_fine() -> None:
    """Between two with some."""
    from ebm3d.adapters.engine.head_evaluation import calibration_pairs

    frame = _calibrated(3)
    empty = _frame(frame.result, frame.truths[:0])
    found = calibration_pairs(_run(_EnergyHead(), frame, empty, frame), None)
    assert found is not None
    assert len(found) == 6
