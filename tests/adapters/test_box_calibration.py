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
        found = InstanceData(
            bboxes_3d=LiDARInstance3DBoxes(boxes.float()),
            scores_3d=scores,
            labels_3d=torch.full((len(boxes),), 2),
        )
        changed = distribution if change is None else change(distribution, index)
        if changed is not None:
            found.box_distribution = changed
        order = torch.argsort(scores, descending=True)
        sample = Det3DDataSample(metainfo={"lidar_path": f"{name}.bin"})
        sample.pred_instances_3d = found[order]
        samples.append(sample.to_dict())
    return samples


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, KittiFrames]:
    """An info file, and its labels."""
    labels = cars()
    write_infos(tmp_path / "infos.pkl", labels)
    return tmp_path / "infos.pkl", labels


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


def test_true_densities_are_found_to_be_calibrated(scene: tuple[Path, KittiFrames]) -> None:
    path, labels = scene
    found = run(path, predictions(labels))["Car"]["calibration"]["hard"]
    num = found["num_pairs"]
    assert num == 4 * NUM_FRAMES
    assert found["num_without_density"] == 0
    nll = found["nll"]
    assert abs(nll["mean"] - found["entropy"]) < 5 * nll["standard_error"]
    assert max(v for k, v in found["ece"].items() if k != "mean") < 5 * found["ece_by_chance"]
    assert found["qce"] < 5 * found["ece_by_chance"]
    sharp = [found["sharpness"][name] for name in ("z", "yaw")]
    np.testing.assert_allclose(sharp, STD[[2, 6]], rtol=1e-6)


def test_nll_is_that_of_the_density_in_meters_at_the_true_boxes(
    scene: tuple[Path, KittiFrames],
) -> None:
    path, labels = scene
    samples = predictions(labels)
    found = run(path, samples)["Car"]["calibration"]["hard"]
    expected = []
    for index, sample in enumerate(samples):
        density = sample["pred_instances_3d"]["box_distribution"]
        reference, mean = density.coding.reference, density.density.location
        residual = -mean / STD  # the true box is the reference
        log_p = stats.norm.logpdf(residual).sum(axis=1) - np.log(STD.numpy()).sum()
        expected.append(-(log_p - np.log(reference[:, 3:6].numpy()).sum(axis=1)))
        assert torch.allclose(reference.sum(), true_boxes(labels, index).sum())
    assert found["nll"]["mean"] == pytest.approx(np.concatenate(expected).mean(), rel=1e-9)


def test_the_difficulties_have_pairs_of_their_own(scene: tuple[Path, KittiFrames]) -> None:
    path, labels = scene
    tree = run(path, predictions(labels))["Car"]
    for difficulty in ("easy", "moderate", "hard"):
        num = tree["calibration"][difficulty]["num_pairs"]
        assert num == tree["localization"][difficulty]["num_matched"]
    assert 0 < tree["calibration"]["easy"]["num_pairs"] < tree["calibration"]["hard"]["num_pairs"]


def test_the_order_of_frames_does_not_matter(scene: tuple[Path, KittiFrames]) -> None:
    path, labels = scene
    samples = predictions(labels)
    assert run(path, samples[::-1]) == run(path, samples)


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


def test_where_the_period_is_pi_a_turned_truth_is_the_same_truth(
    scene: tuple[Path, KittiFrames],
) -> None:
    path, labels = scene

    def turned(period: float) -> dict[str, Any]:
        def change(density: BoxDistribution, index: int) -> BoxDistribution:
            half = torch.full((len(density),), math.pi, dtype=torch.float64)
            coding = density.coding.turned(half) if index % 2 else density.coding
            return replace(density, coding=coding, yaw_period=period)

        return run(path, predictions(labels, change=change))["Car"]["calibration"]["hard"]

    straight = run(path, predictions(labels))["Car"]["calibration"]["hard"]
    assert turned(2 * math.pi)["nll"]["mean"] > straight["nll"]["mean"] + 100
    # x and y of the boxes are along and across, which half a turn changes in sign; yaw is not.
    assert turned(math.pi)["ece"]["yaw"] == pytest.approx(straight["ece"]["yaw"])
    assert turned(math.pi)["rms_standardized_error"]["yaw"] == pytest.approx(
        straight["rms_standardized_error"]["yaw"], rel=1e-4
    )


def test_boxes_without_a_density_are_counted(scene: tuple[Path, KittiFrames]) -> None:
    path, labels = scene

    def change(density: BoxDistribution, index: int) -> BoxDistribution:
        blank = density.density.location.clone()
        blank[index % 4] = torch.nan
        own = GaussianDensity(blank, density.density.log_variance + 0 * blank)
        return replace(density, density=own)

    found = run(path, predictions(labels, change=change))["Car"]["calibration"]["hard"]
    assert found["num_pairs"] == 3 * NUM_FRAMES
    assert found["num_without_density"] == NUM_FRAMES
    assert math.isfinite(found["nll"]["mean"])


def test_factors_fitted_to_narrow_densities_repair_them(
    scene: tuple[Path, KittiFrames], tmp_path: Path
) -> None:
    path, labels = scene
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
    scene: tuple[Path, KittiFrames],
) -> None:
    path, labels = scene
    samples = predictions(labels)
    for sample in samples:
        found = sample["pred_instances_3d"]
        found["initial_bboxes_3d"] = found["bboxes_3d"].clone()
        found["initial_box_distribution"] = found["box_distribution"].rescaled(torch.tensor(3.0))
    tree = run(path, samples)
    means = {s: tree[s]["Car"]["calibration"]["hard"]["sharpness"] for s in ("before", "after")}
    assert means["before"]["yaw"] == pytest.approx(3 * means["after"]["yaw"])
    assert "before/Car/calibration/hard/ece/mean" in tree["returned"]


def test_what_is_logged_leaves_the_curves_out(scene: tuple[Path, KittiFrames]) -> None:
    path, labels = scene
    returned = run(path, predictions(labels))["returned"]
    keys = [key for key in returned if key.startswith("Car/calibration/moderate/")]
    assert "Car/calibration/moderate/nll/mean" in keys
    assert not any("pit_histogram" in key or "reliability" in key for key in keys)


def test_predictions_without_densities_have_no_calibration(
    scene: tuple[Path, KittiFrames],
) -> None:
    path, labels = scene
    tree = run(path, predictions(labels, change=lambda density, index: None))
    assert "calibration" not in tree["Car"]


def test_frames_without_predictions_are_legal(scene: tuple[Path, KittiFrames]) -> None:
    path, labels = scene
    samples = predictions(labels)
    for sample in samples:
        found = sample["pred_instances_3d"]
        for name in list(found):
            found[name] = found[name][:0]
    found = run(path, samples)["Car"]["calibration"]["hard"]
    assert found["num_pairs"] == 0
    assert found["nll"]["mean"] is None


def test_densities_of_anchors_have_their_covariance_and_period_measured(
    scene: tuple[Path, KittiFrames],
) -> None:
    path, labels = scene

    def change(density: BoxDistribution, index: int) -> BoxDistribution:
        coding = AnchorCoding(density.coding.reference)
        own = GaussianDensity(
            coding.encode(density.boxes), density.density.log_variance.float().double()
        )
        return BoxDistribution(own, coding, math.pi)

    found = run(path, predictions(labels, change=change))["Car"]["calibration"]["hard"]
    assert found["num_pairs"] == 4 * NUM_FRAMES
    assert found["sharpness"]["yaw"] == pytest.approx(0.06, rel=1e-5)


def test_a_picture_of_each_class_with_pairs_is_written(
    scene: tuple[Path, KittiFrames], tmp_path: Path
) -> None:
    path, labels = scene
    run(path, predictions(labels), figures=str(tmp_path / "pictures"))
    assert [p.name for p in (tmp_path / "pictures").iterdir()] == ["calibration_car.png"]


@pytest.mark.parametrize("setting", ["temperature", "fit_temperature", "figures"])
def test_settings_for_densities_that_are_not_there_are_refused(
    scene: tuple[Path, KittiFrames], tmp_path: Path, setting: str
) -> None:
    from ebm3d.adapters.metrics import EBM3DKittiMetric

    path, labels = scene
    file = tmp_path / "temperature.json"
    write_temperature(file, Temperature((1.0,) * 7, 1, 0.0, 0.0))
    first = predictions(labels, change=lambda density, index: None)[0]
    metric = EBM3DKittiMetric(ann_file=str(path), calibration={setting: str(file)})
    with pytest.raises(ValueError, match=f"calibration setting {setting} must be None"):
        metric.process({}, [first])  # the first frame, not the end of the run


def test_settings_that_contradict_each_other_are_refused() -> None:
    from ebm3d.adapters.metrics import EBM3DKittiMetric

    for settings, kind, message in (
        ({"temperature": "a", "fit_temperature": "b"}, ValueError, "applied or fitted"),
        ({"temperature": "no_such_file"}, FileNotFoundError, "that --fit-temperature wrote"),
        ({"num_samples": 1}, ValueError, "num_samples must be at least 2"),
        ({"temperatures": "a"}, TypeError, "temperatures"),
    ):
        with pytest.raises(kind, match=message):
            EBM3DKittiMetric(ann_file="infos.pkl", calibration=settings)
