"""The fit of a score fusion, from planted predictions to the checkpoint."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import nn

pytest.importorskip("mmdet3d")

from tests.adapters.infos import write_infos
from tests.adapters.test_box_calibration import cars, true_boxes

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

_CONFIG = "ebm_second_kitti_cpu.py"


def _sample(labels: Any, index: int, rng: np.random.Generator, **fields: Any) -> Any:
    """True boxes, some of them moved aside: with f the chance that a box fits is expit(f)."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    boxes = true_boxes(labels, index).float()
    f = rng.normal(1.0, 2.0, len(boxes))
    boxes[torch.from_numpy(rng.uniform(size=len(boxes)) > expit(f)), 1] += 1.5
    sample = Det3DDataSample(metainfo={"lidar_path": f"{labels.frame_ids[index]}.bin"})
    sample.pred_instances_3d = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes),
        scores_3d=torch.full((len(boxes),), 0.6),
        labels_3d=torch.zeros(len(boxes), dtype=torch.int64),
        f_refined=torch.from_numpy(f),
        **{name: value.expand(len(boxes)) for name, value in fields.items()},
    )
    return sample


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Fits a fusion to planted predictions."""
    from ebm3d.adapters.dense_heads.score_fusion import ScoreFusion
    from ebm3d.adapters.engine import fusion_fitting

    labels = cars()
    write_infos(tmp_path / "infos.pkl", labels)

    def run(features: tuple[str, ...] = ("f_refined",), **fields: Any) -> Any:
        rng = np.random.default_rng(5)
        samples = [_sample(labels, i, rng, **fields) for i in range(len(labels.frame_ids))]
        model = nn.Module()
        model.bbox_head = nn.Module()
        model.bbox_head.score_fusion = ScoreFusion()
        model.test_step = lambda batch: [batch]
        torch.save({"state_dict": model.state_dict(), "meta": {"epoch": 5}}, tmp_path / "in.pth")

        class Loader(list):
            dataset = SimpleNamespace(metainfo={"classes": ("Car",)})

        runner = SimpleNamespace(model=model, test_dataloader=Loader(samples))
        monkeypatch.setattr(fusion_fitting.Runner, "from_cfg", lambda cfg: runner)
        options = {"test_evaluator.ann_file": str(tmp_path / "infos.pkl")}
        calibrations = fusion_fitting.fit_fusion(
            _CONFIG,
            tmp_path / "in.pth",
            tmp_path / "new" / "out.pth",
            features=features,
            cfg_options=options,
        )
        return calibrations, torch.load(tmp_path / "new" / "out.pth")

    return run


def test_the_planted_weights_are_found_and_written_into_the_checkpoint(fit: Any):
    (before, after), checkpoint = fit()
    slope, weight, bias = checkpoint["state_dict"]["bbox_head.score_fusion.weights"].tolist()
    # Planted with weight 1 and bias 0; 240 boxes tell within a third.
    assert weight == pytest.approx(1.0, abs=0.5)
    assert slope * np.log(0.6 / 0.4) + bias == pytest.approx(0.0, abs=0.8)
    names = checkpoint["state_dict"]["bbox_head.score_fusion.names"]
    assert bytes(names.tolist()) == b"f_refined"
    assert checkpoint["meta"] == {"epoch": 5}
    assert before.num_boxes == after.num_boxes == 240
    assert after.brier < 0.8 * before.brier


@pytest.mark.parametrize(
    ("features", "fields", "message"),
    [
        (("unknown",), {"unknown": torch.tensor(float("nan"))}, "two or more true positives"),
        (("log_density",), {}, "'log_density'"),
        (("f_refined",), {"initial_scores_3d": torch.tensor(0.2)}, "score_decay=0"),
    ],
)
def test_predictions_that_cannot_be_fused_are_refused(
    fit: Any, features: tuple[str, ...], fields: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        fit(features, **fields)


def test_a_model_of_another_data_set_is_refused(tmp_path: Path):
    from ebm3d.adapters.engine import fit_fusion

    (tmp_path / "in.pth").touch()
    config = "ebm_centerpoint_simulated_drives_cpu.py"
    with pytest.raises(ValueError, match="test_evaluator must be one EBM3DKittiMetric"):
        fit_fusion(config, tmp_path / "in.pth", tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize(
    ("config", "options"),
    [("second_kitti_cpu.py", {}), (_CONFIG, {"model.bbox_head.refine": False})],
)
def test_a_model_that_refines_nothing_is_refused(
    config: str, options: dict[str, Any], tmp_path: Path
):
    from ebm3d.adapters.engine import fit_fusion

    (tmp_path / "in.pth").touch()
    with pytest.raises(ValueError, match="a RefinedDenseHead that refines"):
        fit_fusion(config, tmp_path / "in.pth", tmp_path / "out.pth", cfg_options=options)
