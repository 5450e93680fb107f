"""Predicted densities in the metric of the host: matching, yaw, seeds, temperature, pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ebm3d.boxes.codings import AnchorCoding, LocalCoding
from ebm3d.datasets import boxes_from_camera
from ebm3d.datasets.kitti_frames import KittiFrames
from ebm3d.densities import BoxDistribution, GaussianDensity
from ebm3d.evaluation.temperature import Temperature, write_temperature
from tests.adapters.infos import info_of, write_infos
from tests.evaluation.scenes import make_frames

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]
pytest.importorskip("mmdet3d")

# Along, across, up (m), log length, width, height, yaw (rad).
STD = torch.tensor([0.2, 0.1, 0.08, 0.05, 0.04, 0.03, 0.06], dtype=torch.float64)
NUM_FRAMES = 60
Change = Callable[[BoxDistribution, int], BoxDistribution | None]


def cars() -> KittiFrames:
    """Four cars a frame, two of them near enough to be easy, far apart from each other."""
    rng = np.random.default_rng(3)
    return make_frames(
        [
            [
                {"x": x, "z": z, "yaw": rng.uniform(-3, 3), "pixels": pixels}
                for x, z, pixels in ((-4, 15, 60), (4, 15, 60), (-4, 30, 30), (4, 30, 30))
            ]
            for _ in range(NUM_FRAMES)
        ],
        scores=False,
    )


def true_boxes(labels: KittiFrames, index: int) -> Tensor:
    """The boxes of one frame, LiDAR frame."""
    from ebm3d.adapters.metrics.kitti_conversion import calibration_of_info

    part = labels.frame(index)
    calibration = calibration_of_info(info_of("000000", part), "CAM2")
    boxes = boxes_from_camera(part.location, part.dimensions, part.rotation_y, calibration)
    return torch.from_numpy(boxes)


def drawn(truth: Tensor, generator: torch.Generator, claimed: float) -> BoxDistribution:
    """Gaussians in the axes of the true boxes, whose errors have the spread STD."""
    shift = torch.randn(len(truth), 7, generator=generator, dtype=torch.float64) * STD
    log_variance = 2 * torch.log(claimed * STD).expand(len(truth), 7)
    return BoxDistribution(
        GaussianDensity(shift, log_variance), LocalCoding(truth, torch.ones_like(truth))
    )


def predictions(
    labels: KittiFrames, *, claimed: float = 1.0, change: Change | None = None, seed: int = 0
) -> list[Any]:
    """A sample a frame: boxes with errors of spread STD, and densities that claim a spread."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    generator = torch.Generator().manual_seed(seed)
    samples = []
    for index, name in enumerate(labels.frame_ids):
        distribution = drawn(true_boxes(labels, index), generator, claimed)
        boxes = distribution.boxes
        scores = torch.rand(len(boxes), generator=generator)
        instances = InstanceData(
            bboxes_3d=LiDARInstance3DBoxes(boxes.float()),
            scores_3d=scores,
            labels_3d=torch.full((len(boxes),), 2),
        )
        changed = distribution if change is None else change(distribution, index)
        if changed is not None:
            instances.box_distribution = changed
        order = torch.argsort(scores, descending=True)
        sample = Det3DDataSample(metainfo={"lidar_path": f"{name}.bin"})
        sample.pred_instances_3d = instances[order]
        samples.append(sample.to_dict())
    return samples


@pytest.fixture(scope="module")
def labels() -> KittiFrames:
    """The cars."""
    return cars()


@pytest.fixture
def path(tmp_path: Path, labels: KittiFrames) -> Path:
    """The info file of the cars."""
    write_infos(tmp_path / "infos.pkl", labels)
    return tmp_path / "infos.pkl"


def run(path: Path, samples: list[Any], **calibration: Any) -> dict[str, Any]:
    """The tree of all figures, with those the metric returns under ``returned``."""
    from ebm3d.adapters.metrics import EBM3DKittiMetric

    out = path.parent / "figures.json"
    metric = EBM3DKittiMetric(
        ann_file=str(path), num_replicates=20, json_file=str(out), calibration=calibration
    )
    metric.dataset_meta = {"classes": ("Pedestrian", "Cyclist", "Car")}
    for sample in samples:
        metric.process({}, [sample])
    returned = metric.evaluate(len(samples))
    return {**json.loads(out.read_text()), "returned": returned}


def test_true_densities_are_calibrated(path: Path, labels: KittiFrames) -> None:
    tree = run(path, predictions(labels), figures=str(path.parent / "pictures"))
    measured = tree["Car"]["calibration"]["hard"]
    assert measured["num_pairs"] == 4 * NUM_FRAMES
    assert measured["num_without_density"] == 0
    nll = measured["nll"]
    assert abs(nll["mean"] - measured["entropy"]) < 5 * nll["standard_error"]
    by_chance = measured["ece_by_chance"]
    assert max(v for k, v in measured["ece"].items() if k != "mean") < 5 * by_chance
    assert measured["qce"] < 5 * by_chance
    std = [measured["sharpness"][name] for name in ("z", "yaw")]
    np.testing.assert_allclose(std, STD[[2, 6]], rtol=1e-6)
    keys = [key for key in tree["returned"] if key.startswith("Car/calibration/moderate/")]
    assert "Car/calibration/moderate/nll/mean" in keys
    assert not any("pit_histogram" in key or "reliability" in key for key in keys)
    assert [p.name for p in (path.parent / "pictures").iterdir()] == ["calibration_car.png"]


def test_nll_is_that_of_the_density_in_meters_at_the_true_boxes(
    path: Path, labels: KittiFrames
) -> None:
    samples = predictions(labels)
    measured = run(path, samples)["Car"]["calibration"]["hard"]
    expected = []
    for index, sample in enumerate(samples):
        density = sample["pred_instances_3d"]["box_distribution"]
        reference, mean = density.coding.reference, density.density.location
        residual = -mean / STD  # the true box is the reference
        log_p = stats.norm.logpdf(residual).sum(axis=1) - np.log(STD.numpy()).sum()
        expected.append(-(log_p - np.log(reference[:, 3:6].numpy()).sum(axis=1)))
        assert torch.allclose(reference.sum(), true_boxes(labels, index).sum())
    assert measured["nll"]["mean"] == pytest.approx(np.concatenate(expected).mean(), rel=1e-9)


def test_pairs_are_those_of_each_difficulty_in_any_order_of_frames(
    path: Path, labels: KittiFrames
) -> None:
    samples = predictions(labels)
    tree = run(path, samples)
    assert run(path, samples[::-1]) == tree
    for difficulty, measured in tree["Car"]["calibration"].items():
        matched = tree["Car"]["localization"][difficulty]["num_matched"]
        assert measured["num_pairs"] == matched
    calibration = tree["Car"]["calibration"]
    assert 0 < calibration["easy"]["num_pairs"] < calibration["hard"]["num_pairs"]


def test_frames_have_the_same_samples_whatever_the_others_are() -> None:
    from ebm3d.adapters.metrics.calibration import measure_pairs

    truth = true_boxes(cars(), 0)
    density = drawn(truth, torch.Generator().manual_seed(0), 1.0)
    boxes, names = density.boxes.numpy(), ["000001"] * 2 + ["000007"] * 2
    both = measure_pairs(density, boxes, truth.numpy(), names, 8)
    last = measure_pairs(density[2:], boxes[2:], truth[2:].numpy(), names[2:], 8)
    np.testing.assert_array_equal(both.energy_scores[2:], last.energy_scores)
    np.testing.assert_array_equal(both.entropies[2:], last.entropies)
    assert both.energy_scores[0] != both.energy_scores[2]


def test_where_the_period_is_pi_a_heading_flipped_by_pi_is_the_same_heading(
    path: Path, labels: KittiFrames
) -> None:

    def flipped(period: float) -> dict[str, Any]:
        def change(density: BoxDistribution, index: int) -> BoxDistribution:
            half = torch.full((len(density),), math.pi, dtype=torch.float64)
            coding = density.coding.turned(half) if index % 2 else density.coding
            return replace(density, coding=coding, yaw_period=period)

        return run(path, predictions(labels, change=change))["Car"]["calibration"]["hard"]

    straight = run(path, predictions(labels))["Car"]["calibration"]["hard"]
    assert flipped(2 * math.pi)["nll"]["mean"] > straight["nll"]["mean"] + 100
    # x and y of the boxes are along and across, which half a turn changes in sign; yaw is not.
    assert flipped(math.pi)["ece"]["yaw"] == pytest.approx(straight["ece"]["yaw"])
    assert flipped(math.pi)["rms_standardized_error"]["yaw"] == pytest.approx(
        straight["rms_standardized_error"]["yaw"], rel=1e-4
    )


def test_boxes_without_a_density_are_counted(path: Path, labels: KittiFrames) -> None:
    def change(density: BoxDistribution, index: int) -> BoxDistribution:
        blank = density.density.location.clone()
        blank[index % 4] = torch.nan
        return replace(density, density=GaussianDensity(blank, density.density.log_variance))

    measured = run(path, predictions(labels, change=change))["Car"]["calibration"]["hard"]
    assert measured["num_pairs"] == 3 * NUM_FRAMES
    assert measured["num_without_density"] == NUM_FRAMES
    assert math.isfinite(measured["nll"]["mean"])


def test_factors_fitted_to_narrow_densities_repair_them(
    path: Path, labels: KittiFrames, tmp_path: Path
) -> None:
    file = tmp_path / "factors" / "temperature.json"
    narrow = predictions(labels, claimed=0.4)
    before = run(path, narrow, fit_temperature=str(file))["Car"]["calibration"]["hard"]
    factors = json.loads(file.read_text())["factors"]
    # sqrt of a chi-squared mean over 240 pairs: relative error 1 / sqrt(480)
    np.testing.assert_allclose(list(factors.values()), 1 / 0.4, rtol=5 / math.sqrt(480))
    other = predictions(labels, claimed=0.4, seed=1)
    after = run(path, other, temperature=str(file))["Car"]["calibration"]["hard"]
    assert before["ece"]["mean"] > 0.1
    assert after["ece"]["mean"] < 0.04
    assert after["nll"]["mean"] < before["nll"]["mean"] - 10
    assert after["sharpness"]["yaw"] == pytest.approx(0.4 * 0.06 * factors["yaw"], rel=1e-6)


def test_densities_before_refinement_are_measured_as_before(
    path: Path, labels: KittiFrames
) -> None:
    samples = predictions(labels)
    for sample in samples:
        predicted = sample["pred_instances_3d"]
        predicted["initial_bboxes_3d"] = predicted["bboxes_3d"].clone()
        wide = predicted["box_distribution"].rescaled(torch.tensor(3.0))
        predicted["initial_box_distribution"] = wide
    tree = run(path, samples)
    means = {s: tree[s]["Car"]["calibration"]["hard"]["sharpness"] for s in ("before", "after")}
    assert means["before"]["yaw"] == pytest.approx(3 * means["after"]["yaw"])
    assert "before/Car/calibration/hard/ece/mean" in tree["returned"]


def test_predictions_without_densities_or_boxes_are_legal(path: Path, labels: KittiFrames) -> None:
    tree = run(path, predictions(labels, change=lambda density, index: None))
    assert "calibration" not in tree["Car"]
    samples = predictions(labels)
    for sample in samples:
        predicted = sample["pred_instances_3d"]
        predicted.update({name: value[:0] for name, value in predicted.items()})
    measured = run(path, samples)["Car"]["calibration"]["hard"]
    assert measured["num_pairs"] == 0
    assert measured["nll"]["mean"] is None


def test_densities_of_anchors_have_their_covariance_and_period_measured(
    path: Path, labels: KittiFrames
) -> None:

    def change(density: BoxDistribution, index: int) -> BoxDistribution:
        coding = AnchorCoding(density.coding.reference)
        gaussian = GaussianDensity(coding.encode(density.boxes), density.density.log_variance)
        return BoxDistribution(gaussian, coding, math.pi)

    measured = run(path, predictions(labels, change=change))["Car"]["calibration"]["hard"]
    assert measured["num_pairs"] == 4 * NUM_FRAMES
    assert measured["sharpness"]["yaw"] == pytest.approx(0.06, rel=1e-5)


@pytest.mark.parametrize("setting", ["temperature", "fit_temperature", "figures"])
def test_settings_for_densities_that_are_not_there_are_refused(
    path: Path, labels: KittiFrames, tmp_path: Path, setting: str
) -> None:
    from ebm3d.adapters.metrics import EBM3DKittiMetric

    file = tmp_path / setting
    if setting == "temperature":
        write_temperature(file, Temperature((1.0,) * 7, 1, 0.0, 0.0))
    first = predictions(labels, change=lambda density, index: None)[0]
    metric = EBM3DKittiMetric(ann_file=str(path), calibration={setting: str(file)})
    with pytest.raises(ValueError, match=f"calibration setting {setting} must be None"):
        metric.process({}, [first])  # the first frame, not the end of the run


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"temperature": "a", "fit_temperature": "b"}, ValueError, "applied or fitted"),
        ({"temperature": "no_such_file"}, FileNotFoundError, "that --fit-temperature wrote"),
        ({"num_samples": 1}, ValueError, "num_samples must be at least 2"),
        ({"temperatures": "a"}, TypeError, "temperatures"),
    ],
)
def test_wrong_settings_are_refused(settings: Any, error: type, message: str) -> None:
    from ebm3d.adapters.metrics import EBM3DKittiMetric

    with pytest.raises(error, match=message):
        EBM3DKittiMetric(ann_file="infos.pkl", calibration=settings)
