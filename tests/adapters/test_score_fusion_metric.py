"""Scores in the metric of the host: measured as probabilities, and fusions fitted to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit

from ebm3d.datasets.kitti_frames import KittiFrames
from ebm3d.evaluation.score_fusion import read_score_fusion
from tests.adapters.infos import write_infos
from tests.adapters.test_box_calibration import cars, true_boxes

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]
pytest.importorskip("mmdet3d")


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, KittiFrames]:
    """An info file, and its labels."""
    labels = cars()
    write_infos(tmp_path / "infos.pkl", labels)
    return tmp_path / "infos.pkl", labels


def predictions(labels: KittiFrames, **fields: Any) -> list[Any]:
    """A sample a frame: true boxes, three in ten of them beside it; f tells with what chance."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    rng = np.random.default_rng(5)
    samples = []
    for index, name in enumerate(labels.frame_ids):
        boxes = true_boxes(labels, index).float()
        f = rng.normal(1.0, 2.0, len(boxes))
        beside = torch.from_numpy(rng.uniform(size=len(boxes)) > expit(f))
        boxes[beside, 1] += 1.5
        found = InstanceData(
            bboxes_3d=LiDARInstance3DBoxes(boxes),
            scores_3d=torch.full((len(boxes),), 0.6),
            labels_3d=torch.full((len(boxes),), 2),
            f_refined=torch.from_numpy(f),
            **{key: make(boxes) for key, make in fields.items()},
        )
        sample = Det3DDataSample(metainfo={"lidar_path": f"{name}.bin"})
        sample.pred_instances_3d = found
        samples.append(sample.to_dict())
    return samples


def run(path: Path, samples: list[Any], **score_fusion: Any) -> dict[str, Any]:
    """The tree of all figures, with those the metric returns under ``returned``."""
    from ebm3d.adapters.metrics import EBM3DKittiMetric

    out = path.parent / "figures.json"
    metric = EBM3DKittiMetric(
        ann_file=str(path),
        iou_thresholds=[0.7],
        num_replicates=2,
        json_file=str(out),
        score_fusion=score_fusion,
    )
    metric.dataset_meta = {"classes": ("Pedestrian", "Cyclist", "Car")}
    for sample in samples:
        metric.process({}, [sample])
    returned = metric.evaluate(len(samples))
    return {**json.loads(out.read_text()), "returned": returned}


def test_fusion_is_fitted_to_what_is_found(scene: tuple[Path, KittiFrames]) -> None:
    path, labels = scene
    file = path.parent / "fusion.json"
    figures = run(path, predictions(labels), fit=str(file), features=["f_refined"])
    fusion = read_score_fusion(file)
    slope, weight, bias = fusion.weights
    # The boxes were placed with weight 1 and bias 0; 240 of them tell within a third.
    assert weight == pytest.approx(1.0, abs=0.5)
    assert slope * np.log(0.6 / 0.4) + bias == pytest.approx(0.0, abs=0.8)
    tree = json.loads(file.read_text())
    measured = figures["Car"]["scores"]
    assert tree["min_iou"]["Car"] == measured["min_iou"] == 0.7
    assert tree["before"]["brier"] == pytest.approx(measured["brier"])
    assert tree["after"]["brier"] < 0.8 * measured["brier"]
    assert figures["returned"]["Car/scores/brier"] == pytest.approx(measured["brier"])
    assert not any("reliability" in key for key in figures["returned"])


def test_scores_are_measured_against_the_overlap_of_the_official_tool(
    scene: tuple[Path, KittiFrames],
) -> None:
    path, labels = scene
    samples = predictions(labels)
    found = run(path, samples)["Car"]["scores"]
    true = [
        bool((p["bboxes_3d"].tensor[i, 1] - true_boxes(labels, n)[i, 1]).abs() < 1)
        for n, s in enumerate(samples)
        for p in [s["pred_instances_3d"]]
        for i in range(4)
    ]
    assert found["num_boxes"] == len(true)
    assert found["share_true"] == pytest.approx(np.mean(true))
    assert found["brier"] == pytest.approx(np.mean((0.6 - np.array(true)) ** 2), rel=1e-5)


def test_boxes_before_refinement_have_the_scores_they_came_with(
    scene: tuple[Path, KittiFrames],
) -> None:
    from mmdet3d.structures import LiDARInstance3DBoxes

    path, labels = scene
    samples = predictions(
        labels,
        initial_bboxes_3d=lambda boxes: LiDARInstance3DBoxes(boxes),
        initial_scores_3d=lambda boxes: torch.full((len(boxes),), 0.2),
    )
    tree = run(path, samples)
    assert list(tree["before"]["Car"]["scores"]["reliability"]) == ["0.2"]
    assert list(tree["after"]["Car"]["scores"]["reliability"]) == ["0.6"]


def test_fused_scores_are_not_fused_again(scene: tuple[Path, KittiFrames]) -> None:
    path, labels = scene
    samples = predictions(labels, initial_scores_3d=lambda boxes: boxes[:, 0] * 0 + 0.2)
    with pytest.raises(ValueError, match="--fusion"):
        run(path, samples[:1], fit=str(path.parent / "f.json"))


def test_feature_that_is_not_predicted_is_refused_with_the_first_frame(
    scene: tuple[Path, KittiFrames],
) -> None:
    path, labels = scene
    with pytest.raises(ValueError, match="'log_density'"):
        run(
            path, predictions(labels)[:1], fit=str(path.parent / "f.json"), features=["log_density"]
        )


def test_fit_of_nothing_is_refused(scene: tuple[Path, KittiFrames]) -> None:
    with pytest.raises(ValueError, match=r"score_fusion\.features"):
        run(scene[0], [], fit="f.json", features=[])


def _config(**head: Any) -> Any:
    from mmengine import Config

    model = {"bbox_head": {"type": "RefinedDenseHead", "refinement_head": {}, **head}}
    return Config({"model": model, "test_evaluator": {"type": "EBM3DKittiMetric"}})


def test_command_line_hands_the_file_to_the_head_or_to_the_metric() -> None:
    from ebm3d.adapters.engine.testing import switch_fusion

    cfg = _config(score_fusion="of the config.json")
    switch_fusion(cfg, "file.json", None)
    assert cfg.model.bbox_head.score_fusion == "file.json"
    switch_fusion(cfg, None, {"fit": "new.json", "features": ["f_refined"]})
    assert cfg.model.bbox_head.score_fusion is None
    assert cfg.test_evaluator.score_fusion.fit == "new.json"


def test_command_line_refuses_to_fit_what_it_applies_and_to_fuse_what_is_not_refined() -> None:
    from ebm3d.adapters.engine.testing import switch_fusion

    with pytest.raises(ValueError, match="applied or fitted"):
        switch_fusion(_config(), "file.json", {"fit": "new.json"})
    with pytest.raises(ValueError, match="a config that refines none"):
        switch_fusion(_config(refine=False), "file.json", None)


def test_figures_are_kept_where_too_few_boxes_can_be_fitted(
    scene: tuple[Path, KittiFrames],
) -> None:
    path, labels = scene
    unknown = {"f_alone": lambda boxes: torch.full((len(boxes),), torch.nan)}
    samples = predictions(labels, **unknown)
    with pytest.raises(ValueError, match="two or more true positives"):
        run(path, samples, fit=str(path.parent / "fusion.json"), features=["f_alone"])
    figures = json.loads((path.parent / "figures.json").read_text())
    assert "scores" in figures["Car"]
    assert not (path.parent / "fusion.json").exists()


def test_files_that_cannot_be_written_are_refused_before_the_first_frame(
    scene: tuple[Path, KittiFrames],
) -> None:
    from ebm3d.adapters.metrics import EBM3DKittiMetric

    path = scene[0]
    for options in (
        {"json_file": str(path.parent)},
        {"score_fusion": {"fit": str(path / "fusion.json")}},
        {"calibration": {"fit_temperature": str(path / "temperature.json")}},
    ):
        with pytest.raises(ValueError, match="must be a file that can be written"):
            EBM3DKittiMetric(str(path), **options)
